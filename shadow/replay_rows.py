"""Production's rows against the frozen ones: before images under lock, after images with proof of who wrote them.

Called by `replay.py` inside the replay's transaction; no value leaves this module, only which table and column.
"""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from itertools import compress, groupby, islice
from operator import attrgetter
from typing import Any

import psycopg
from psycopg import sql

from shadow.fence import Fence, FencedTable
from shadow.fenced import fenced_key
from shadow.predicate import Predicates
from shadow.rows_by_key import Image, read_rows, rows_equal
from shadow.trace import Trace

#: Rows compared at once: one look at the table for each batch, texts of so many rows in memory.
_BATCH = 20_000
_table_of = attrgetter("table")


@dataclass(frozen=True, kw_only=True, slots=True)
class TouchedRow:
    """One row the rehearsal touched, cells as Postgres text in column order; None for a row that is not there.

    `kinds` says per column how the after cell is compared: value, clock (equals the transaction's time), wall (a time
    while the replay runs) or generated (drawn inside a trigger: only that there is a value; where it is of the key,
    the row is matched as one of a multiset).
    """

    table: str
    key: tuple[str, ...]
    before: Image
    after: Image
    kinds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """Where production differs: table, key as the rep knows it, column or None for the whole row, and how."""

    table: str
    key: tuple[str, ...]
    column: str | None
    how: str

    def __str__(self) -> str:
        where = f"{self.table} ({fenced_key(self.key)})" if self.key else self.table
        return f"{where}{'.' + self.column if self.column else ''}: {self.how}"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of one table in the frozen order, which is also the order of locking; what they hold also by itself."""

    table: str
    rows: Sequence[TouchedRow]
    keys: Sequence[tuple[str, ...]]
    before: Sequence[Image]
    after: Sequence[Image]
    kinds: Set[str]


def batches(fence: Fence, rows: Sequence[TouchedRow]) -> tuple[list[Batch], list[TouchedRow]]:
    """Rows that production will have under the same key, and those whose key is drawn inside a trigger."""
    found: list[Batch] = []
    generated: list[TouchedRow] = []
    for table, group in groupby(rows, key=_table_of):
        columns = [column.name for column in fence.tables[table].table.columns]
        places = [columns.index(column) for column in fence.tables[table].table.key]
        while some := list(islice(group, _BATCH)):
            batch = _batch(table, some)
            if "generated" in batch.kinds:
                drawn = [row.before is None and any(row.kinds[at] == "generated" for at in places) for row in some]
                generated += compress(some, drawn)
                batch = _batch(table, [row for row, is_drawn in zip(some, drawn, strict=True) if not is_drawn])
            if batch.rows:
                found.append(batch)
    return found, generated


def _batch(table: str, rows: Sequence[TouchedRow]) -> Batch:
    return Batch(
        table=table, rows=rows, keys=[row.key for row in rows], before=[row.before for row in rows],
        after=[row.after for row in rows], kinds=set().union(*{row.kinds for row in rows}),
    )  # fmt: skip


def _by_place(found: Sequence[tuple[Any, ...]]) -> dict[int, tuple[Any, ...]]:
    return {int(row[0]) - 1: row[1:] for row in found}


def drift(conn: psycopg.Connection[Any], fence: Fence, tenant_key: str, keyed: Sequence[Batch]) -> list[Mismatch]:
    """Locks every touched row by key in the frozen order and compares it with its before image.

    A row may be as it was and yet another tenant's: when its parent went over. A trigger would still write it.
    """
    found: list[Mismatch] = []
    for batch in keyed:
        table = fence.tables[batch.table]
        member = Predicates(fence, tenant_key).member(table, "t")
        if rows_equal(conn, table, batch.keys, batch.before, member, lock=True):
            continue
        existing = _by_place(read_rows(conn, table, batch.keys, member, lock=True))
        for n, row in enumerate(batch.rows):
            held, *cells = existing.get(n, (None,))
            found.extend(_compare_before(table, row, tuple(cells) if n in existing else None, held is True))
    return found


def _compare_before(table: FencedTable, row: TouchedRow, cells: tuple[Any, ...] | None, member: bool) -> list[Mismatch]:
    if (cells is None) != (row.before is None):
        how = "the row is gone" if cells is None else "a row with this key exists already"
        return [Mismatch(table=row.table, key=row.key, column=None, how=how)]
    if cells is None or row.before is None:
        return []
    if not member:
        return [Mismatch(table=row.table, key=row.key, column=None, how="the row is not the tenant's any more")]
    names = [c.name for c in table.table.columns]
    return [
        Mismatch(table=row.table, key=row.key, column=name, how="changed since the dry run")
        for name, now, then in zip(names, cells, row.before, strict=True)
        if now != then
    ]


def divergence(
    conn: psycopg.Connection[Any], fence: Fence, keyed: Sequence[Batch], trace: Trace, tenant_key: str
) -> tuple[list[Mismatch], Counter[str]]:
    """Compares every touched row with its after image and who wrote it; also how many of them, by table, are there."""
    found: list[Mismatch] = []
    survivors: Counter[str] = Counter()
    triggers = any(table.table.triggers for table in fence.tables.values())
    for batch in keyed:
        table = fence.tables[batch.table]
        proof: sql.Composable = sql.SQL(trace.ours)
        # The view checked what statements wrote; its parent may have come later than itself, and what triggers wrote
        # passed no view: now each row must be the tenant's and point at none of another's.
        if table.waits or (triggers and (table.links or table.paths)):
            proof = sql.SQL("({}) AND ({})").format(proof, Predicates(fence, tenant_key).inside(table, "t"))
        images = _images_after(table, batch, trace)
        if images is not None and rows_equal(conn, table, batch.keys, images, proof, lock=False):
            survivors[batch.table] += len(images) - images.count(None)
            continue
        present = read_rows(conn, table, batch.keys, proof, lock=False)
        survivors[batch.table] += sum(bool(row[1]) for row in present)
        existing = _by_place(present)
        for n, row in enumerate(batch.rows):
            found.extend(_compare_after(table, row, existing.get(n), trace))
    return found, survivors


def _images_after(table: FencedTable, batch: Batch, trace: Trace) -> Sequence[Image] | None:
    """The after images with this transaction's time where they have the rehearsal's; None where a cell is compared by
    another kind than these two.
    """
    if not batch.kinds <= {"value", "clock"}:
        return None
    if "clock" not in batch.kinds:
        return batch.after
    clocks = [trace.clocks.get(column.type, "") for column in table.table.columns]
    return [
        image and tuple(
            clock if kind == "clock" else cell
            for cell, kind, clock in zip(image, row.kinds, clocks, strict=True)
        )
        for image, row in zip(batch.after, batch.rows, strict=True)
    ]  # fmt: skip


def _compare_after(
    table: FencedTable,
    row: TouchedRow,
    present: tuple[Any, ...] | None,
    trace: Trace,
) -> list[Mismatch]:
    if (present is None) != (row.after is None):
        how = "the row would be missing" if present is None else "the row would still be there"
        return [Mismatch(table=row.table, key=row.key, column=None, how=how)]
    if present is None or row.after is None:
        return []
    found = []
    if not present[0]:
        how = "production would not have written it so"
        found.append(Mismatch(table=row.table, key=row.key, column=None, how=how))
    for column, now, then, kind in zip(table.table.columns, present[1:], row.after, row.kinds, strict=True):
        if unlike := _unlike(kind, now, then, trace.clocks.get(column.type, ""), trace.walls.get(column.type, "")):
            found.append(Mismatch(table=row.table, key=row.key, column=column.name, how=unlike))
    return found


def _unlike(kind: str, now: str | None, then: str | None, clock: str, wall: str) -> str | None:
    """How production's cell is not what was confirmed; None when it is, by its kind."""
    if kind == "generated":
        return None if (now is None) == (then is None) else "would be drawn otherwise"
    if kind == "wall":
        return None if now is not None and _between(clock, now, wall) else "would not be the time of the replay"
    if kind == "clock":
        return None if now == clock else "would not be the transaction's time"
    return None if now == then else "would have another value"


def _between(earliest: str, text: str, latest: str) -> bool:
    try:
        return datetime.fromisoformat(earliest) <= datetime.fromisoformat(text) <= datetime.fromisoformat(latest)
    except ValueError:  # infinity, or a year that is not ours
        return False
