"""A shadow's bookkeeping made by hand, for the differ's tests: pristine copies, touched keys, step images."""

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from differ.model import Column, TableImages
from shadow.session import pin_session

Connection = psycopg.Connection[Any]

NO_CLOCK: dict[str, Any] = {"clocks": {}, "set_columns": frozenset()}


def connect(url: str) -> Connection:
    connection: Connection = psycopg.connect(url, autocommit=True)
    pin_session(connection, ["public"])
    connection.execute("CREATE SCHEMA IF NOT EXISTS shadowdesk")
    return connection


def keep(
    conn: Connection,
    table: str,
    key: Sequence[str],
    *,
    sink: bool = False,
    generated: Iterable[str] = (),
    pristine: bool = True,
) -> TableImages:
    """Makes the bookkeeping tables of one table and copies its rows as they are now."""
    columns = [
        Column(name=name, type=type_name, nested=nested)
        for name, type_name, nested in conn.execute(
            """SELECT a.attname, format_type(a.atttypid, a.atttypmod),
                      t.typcategory IN ('A', 'C') OR t.typname IN ('json', 'jsonb', 'hstore')
               FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
               WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum""",
            [table],
        )
    ]
    images = TableImages(
        table=table,
        base=("public", table),
        pristine=None if sink or not pristine else ("shadowdesk", f"pristine_{table}"),
        image=("shadowdesk", f"image_{table}"),
        touched=("shadowdesk", f"touched_{table}"),
        columns=tuple(columns),
        key=tuple(key),
        sink=sink,
        generated=frozenset(generated),
    )
    types = {column.name: column.type for column in columns}
    keys = [f"k{number} {types[name]}" for number, name in enumerate(key, 1)] or ["k1 text"]
    cells = [f"c{number} {column.type}" for number, column in enumerate(columns, 1)]
    noted = ["step smallint", "rehearsal boolean", 'op "char"', "origin text", *keys]
    conn.execute(f"CREATE TABLE shadowdesk.touched_{table} ({', '.join(noted)})")
    imaged = ["step smallint", "present boolean", *keys, *cells]
    conn.execute(f"CREATE TABLE shadowdesk.image_{table} ({', '.join(imaged)})")
    if images.pristine:
        conn.execute(f"CREATE TABLE shadowdesk.pristine_{table} AS SELECT * FROM {table}")
        conn.execute(f"CREATE INDEX ON shadowdesk.pristine_{table} ({', '.join(key)})")
    return images


def note(
    conn: Connection,
    images: TableImages,
    op: str,
    *keys: object,
    step: int = 1,
    origin: str = "statement",
    rehearsal: bool = False,
) -> None:
    """Notes keys as touched; a composite key is a tuple, a row without a key its own text."""
    for key in keys:
        values = key if isinstance(key, tuple) else (key,)
        row = [step, rehearsal, op, origin, *(str(value) for value in values)]
        marks = sql.SQL(", ").join(sql.Literal(value) for value in row)
        conn.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(*images.touched), marks))


def take_images(conn: Connection, images: TableImages, step: int) -> None:
    """Keeps the after images of the rows touched in an interactive step, as the shadow does at the step's end."""
    names = {"image": sql.Identifier(*images.image), "base": sql.Identifier(*images.base), "step": step}
    if not images.key:
        return
    numbered = list(enumerate(images.key, 1))
    keys = sql.SQL(", ").join(sql.Identifier(f"k{number}") for number, _ in numbered)
    same = sql.SQL(" AND ").join(
        sql.SQL("r.{} = t.{}").format(sql.Identifier(name), sql.Identifier(f"k{number}")) for number, name in numbered
    )
    conn.execute(
        sql.SQL(
            """INSERT INTO {image} SELECT {step}, r.tableoid IS NOT NULL, t.*, r.*
               FROM (SELECT DISTINCT {keys} FROM {touched} WHERE step = {step} AND NOT rehearsal) t
               LEFT JOIN {base} r ON {same}"""
        ).format(keys=keys, same=same, touched=sql.Identifier(*images.touched), **names)
    )
