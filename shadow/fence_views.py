"""The ephemeral fence schema: one view per named table, made and dropped inside the replay's own transaction.

Called by `replay.py` only. Nothing persists on production, so no view ever blocks the app's migrations (design 3).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from shadow.fence import Fence
from shadow.predicate import view_statements
from shadow.rows_by_key import array_text
from shadow.shadow import slot_name


def make_fence_schema(
    conn: psycopg.Connection[Any],
    schema: str,
    fence: Fence,
    tenant_key: str,
    tables: Sequence[str],
    draws: Mapping[str, tuple[str, ...]],
) -> None:
    """Views over `tables` in `schema`; omitted columns pop the recorded values in the recorded order.

    A list popped beyond its end gives NULL, which the column or the comparison then refuses.
    """
    statements: list[sql.Composable] = [sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema))]
    for number, name in enumerate(sorted(tables)):
        table = fence.tables[name]
        defaults = {}
        for column in table.table.columns:
            values = draws.get(slot_name(name, column.name))
            if values and table.owned:
                counter = sql.Identifier(schema, f"popped_{number}_{column.name}"[:60])
                statements.append(sql.SQL("CREATE SEQUENCE {}").format(counter))
                element = "text" if column.type.endswith("]") else column.type  # there are no arrays of arrays
                defaults[column.name] = sql.SQL("(({}::{}[])[nextval({}::regclass)])::{}").format(
                    sql.Literal(array_text(values)), sql.SQL(element), sql.Literal(counter.as_string(conn)),
                    sql.SQL(column.type),
                )  # fmt: skip
        statements += view_statements(fence, tenant_key, table, schema, defaults, shared_as_loaded=False)
    conn.execute(sql.SQL(";\n").join(statements))  # one call to the server


def drop_fence_schema(schema: str) -> sql.Composed:
    """The statement that takes the schema away again before COMMIT."""
    return sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema))
