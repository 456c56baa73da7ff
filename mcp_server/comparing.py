"""Two candidate fixes of one tenant side by side: which rows only one of them changes, and where they differ.

Called by the desk; each dry run's net diff is read on its own shadow, and nothing is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from differ.model import CellChange, Diff, Key, MeasureDelta, RowChange, RowKind
from mcp_server.control.records import DryRun, Statement
from mcp_server.dry_runs import DryRuns
from mcp_server.errors import WrongState
from mcp_server.governed import Facts
from mcp_server.identity import Caller
from mcp_server.images import drawn_columns
from mcp_server.masking import Masks
from shadow.shadow import Shadow

#: Changed rows of one dry run that are compared; a fix that changes more is compared by its summary.
MAX_ROWS = 5_000


@dataclass(frozen=True, kw_only=True)
class CellPair:
    """One cell that the two leave different; None with `unchanged` where one of them does not touch it.

    `before_differs` says that they did not even start from the same value.
    """

    column: str
    before: str | None
    after_a: str | None
    after_b: str | None
    unchanged_in: str | None = None
    before_differs: bool = False


@dataclass(frozen=True, kw_only=True)
class RowPair:
    """One row that both change, in different ways."""

    table: str
    key: Key
    kind_a: RowKind
    kind_b: RowKind
    cells: tuple[CellPair, ...]


@dataclass(frozen=True, kw_only=True)
class MeasurePair:
    """What the two do to one measure; None where one does not touch its table."""

    name: str
    a: MeasureDelta | None
    b: MeasureDelta | None


@dataclass(frozen=True, kw_only=True)
class SideEffects:
    """How many rows triggers write besides, in a table that the diff only counts."""

    table: str
    a: int
    b: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Dry run `a` beside dry run `b`; `same` counts rows that both leave alike.

    New rows that differ in nothing but what Postgres drew for them (ids) count as alike: `same_but_drawn` of them.
    `complete` is False when a dry run changes more rows than are compared.
    """

    a: str
    b: str
    base_at_a: datetime | None
    base_at_b: datetime | None
    same_base: bool
    only_a: tuple[RowChange, ...]
    only_b: tuple[RowChange, ...]
    different: tuple[RowPair, ...]
    same: int
    same_but_drawn: int
    measures: tuple[MeasurePair, ...]
    side_effects: tuple[SideEffects, ...]
    complete: bool

    @property
    def facts(self) -> Facts:
        """What the audit trail keeps of it."""
        return Facts(dry_run_id=self.a)


@dataclass(frozen=True, kw_only=True)
class _Side:
    dry_run: DryRun
    diff: Diff
    drawn: dict[str, frozenset[str]]


class Comparing:
    """Compares dry runs."""

    def __init__(self, dry_runs: DryRuns) -> None:
        self._dry_runs = dry_runs

    def compare(self, caller: Caller, a: str, b: str) -> Comparison:
        """The two side by side. Raises WrongState for one dry run twice and for different tenants."""
        runs = [self._dry_runs.visible(caller, one) for one in (a, b)]
        if a == b:
            raise WrongState("Both are the same dry run.", "Nothing was compared.", "Name two dry runs.")
        if runs[0].tenant_key != runs[1].tenant_key:
            raise WrongState(
                f"Dry runs {a} and {b} are of different tenants.",
                "Nothing was compared.",
                "Compare two candidate fixes of one tenant.",
            )
        return _masked(side_by_side(*(self._side(run) for run in runs)), self._dry_runs.masking.of(caller, a))

    def _side(self, dry_run: DryRun) -> _Side:
        def work(shadow: Shadow, steps: list[Statement]) -> _Side:
            diff = self._dry_runs.net(shadow, self._dry_runs.set_columns(shadow, steps), 0, MAX_ROWS)
            drawn = {t.table: drawn_columns(shadow.fence.tables[t.table]) for t in diff.tables}
            return _Side(dry_run=self._dry_runs.control.dry_run(dry_run.id), diff=diff, drawn=drawn)

        return self._dry_runs.on_shadow(dry_run, work)


def _masked(found: Comparison, masks: Masks) -> Comparison:
    """The comparison without the values that its reader does not see."""
    return replace(
        found,
        only_a=tuple(masks.row(row) for row in found.only_a),
        only_b=tuple(masks.row(row) for row in found.only_b),
        different=tuple(
            replace(pair, cells=tuple(_masked_cell(pair.table, cell, masks) for cell in pair.cells))
            for pair in found.different
        ),
    )


def _masked_cell(table: str, cell: CellPair, masks: Masks) -> CellPair:
    if not masks.hides(table, cell.column):
        return cell
    sides = (masks.hidden(text) for text in (cell.before, cell.after_a, cell.after_b))
    before, after_a, after_b = sides
    return replace(cell, before=before, after_a=after_a, after_b=after_b)


def side_by_side(a: _Side, b: _Side) -> Comparison:
    """Pairs the rows of two diffs by key; new rows with drawn keys by everything else."""
    sinks = {table.table for one in (a, b) for table in one.diff.tables if table.sink}
    rows_a, rows_b = (
        {(row.table, row.key): row for row in one.diff.rows if row.table not in sinks} for one in (a, b)
    )  # fmt: skip
    both = [(rows_a[place], rows_b[place]) for place in rows_a if place in rows_b]
    different = [pair for one, other in both if (pair := _pair(one, other)) is not None]
    only_a = [row for place, row in rows_a.items() if place not in rows_b]
    only_b = [row for place, row in rows_b.items() if place not in rows_a]
    left_a, left_b = _without_twins(only_a, only_b, {**a.drawn, **b.drawn})
    snapshots = a.dry_run.snapshot_id, b.dry_run.snapshot_id
    return Comparison(
        a=a.dry_run.id, b=b.dry_run.id, base_at_a=a.dry_run.base_at, base_at_b=b.dry_run.base_at,
        same_base=snapshots[0] is not None and snapshots[0] == snapshots[1], only_a=tuple(left_a),
        only_b=tuple(left_b), different=tuple(different), same=len(both) - len(different),
        same_but_drawn=len(only_a) - len(left_a), measures=_measures(a.diff, b.diff),
        side_effects=_side_effects(a.diff, b.diff, sorted(sinks)),
        complete=all(len(one.diff.rows) == one.diff.total_rows for one in (a, b)),
    )  # fmt: skip


def _pair(one: RowChange, other: RowChange) -> RowPair | None:
    """Where two changes of one row end differently; None when they end alike."""
    left, right = ({cell.column: cell for cell in row.cells} for row in (one, other))
    names = [*left, *(column for column in right if column not in left)]
    cells = tuple(pair for name in names if (pair := _cells(name, left.get(name), right.get(name))) is not None)
    if one.kind == other.kind and not cells:
        return None
    return RowPair(table=one.table, key=one.key, kind_a=one.kind, kind_b=other.kind, cells=cells)


def _cells(column: str, one: CellChange | None, other: CellChange | None) -> CellPair | None:
    if one is not None and other is not None:
        if (one.kind, one.after) == (other.kind, other.after) or one.kind == other.kind != "value":
            return None
        apart = one.before != other.before
        return CellPair(column=column, before=one.before, after_a=one.after, after_b=other.after, before_differs=apart)
    cell = one or other
    assert cell is not None  # noqa: S101 - the name comes from one of the two
    return CellPair(
        column=column, before=cell.before, after_a=cell.after if one else cell.before,
        after_b=cell.after if other else cell.before, unchanged_in="b" if one else "a",
    )  # fmt: skip


def _without_twins(
    only_a: Sequence[RowChange], only_b: Sequence[RowChange], drawn: dict[str, frozenset[str]]
) -> tuple[list[RowChange], list[RowChange]]:
    """The rows without those new ones that the other side has too, under another drawn id."""
    waiting: dict[object, list[RowChange]] = {}
    for row in only_b:
        waiting.setdefault(_told(row, drawn), []).append(row)
    left_a = []
    for row in only_a:
        twins = waiting.get(_told(row, drawn))
        if row.kind == "insert" and drawn.get(row.table) and twins:
            twins.pop()
        else:
            left_a.append(row)
    kept = {id(row) for rows in waiting.values() for row in rows}
    return left_a, [row for row in only_b if id(row) in kept]


def _told(row: RowChange, drawn: dict[str, frozenset[str]]) -> object:
    """What a new row says apart from what Postgres drew or took from the clock."""
    if row.kind != "insert":
        return row.table, row.key
    cells = tuple(
        (c.column, c.after if c.kind == "value" else c.kind)
        for c in row.cells
        if c.column not in drawn.get(row.table, frozenset())
    )
    return row.table, cells


def _measures(a: Diff, b: Diff) -> tuple[MeasurePair, ...]:
    left, right = ({measure.name: measure for measure in diff.measures} for diff in (a, b))
    names = [*left, *(name for name in right if name not in left)]
    return tuple(MeasurePair(name=name, a=left.get(name), b=right.get(name)) for name in names)


def _side_effects(a: Diff, b: Diff, sinks: Sequence[str]) -> tuple[SideEffects, ...]:
    left, right = ({table.table: table.rows for table in diff.tables} for diff in (a, b))
    return tuple(SideEffects(table=name, a=left.get(name, 0), b=right.get(name, 0)) for name in sinks)
