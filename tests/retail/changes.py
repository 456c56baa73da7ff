"""What really changed in a database: dumps every cell's text over a plain connection and compares two dumps.

Independent of the product on purpose: it knows no fence, shadow or diff. Called by the runner and tests.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

Row = tuple[str | None, ...]
Key = tuple[tuple[str, str | None], ...]
Cells = tuple[tuple[str, str | None, str | None], ...]

#: Schemas of the server and of ShadowDesk's own receipts: not part of the app.
_NOT_THE_APP = ["pg_catalog", "information_schema", "pg_toast", "shadowdesk"]

_TABLES = """
SELECT n.nspname, c.relname,
       array_agg(a.attname ORDER BY a.attnum),
       array_agg(a.attname ORDER BY array_position(k.conkey, a.attnum))
           FILTER (WHERE a.attnum = ANY (k.conkey))
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
 WHERE c.relkind = 'r' AND n.nspname <> ALL (%s)
 GROUP BY 1, 2
 ORDER BY 1, 2
"""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One changed row. Cells are (column, before, after) by column name; of an update only the changed."""

    table: str
    kind: str
    key: Key
    cells: Cells


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table's rows as text by primary key."""

    schema: str
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    rows: dict[Row, Row]

    def change(self, key: Row, before: Row | None, after: Row | None) -> Change:
        """The change of one row; None is a row that is not there."""
        nothing: Row = (None,) * len(self.columns)
        cells = zip(self.columns, before or nothing, after or nothing, strict=True)
        kind = "insert" if before is None else "delete" if after is None else "update"
        return Change(
            table=self.name,
            kind=kind,
            key=tuple(sorted(zip(self.key, key, strict=True))),
            cells=tuple(sorted(cell for cell in cells if kind != "update" or cell[1] != cell[2])),
        )


#: Every table of the app by (schema, name).
Dump = dict[tuple[str, str], Table]


def dump(connection: psycopg.Connection) -> Dump:
    """Every row of the app's tables, in one snapshot. Raises ValueError on a table without primary key."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        found = cursor.execute(_TABLES, [_NOT_THE_APP]).fetchall()
        return {
            (schema, name): _table(cursor, schema, name, tuple(columns), tuple(key or ()))
            for schema, name, columns, key in found
        }


def changes(before: Dump, after: Dump) -> Iterator[Change]:
    """Every row that differs between two dumps of one database."""
    if before.keys() != after.keys():
        raise ValueError("tables came or went between the two dumps")
    for place, left in before.items():
        right = after[place]
        for key in left.rows.keys() | right.rows.keys():
            old, new = left.rows.get(key), right.rows.get(key)
            if old != new:
                yield left.change(key, old, new)


def put_back(connection: psycopg.Connection, before: Dump, after: Dump, order: list[str]) -> None:
    """Writes `before` over `after` where they differ; `order` names tables parents first. One transaction."""
    tables = sorted(before.values(), key=lambda table: order.index(table.name))
    with connection.transaction(), connection.cursor() as cursor:
        for table in tables:
            insert = _statement("INSERT INTO {table} ({columns}) VALUES ({values})", table)
            update = _statement("UPDATE {table} SET ({columns}) = ROW ({values}) WHERE {key}", table)
            now = after[table.schema, table.name].rows
            for key, row in table.rows.items():
                if key not in now:
                    cursor.execute(insert, row)
                elif now[key] != row:
                    cursor.execute(update, (*row, *key))
        for table in reversed(tables):
            for key in after[table.schema, table.name].rows.keys() - table.rows.keys():
                cursor.execute(_statement("DELETE FROM {table} WHERE {key}", table), key)


def _table(cursor: psycopg.Cursor, schema: str, name: str, columns: tuple[str, ...], key: tuple[str, ...]) -> Table:
    if not key:
        raise ValueError(f"table {schema}.{name} has no primary key, so its rows cannot be told apart")
    cells = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns)
    copy = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(cells, sql.Identifier(schema, name))
    at = [columns.index(column) for column in key]
    with cursor.copy(copy) as rows:
        return Table(
            schema=schema,
            name=name,
            columns=columns,
            key=key,
            rows={tuple(row[place] for place in at): row for row in rows.rows()},
        )


def _statement(template: LiteralString, table: Table) -> sql.Composed:
    return sql.SQL(template).format(
        table=sql.Identifier(table.schema, table.name),
        columns=sql.SQL(", ").join(map(sql.Identifier, table.columns)),
        values=sql.SQL(", ").join([sql.Placeholder()] * len(table.columns)),
        key=sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(column)) for column in table.key),
    )
