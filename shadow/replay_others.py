"""Rows of production that nobody confirmed: after the confirmed ones were compared, nothing else may have been written.

Called by `replay.py` inside the replay's transaction, after `replay_rows.py`. Counters, which agree with those of the
rehearsal by then, say how much was written; what they leave room for is looked for by the transaction's mark on rows.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from itertools import groupby
from operator import attrgetter
from typing import Any

import psycopg
from psycopg import sql

from shadow.counters import Counters
from shadow.fence import SINK, Fence, FencedTable
from shadow.predicate import Predicates, base
from shadow.replay_rows import Batch, Mismatch, TouchedRow
from shadow.rows_by_key import cell_text
from shadow.trace import Trace


def unconfirmed(
    conn: psycopg.Connection[Any],
    fence: Fence,
    keyed: Sequence[Batch],
    generated: Sequence[TouchedRow],
    survivors: Mapping[str, int],
    counters: Counters,
    trace: Trace,
    tenant_key: str,
) -> list[Mismatch]:
    """What was written besides the rows of `keyed`, of which `survivors` by table are still there.

    `generated` are rows that triggers made under keys of their own: as a multiset the only ones that may be new.
    """
    found: list[Mismatch] = []
    least = _least_writes(keyed)
    made = {name: list(rows) for name, rows in groupby(generated, key=attrgetter("table"))}
    for name, table in fence.tables.items():
        inserted, updated, deleted = _counted(table, counters)
        if table.fence_class == SINK and (updated or deleted):
            found.extend(_others_in_sink(conn, table, inserted - deleted, trace))
        if not table.owned or (inserted + updated + deleted <= least[name] and name not in made):
            continue
        inside = Predicates(fence, tenant_key).inside(table, "t")
        if not table.table.key:
            found.extend(_added_outside(conn, table, inside, trace))
            continue
        found.extend(_written_besides(conn, table, survivors.get(name, 0), made.get(name, []), trace, keyed, inside))
    return found


def _counted(table: FencedTable, counters: Counters) -> tuple[int, int, int]:
    """Rows inserted, updated and deleted in every relation that holds rows of the table."""
    per = [counters.get(f"{schema}.{stored}", (0, 0, 0)) for schema, stored in table.table.stored_in]
    inserted, updated, deleted = (sum(column) for column in zip(*per, strict=True))
    return inserted, updated, deleted


def _least_writes(keyed: Sequence[Batch]) -> Counter[str]:
    """How few writes the confirmed rows of each table take. Those alone, and no other write fits in between.

    A row that gets another key is two of them and one write.
    """
    found: Counter[str] = Counter()
    by_table: dict[str, Counter[tuple[bool, bool]]] = {}
    for batch in keyed:
        pairs = zip(batch.before, batch.after, strict=True)
        by_table.setdefault(batch.table, Counter()).update((b is not None, a is not None) for b, a in pairs)
    for name, sides in by_table.items():
        found[name] = sides[True, True] + max(sides[True, False], sides[False, True])
    return found


def _others_in_sink(conn: psycopg.Connection[Any], table: FencedTable, left: int, trace: Trace) -> list[Mismatch]:
    """A sink is empty in the shadow: what triggers changed or deleted there were rows of their own, `left` of which
    are there. On production it may have been somebody else's.
    """
    query = sql.SQL("SELECT count(*) FROM {} AS t WHERE {}").format(base(table), sql.SQL(trace.ours))
    row = conn.execute(query).fetchone()
    if row and row[0] <= left:
        return []
    return [Mismatch(table=table.table.name, key=(), column=None, how="rows that were not confirmed would change")]


def _added_outside(
    conn: psycopg.Connection[Any], table: FencedTable, inside: sql.Composable, trace: Trace
) -> list[Mismatch]:
    """Rows without a key are only ever added, by triggers: counters tell how many, here that all are the tenant's."""
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} AS t WHERE {} AND ({}) IS NOT TRUE)").format(
        base(table), sql.SQL(trace.ours), inside
    )
    row = conn.execute(query).fetchone()
    if row and not row[0]:
        return []
    return [Mismatch(table=table.table.name, key=(), column=None, how="rows outside the tenant would be added")]


def _written_besides(
    conn: psycopg.Connection[Any],
    table: FencedTable,
    survivors: int,
    generated: Sequence[TouchedRow],
    trace: Trace,
    keyed: Sequence[Batch],
    inside: sql.Composable,
) -> list[Mismatch]:
    """Rows of this transaction that are not among the touched keys: only trigger-made ones may be, as a multiset."""
    name = table.table.name
    if not generated:
        query = sql.SQL("SELECT count(*) FROM {} AS t WHERE {}").format(base(table), sql.SQL(trace.ours))
        if conn.execute(query).fetchone() == (survivors,):
            return []
        return [Mismatch(table=name, key=(), column=None, how="rows that were not confirmed would change")]
    cells = sql.SQL(", ").join(cell_text("t", c.name, c.type) for c in table.table.columns)
    query = sql.SQL("SELECT ({}) IS TRUE, {} FROM {} AS t WHERE {}").format(
        inside, cells, base(table), sql.SQL(trace.ours)
    )
    names = [c.name for c in table.table.columns]
    known = {key for batch in keyed if batch.table == name for key in batch.keys}
    positions = [names.index(column) for column in table.table.key]
    written = conn.execute(query).fetchall()
    extra = [found for found in written if tuple(found[1 + p] for p in positions) not in known]
    if not all(found[0] for found in extra):
        return [Mismatch(table=name, key=(), column=None, how="rows outside the tenant would be added")]
    timed = {place for row in generated for place, kind in enumerate(row.kinds) if kind == "clock"}
    expected = Counter(_masked(table, row.after, row.kinds, timed, trace.clocks) for row in generated if row.after)
    drawn = tuple(kind if kind in ("generated", "wall") else "value" for kind in generated[0].kinds)
    actual = Counter(_masked(table, found[1:], drawn, timed, trace.clocks) for found in extra)
    if expected == actual:
        return []
    return [Mismatch(table=name, key=(), column=None, how="rows made by triggers would differ")]


def _masked(
    table: FencedTable, cells: Sequence[Any], kinds: Sequence[str], timed: Set[int], clocks: Mapping[str, str]
) -> tuple[Any, ...]:
    """A row as one of a multiset: drawn cells left out, this transaction's time by its kind where rows may have it."""
    shown: list[Any] = []
    for place, (column, cell, kind) in enumerate(zip(table.table.columns, cells, kinds, strict=True)):
        clock = kind == "clock" or (place in timed and cell is not None and cell == clocks.get(column.type))
        shown.append((kind,) if kind in ("generated", "wall") else ("clock",) if clock else cell)
    return tuple(shown)
