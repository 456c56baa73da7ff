"""Production's rows found by key, as the texts that frozen images hold; no value leaves the session that asks.

Called by `replay_rows.py`, which compares, and by whoever else looks rows up by key (`freshness.py`, the revert).
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from shadow.catalog import Table
from shadow.fence import FencedTable
from shadow.predicate import base

#: The texts of a row's cells in column order; None for a row that is not there.
Image: TypeAlias = tuple[str | None, ...] | None

#: ASCII's own separators (31, 30) and, for NULL, its group separator (29).
_CELL, _ROW, _NULL = "\x1f", "\x1e", "\x1d"
#: Bytes of a row that may be part of the one text: with 20,000 of them (a batch) it stays below Postgres' 1 GB.
_LARGE = 40_000
#: Cells given to one function; a table has up to 1,600.
_ARGUMENTS = 90
#: Rows from which the expected answer is made while production makes its own.
_MANY = 500


def rows_equal(
    conn: psycopg.Connection[Any],
    table: FencedTable,
    keys: Sequence[tuple[str, ...]],
    images: Sequence[Image],
    condition: sql.Composable,
    lock: bool,
) -> bool:
    """True when just the rows that have an image are there, each as in its image and with `condition` true.

    Production answers with the SHA-256 of one text of all cells, which costs a third of fetching them. False says no
    more than that they must be looked at one by one: cells that hold a separator, and very large rows, are never
    compared this way. With `lock` the rows that are there are locked in any case.
    """
    query = sql.SQL(
        "SELECT count(*), count(*) FILTER (WHERE held), coalesce(sum(nulls), 0), sha256(convert_to("
        "coalesce(string_agg(CASE WHEN octet_length(line) <= {large} THEN line END, {row}), ''), 'UTF8'))"
        " FROM (SELECT ({condition}) AS held, {nulls} AS nulls, {line} AS line FROM {joined} ORDER BY k.ord {lock}) r"
    ).format(
        large=_LARGE, row=_ROW, condition=condition, nulls=_nulls(table.table), line=_line(table.table),
        joined=joined_by_key(table.table, base(table), keys), lock=_lock(lock),
    )  # fmt: skip
    width = len(table.table.columns)
    if len(images) < _MANY:
        return conn.execute(query).fetchone() == _expected(images, width)
    text = query.as_bytes(conn)
    with ThreadPoolExecutor(1, "images") as worker:
        asked = worker.submit(conn.execute, text)
        expected = _expected(images, width)  # meanwhile
        return asked.result().fetchone() == expected


def _expected(images: Sequence[Image], width: int) -> tuple[int, int, int, bytes] | None:
    """The answer that means equal: rows, rows that hold, NULLs, the hash of all cells. None when cells hold separators,
    whose text could be another one's.
    """
    rows, nulls = [], 0
    for image in images:
        if image is None:
            continue
        if None in image:
            nulls += image.count(None)
            rows.append(_CELL.join(_NULL if cell is None else cell for cell in image))
        else:
            rows.append(_CELL.join(image))  # type: ignore[arg-type] # none of them is None
    text = _ROW.join(rows)
    count = len(rows)
    plain = (text.count(_ROW), text.count(_CELL), text.count(_NULL)) == (max(0, count - 1), count * (width - 1), nulls)
    return (count, count, nulls, hashlib.sha256(text.encode()).digest()) if plain else None


def _line(table: Table) -> sql.Composed:
    """A row's cells as one text."""
    cells = [
        sql.SQL("coalesce({}, {})").format(cell_text("t", column.name, column.type), _NULL) for column in table.columns
    ]
    parts = [sql.SQL("concat_ws({}, {})").format(_CELL, sql.SQL(", ").join(some)) for some in _groups(cells)]
    return sql.SQL("concat_ws({}, {})").format(_CELL, sql.SQL(", ").join(parts)) if len(parts) > 1 else parts[0]


def _nulls(table: Table) -> sql.Composed:
    """How many of a row's cells are NULL."""
    cells = [sql.Identifier("t", column.name) for column in table.columns]
    return sql.SQL(" + ").join(
        sql.SQL("num_nulls({})").format(sql.SQL(", ").join(some)) for some in _groups(cells)
    )  # fmt: skip


def _groups(cells: Sequence[sql.Composable]) -> Iterator[Sequence[sql.Composable]]:
    """As many as a function takes: 100 arguments."""
    for start in range(0, len(cells), _ARGUMENTS):
        yield cells[start : start + _ARGUMENTS]


def read_rows(
    conn: psycopg.Connection[Any],
    table: FencedTable,
    keys: Sequence[tuple[str, ...]],
    condition: sql.Composable,
    lock: bool,
) -> list[tuple[Any, ...]]:
    """(place in `keys` from 1, `condition`'s value, cell texts…) of the rows that are there, in the order of `keys`."""
    query = sql.SQL("SELECT k.ord, {condition}, {cells} FROM {joined} ORDER BY k.ord {lock}").format(
        condition=condition, cells=_cells(table.table), joined=joined_by_key(table.table, base(table), keys),
        lock=_lock(lock),
    )  # fmt: skip
    return conn.execute(query).fetchall()


def _cells(table: Table) -> sql.Composed:
    return sql.SQL(", ").join(cell_text("t", column.name, column.type) for column in table.columns)


def _lock(lock: bool) -> sql.SQL:
    return sql.SQL("FOR UPDATE OF t") if lock else sql.SQL("")


def joined_by_key(table: Table, relation: sql.Composable, keys: Sequence[tuple[str, ...]]) -> sql.Composed:
    """A FROM item: the rows `t` of a relation that have these keys, with their place `k.ord`, from 1."""
    types = {c.name: c.type for c in table.columns}
    # literals and no parameters: a percent sign in a name is nothing but itself
    unnested = sql.SQL(", ").join(
        sql.SQL("{}::text[]").format(array_text([key[n] for key in keys])) for n in range(len(table.key))
    )
    names = sql.SQL(", ").join(sql.Identifier(f"k{n}") for n in range(len(table.key)))
    joined = sql.SQL(" AND ").join(
        sql.SQL("t.{} = k.{}::{}").format(sql.Identifier(c), sql.Identifier(f"k{n}"), sql.SQL(types[c]))
        for n, c in enumerate(table.key)
    )
    return sql.SQL("unnest({}) WITH ORDINALITY AS k({}, ord) JOIN {} AS t ON {}").format(
        unnested, names, relation, joined
    )


#: What Postgres' spelling of an array escapes within an element.
_MARKS = ("\\", '"')


def array_text(values: Sequence[str]) -> str:
    """Postgres' own spelling of a one-dimensional text array without NULLs (docs 8.15.2)."""
    if any(mark in "".join(values) for mark in _MARKS):
        values = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    return '{"' + '","'.join(values) + '"}' if values else "{}"


def cell_text(alias: str, column: str, type_name: str) -> sql.Composable:
    """A cell as Postgres writes it. `character(n)` keeps its blanks: its cast to text would strip them."""
    cell = sql.Identifier(alias, column)
    if type_name.startswith(("character(", "bpchar", "character[")) and not type_name.endswith("[]"):
        return sql.SQL("CASE WHEN {0} IS NULL THEN NULL ELSE concat({0}) END").format(cell)
    return sql.SQL("{}::text").format(cell)
