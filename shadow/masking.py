"""Masks: views of a shadow whose sensitive columns show keyed hashes instead of values; used by the hub for queries.

Every expression over such a view works on masks, so nothing that a query computes can tell more than which values
are equal. The same hash in Python, for values that are shown without a query.
"""

import hashlib
from collections.abc import Callable, Iterable

from psycopg import sql

from shadow.shadow import Shadow
from shadow.sql import block

#: What every mask begins with, and the hexadecimal digits after it.
PREFIX = "masked#"
DIGITS = 16

Hides = Callable[[str, str], bool]


def mask(value: str, key: bytes) -> str:
    """The mask of a cell's text under a dry run's key (32 bytes): what `shadowdesk.mask` gives on its shadow."""
    inner = hashlib.sha256(key + value.encode("utf-8", "surrogatepass")).digest()
    return PREFIX + hashlib.sha256(key + inner).hexdigest()[:DIGITS]


def masked_schemas(shadow: Shadow, tables: Iterable[str], hides: Hides, key: bytes) -> dict[str, str]:
    """Where a query finds each table: a view with masks for those that have a masked column, else the surface.

    Made on first need, per set of masked columns of a table; the tables are loaded already (`Shadow.ensure`), since
    the view reads as its owner. Runs as the shadow's owner, outside of a transaction.
    """
    found = {}
    for name in tables:
        columns = shadow.fence.tables[name].table.columns
        hidden = tuple(column.name for column in columns if hides(name, column.name))
        found[name] = _schema(shadow, name, hidden, key) if hidden else shadow.surface
    return found


def _schema(shadow: Shadow, table: str, hidden: tuple[str, ...], key: bytes) -> str:
    """The schema of the view that masks exactly these columns."""
    mark = hashlib.sha256("\0".join((table, *hidden)).encode()).hexdigest()[:12]
    schema = f"masked_{mark}"
    if shadow.owner.execute("SELECT to_regnamespace(%s) IS NOT NULL", (schema,)).fetchone() == (True,):
        return schema
    shown = [
        sql.SQL("shadowdesk.mask({0}::text) AS {0}" if column.name in hidden else "{0}").format(
            sql.Identifier(column.name)
        )
        for column in shadow.fence.tables[table].table.columns
    ]
    role, inside = sql.Identifier(shadow.surface), sql.Identifier(schema)
    view, base = sql.Identifier(schema, table), sql.Identifier(shadow.surface, table)
    with shadow.owner.transaction():
        shadow.owner.execute(block("mask_key"))
        shadow.owner.execute("INSERT INTO shadowdesk.mask_key(key) VALUES (%s) ON CONFLICT DO NOTHING", (key,))
        shadow.owner.execute(block("mask_function"))
        shadow.owner.execute("REVOKE ALL ON FUNCTION shadowdesk.mask(text) FROM PUBLIC")
        shadow.owner.execute(sql.SQL("CREATE SCHEMA {}").format(inside))
        columns = sql.SQL(", ").join(shown)
        shadow.owner.execute(
            sql.SQL("CREATE VIEW {} WITH (security_barrier) AS SELECT {} FROM {}").format(view, columns, base)
        )
        shadow.owner.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(inside, role))
        shadow.owner.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(view, role))
        # a view calls its functions as whoever reads it (Postgres docs, CREATE VIEW)
        shadow.owner.execute(sql.SQL("GRANT EXECUTE ON FUNCTION shadowdesk.mask(text) TO {}").format(role))
    return schema
