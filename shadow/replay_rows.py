"""Production's rows against the frozen ones: before images under lock, after images with proof of who wrote them.

Called by `replay.py` inside the replay's transaction; no value leaves this module, only which table and column.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import psycopg
from psycopg import sql

from shadow.fence import Fence, FencedTable
from shadow.predicate import base

_BATCH = 5000
#: True for rows this transaction (or one of its savepoints) wrote: our snapshot shows no other row so young.
_OURS = "mod(t.xmin::text::bigint - {own} + 4294967296, 4294967296) < 2147483648"


@dataclass(frozen=True, kw_only=True)
class TouchedRow:
    """One row the rehearsal touched, cells as Postgres text in column order; None for a row that is not there.

    `kinds` says per column how the after cell is compared: value, clock (equals the transaction's time) or
    generated (drawn inside a trigger: not compared, the row is matched as one of a multiset).
    """

    table: str
    key: tuple[str, ...]
    before: tuple[str | None, ...] | None
    after: tuple[str | None, ...] | None
    kinds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """Where production differs: table, key as the rep knows it, column or None for the whole row, and how."""

    table: str
    key: tuple[str, ...]
    column: str | None
    how: str

    def __str__(self) -> str:
        where = f"{self.table} ({', '.join(self.key)})" if self.key else self.table
        return f"{where}{'.' + self.column if self.column else ''}: {self.how}"


def generated_key(fence: Fence, row: TouchedRow) -> bool:
    """True when the row's key was drawn inside a trigger, so production's will differ."""
    table = fence.tables[row.table].table
    kinds = dict(zip((c.name for c in table.columns), row.kinds, strict=True))
    return row.before is None and any(kinds[column] == "generated" for column in table.key)


def batches(rows: Sequence[TouchedRow]) -> Iterator[list[TouchedRow]]:
    """Runs of one table's rows in the frozen order, which is also the order of locking."""
    for _, group in groupby(rows, key=lambda row: row.table):
        while batch := list(islice(group, _BATCH)):
            yield batch


def _read(
    conn: psycopg.Connection[Any], table: FencedTable, rows: Sequence[TouchedRow], extra: str, lock: bool
) -> dict[int, tuple[Any, ...]]:
    types = {c.name: c.type for c in table.table.columns}
    keys = table.table.key
    unnested = sql.SQL(", ").join(sql.SQL("%s::text[]") for _ in keys)
    names = sql.SQL(", ").join(sql.Identifier(f"k{n}") for n in range(len(keys)))
    joined = sql.SQL(" AND ").join(
        sql.SQL("t.{} = k.{}::{}").format(sql.Identifier(c), sql.Identifier(f"k{n}"), sql.SQL(types[c]))
        for n, c in enumerate(keys)
    )
    cells = sql.SQL(", ").join(cell_text("t", c.name, c.type) for c in table.table.columns)
    query = sql.SQL(
        "SELECT k.ord, {extra}, {cells} FROM unnest({unnested}) WITH ORDINALITY AS k({names}, ord)"
        " JOIN {base} AS t ON {joined} ORDER BY k.ord {lock}"
    ).format(
        extra=sql.SQL(extra), cells=cells, unnested=unnested, names=names, base=base(table), joined=joined,
        lock=sql.SQL("FOR UPDATE OF t") if lock else sql.SQL(""),
    )  # fmt: skip
    arrays = [[row.key[n] for row in rows] for n in range(len(keys))]
    return {int(found[0]) - 1: found[1:] for found in conn.execute(query, arrays).fetchall()}


def cell_text(alias: str, column: str, type_name: str) -> sql.Composable:
    """A cell as Postgres writes it. `character(n)` keeps its blanks: its cast to text would strip them."""
    cell = sql.Identifier(alias, column)
    if type_name.startswith(("character(", "bpchar", "character[")) and not type_name.endswith("[]"):
        return sql.SQL("CASE WHEN {0} IS NULL THEN NULL ELSE concat({0}) END").format(cell)
    return sql.SQL("{}::text").format(cell)


def drift(conn: psycopg.Connection[Any], fence: Fence, rows: Sequence[TouchedRow]) -> list[Mismatch]:
    """Locks every touched row by key in the frozen order and compares it with its before image."""
    found: list[Mismatch] = []
    for batch in batches(rows):
        table = fence.tables[batch[0].table]
        existing = _read(conn, table, batch, "NULL", lock=True)
        for n, row in enumerate(batch):
            cells = existing[n][1:] if n in existing else None
            found.extend(_compare_before(table, row, cells))
    return found


def _compare_before(table: FencedTable, row: TouchedRow, cells: tuple[Any, ...] | None) -> list[Mismatch]:
    if (cells is None) != (row.before is None):
        how = "the row is gone" if cells is None else "a row with this key exists already"
        return [Mismatch(table=row.table, key=row.key, column=None, how=how)]
    if cells is None or row.before is None:
        return []
    names = [c.name for c in table.table.columns]
    return [
        Mismatch(table=row.table, key=row.key, column=name, how="changed since the dry run")
        for name, now, then in zip(names, cells, row.before, strict=True)
        if now != then
    ]


def divergence(
    conn: psycopg.Connection[Any],
    fence: Fence,
    rows: Sequence[TouchedRow],
    generated: Sequence[TouchedRow],
    counters: Mapping[str, tuple[int, int, int]],
    clocks: Mapping[str, str],
    own_xid: int,
) -> list[Mismatch]:
    """Compares every touched row with its after image, who wrote it, and looks for rows nobody confirmed."""
    found: list[Mismatch] = []
    ours = _OURS.format(own=own_xid % 4294967296)
    survivors: Counter[str] = Counter()
    for batch in batches(rows):
        table = fence.tables[batch[0].table]
        existing = _read(conn, table, batch, ours, lock=False)
        for n, row in enumerate(batch):
            present = existing.get(n)
            found.extend(_compare_after(table, row, present, clocks))
            survivors[row.table] += present is not None and bool(present[0])
    touched = Counter(row.table for row in rows)
    by_table: dict[str, list[TouchedRow]] = {}
    for row in generated:
        by_table.setdefault(row.table, []).append(row)
    for name, table in fence.tables.items():
        counted = sum(counters.get(f"{table.table.schema}.{table.table.relation}", (0, 0, 0)))
        if not table.owned or (counted <= touched[name] and name not in by_table):
            continue
        found.extend(_unconfirmed(conn, table, survivors[name], by_table.get(name, []), clocks, ours, rows))
    return found


def _compare_after(
    table: FencedTable, row: TouchedRow, present: tuple[Any, ...] | None, clocks: Mapping[str, str]
) -> list[Mismatch]:
    if (present is None) != (row.after is None):
        how = "the row would be missing" if present is None else "the row would still be there"
        return [Mismatch(table=row.table, key=row.key, column=None, how=how)]
    if present is None or row.after is None:
        return []
    found = []
    if not present[0]:
        found.append(Mismatch(table=row.table, key=row.key, column=None, how="production would not have written it"))
    for column, now, then, kind in zip(table.table.columns, present[1:], row.after, row.kinds, strict=True):
        expected = clocks.get(column.type) if kind == "clock" else then
        if kind != "generated" and now != expected:
            how = "would not be the transaction's time" if kind == "clock" else "would have another value"
            found.append(Mismatch(table=row.table, key=row.key, column=column.name, how=how))
    return found


def _unconfirmed(
    conn: psycopg.Connection[Any],
    table: FencedTable,
    survivors: int,
    generated: Sequence[TouchedRow],
    clocks: Mapping[str, str],
    ours: str,
    rows: Sequence[TouchedRow],
) -> list[Mismatch]:
    """Rows of this transaction that are not among the touched keys: only trigger-made ones may be, as a multiset."""
    cells = sql.SQL(", ").join(cell_text("t", c.name, c.type) for c in table.table.columns)
    query = sql.SQL("SELECT {} FROM {} AS t WHERE {}").format(cells, base(table), sql.SQL(ours))
    written = conn.execute(query).fetchall()
    name = table.table.name
    if not generated:
        if len(written) == survivors:
            return []
        return [Mismatch(table=name, key=(), column=None, how="rows that were not confirmed would change")]
    names = [c.name for c in table.table.columns]
    known = {row.key for row in rows if row.table == name}
    positions = [names.index(column) for column in table.table.key]
    extra = [found for found in written if tuple(found[p] for p in positions) not in known]
    expected = Counter(_masked(table, row.after or (), row.kinds, clocks, frozen=True) for row in generated)
    actual = Counter(_masked(table, found, generated[0].kinds, clocks, frozen=False) for found in extra)
    if expected == actual:
        return []
    return [Mismatch(table=name, key=(), column=None, how="rows made by triggers would differ")]


def _masked(
    table: FencedTable, cells: Sequence[Any], kinds: Sequence[str], clocks: Mapping[str, str], *, frozen: bool
) -> tuple[Any, ...]:
    shown: list[Any] = []
    for column, cell, kind in zip(table.table.columns, cells, kinds, strict=True):
        if kind == "generated":
            shown.append("(generated)")
        elif kind == "clock":
            shown.append("(clock)" if frozen or cell == clocks.get(column.type) else cell)
        else:
            shown.append(cell)
    return tuple(shown)
