"""The order in which rows are put back: parents before children, freed unique values before they are taken again.

Pure: it is given what is to be done row by row and says in which batches; called by `reverting.py`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile, pairwise
from typing import Literal

from mcp_server.errors import DeskError
from shadow.catalog import ForeignKey
from shadow.fence import Fence

OpKind = Literal["insert", "update", "delete"]
Cells = Mapping[str, str | None]
#: A batch's kind, table and columns that are written.
Group = tuple[str, str, tuple[str, ...]]
#: From this many deleted rows of one table on they need several statements, so their order counts.
_ONE_DELETE = 2_000
#: More steps than this nobody reads.
MAX_BATCHES = 500
_NUMBERS = ("smallint", "integer", "bigint", "numeric")


class RevertRefused(DeskError):
    """The applied proposal cannot be put back as asked: no dry run was kept."""


@dataclass(frozen=True, kw_only=True)
class Op:
    """What one row needs: `now` and `then` are its cells before and after, `columns` what is written."""

    kind: OpKind
    table: str
    key: tuple[str, ...]
    now: Cells | None
    then: Cells | None
    columns: tuple[str, ...] = ()

    def sets(self, columns: Sequence[str]) -> bool:
        """Whether it gives any of these columns another value."""
        return self.kind != "update" or not set(columns).isdisjoint(self.columns)

    def before(self, columns: Sequence[str]) -> tuple[str, ...] | None:
        """The values that the row lets go of; None when there are none, or a NULL is among them."""
        return _values(self.now, columns) if self.kind != "insert" and self.sets(columns) else None

    def after(self, columns: Sequence[str]) -> tuple[str, ...] | None:
        """The values that the row takes on; None when there are none, or a NULL is among them."""
        if self.kind == "delete" or not self.sets(columns) or self.then is None:
            return None
        cells = self.then if self.now is None else {**self.now, **{c: self.then[c] for c in self.columns}}
        return _values(cells, columns)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of one table that one statement can write: each row's key and the cells of `columns`."""

    kind: OpKind
    table: str
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], Cells], ...]


def _values(cells: Cells | None, columns: Sequence[str]) -> tuple[str, ...] | None:
    if cells is None:
        return None
    found = [cells.get(column) for column in columns]
    return None if None in found else tuple(str(value) for value in found)


def order(fence: Fence, ops: Sequence[Op], *, lazy: bool, largest: Callable[[str, str], int]) -> list[Batch]:
    """The batches in an order in which keys and unique values hold at every step.

    With `lazy`, updates that nothing else waits for are left out: triggers may make them. `largest` gives the
    largest number in a column, for values that only stand in for a moment. Raises RevertRefused for a cycle that
    no column can break.
    """
    return _Order(fence, ops, largest).batches(lazy)


class _Order:
    """The graph of one call.

    `after[p]` are the rows that wait for row p and why, `ahead[p]` those that p waits for. `blank[p]` are columns
    that an inserted row gets later, `early[p]` cells that a row holds for a moment before everything else.
    """

    def __init__(self, fence: Fence, ops: Sequence[Op], largest: Callable[[str, str], int]) -> None:
        self.fence, self.ops, self.largest = fence, ops, largest
        self.after: dict[int, dict[int, list[tuple[str, tuple[str, ...]]]]] = defaultdict(dict)
        self.ahead: dict[int, set[int]] = defaultdict(set)
        self.blank: dict[int, set[str]] = defaultdict(set)
        self.early: dict[int, dict[str, str | None]] = defaultdict(dict)
        self.parked: Counter[tuple[str, str]] = Counter()
        self.depths: dict[str, int] = {}
        self.emitted = 0
        self.deletes = Counter(op.table for op in ops if op.kind == "delete")
        by_table: dict[str, list[int]] = defaultdict(list)
        for place, op in enumerate(ops):
            by_table[op.table].append(place)
        for name, places in by_table.items():
            for fk in links_of(fence, name):
                if fk.parent in by_table:
                    self._link(fk, places, by_table[fk.parent])
            for key in fence.tables[name].table.unique_keys:
                if key != frozenset(fence.tables[name].table.key):
                    self._unique(tuple(sorted(key)), places)

    def _edge(self, first: int, second: int, why: str, columns: tuple[str, ...]) -> None:
        self.after[first].setdefault(second, []).append((why, columns))
        self.ahead[second].add(first)

    def _link(self, fk: ForeignKey, children: Sequence[int], parents: Sequence[int]) -> None:
        """A row that appears waits for its parent; a parent that goes waits for its children.

        A row may point by a deferred key at one that comes later: that order is kept as long as no circle comes of it.
        The other way round it always is, since a row whose parent has gone is seen by no statement any more.
        """
        made = {values: p for p in parents if (values := self.ops[p].after(fk.parent_columns)) is not None}
        gone = {values: p for p in parents if (values := self.ops[p].before(fk.parent_columns)) is not None}
        for child in children:
            needed, left = self.ops[child].after(fk.columns), self.ops[child].before(fk.columns)
            parent = made.get(needed) if needed is not None else None
            if parent == child:
                self.blank[child].update(self._nullable(child, fk.columns))
            elif parent is not None:
                self._edge(parent, child, "deferred" if fk.deferred else "needs", fk.columns)
            parent = gone.get(left) if left is not None else None
            if parent is not None and parent != child and not self._together(child, parent, fk):
                self._edge(child, parent, "leaves", fk.columns)

    def _together(self, child: int, parent: int, fk: ForeignKey) -> bool:
        """Rows of one table that one DELETE removes need no order among themselves; a child that stays goes along with
        its parent's new value where the key cascades.
        """
        one, other = self.ops[child], self.ops[parent]
        if one.kind == other.kind == "update" and fk.on_update == "c":
            return True
        same = one.kind == other.kind == "delete" and one.table == other.table
        return same and self.deletes[one.table] <= _ONE_DELETE

    def _unique(self, key: tuple[str, ...], places: Sequence[int]) -> None:
        holders = {values: p for p in places if (values := self.ops[p].before(key)) is not None}
        for taker in places:
            wanted = self.ops[taker].after(key)
            holder = holders.get(wanted) if wanted is not None else None
            if holder is not None and holder != taker:
                self._edge(holder, taker, "frees", key)

    # ------------------------------------------------------------------------------------------------ batches

    def batches(self, lazy: bool) -> list[Batch]:
        left = {p for p, op in enumerate(self.ops) if not (lazy and op.kind == "update" and not self.after[p])}
        for place in range(len(self.ops)):
            self.ahead[place] &= left
        found: list[Batch] = []
        waiting = set(left)
        while waiting:
            ready = {p for p in waiting if not self.ahead[p]}
            if not ready:
                self._break(self._cycle(waiting))
                continue
            found += self._emit(ready, waiting)
        return [*self._first(), *found]

    def _emit(self, ready: set[int], waiting: set[int]) -> Iterator[Batch]:
        """Takes whole groups as long as any is ready; groups that nobody must wait for come first."""
        open_now = {p: self._group(p) for p in ready}
        blocked = Counter(self._group(p) for p in waiting if p not in ready)
        while open_now:
            group = min(set(open_now.values()), key=lambda g: (blocked[g], self._rank(g)))
            places = sorted(p for p, own in open_now.items() if own == group)
            if group[2] or group[0] == "delete":
                yield self._batch(group, places)
            self._count()
            waiting.difference_update(places)
            for place in places:
                del open_now[place]
                for follower in self.after[place]:
                    self.ahead[follower].discard(place)
                    if follower in waiting and not self.ahead[follower] and follower not in open_now:
                        open_now[follower] = self._group(follower)
                        blocked[open_now[follower]] -= 1

    def _count(self) -> None:
        self.emitted += 1
        if self.emitted > MAX_BATCHES:
            raise RevertRefused(
                f"The rows depend on each other in more than {MAX_BATCHES} steps.",
                "No dry run was kept; production was not touched.",
                "Put these rows back by hand in a dry run.",
            )

    def _group(self, place: int) -> Group:
        op = self.ops[place]
        return op.kind, op.table, tuple(c for c in op.columns if c not in self.blank[place])

    def _rank(self, group: Group) -> tuple[int, Group]:
        """Updates of children come before those of their parents, whose totals triggers may keep."""
        return -self._depth(group[1], frozenset()) if group[0] == "update" else 0, group

    def _depth(self, table: str, seen: frozenset[str]) -> int:
        """The longest way up from a table to tables that refer to none."""
        if table not in self.depths:
            seen |= {table}
            parents = {fk.parent for fk in links_of(self.fence, table)} - seen
            self.depths[table] = 1 + max((self._depth(parent, seen) for parent in parents), default=0)
        return self.depths[table]

    def _batch(self, group: Group, places: Sequence[int]) -> Batch:
        kind, table, columns = group
        rows = []
        for place in places:
            cells = self.ops[place].then or {}
            rows.append((self.ops[place].key, {c: cells[c] for c in columns}))
        return Batch(kind=kind, table=table, columns=columns, rows=tuple(rows))  # type: ignore[arg-type]

    def _first(self) -> Iterator[Batch]:
        groups: dict[Group, list[int]] = defaultdict(list)
        for place, cells in self.early.items():
            groups["update", self.ops[place].table, tuple(sorted(cells))].append(place)
        for (_, table, columns), places in groups.items():
            rows = tuple((self.ops[p].key, {c: self.early[p][c] for c in columns}) for p in places)
            yield Batch(kind="update", table=table, columns=columns, rows=rows)

    # ------------------------------------------------------------------------------------------------ cycles

    def _cycle(self, waiting: set[int]) -> list[tuple[int, int]]:
        """The edges of one cycle among rows that all wait for another."""
        place = min(waiting)
        path: dict[int, None] = {}
        while place not in path:
            path[place] = None
            place = min(self.ahead[place])
        ring = [*dropwhile(lambda one: one != place, path), place]
        # each row stands before the one it waits for: the edges run the other way
        return [(second, first) for first, second in pairwise(ring)]

    def _break(self, cycle: Sequence[tuple[int, int]]) -> None:
        """Loosens one edge: of a deferred key, or a reference is NULL for a moment, or a unique value is parked."""
        for wanted in ("deferred", "needs", "leaves", "frees"):
            for first, second in cycle:
                reasons = self.after[first][second]
                if all(why == wanted for why, _ in reasons) and self._loosen(first, second, reasons):
                    self.ahead[second].discard(first)
                    return
        tables = sorted({self.ops[first].table for first, _ in cycle})
        raise RevertRefused(
            f"Rows of {', '.join(tables)} refer to each other, or exchanged unique values, in a circle that no column"
            " which may be empty can break.",
            "No dry run was kept; production was not touched.",
            "Put these rows back by hand in a dry run, in several steps.",
        )

    def _loosen(self, first: int, second: int, reasons: Sequence[tuple[str, tuple[str, ...]]]) -> bool:
        for why, columns in reasons:
            if why == "deferred":
                continue
            held = second if why == "needs" else first
            if why == "frees":
                if not self._park(first, columns):
                    return False
                continue
            empty = self._nullable(held, columns)
            if not empty:
                return False
            if why == "needs":  # it is given in the next round, when its parent is there
                self.blank[held].update(empty)
            if self.ops[held].kind != "insert":
                self.early[held].update(dict.fromkeys(empty))
        return True

    def _nullable(self, place: int, columns: Sequence[str]) -> list[str]:
        """Columns of a reference that may be NULL for a moment; never those that make the row the tenant's."""
        table = self.fence.tables[self.ops[place].table]
        held = {*table.table.key, *(c for fk in table.paths for c in fk.columns)} if table.paths else {*table.table.key}
        return [c for c in columns if c not in held and not table.table.column(c).not_null]

    def _park(self, place: int, columns: Sequence[str]) -> bool:
        """Gives one column of a unique key a value that nobody has."""
        table = self.fence.tables[self.ops[place].table]
        if empty := self._nullable(place, columns):
            self.early[place][empty[0]] = None
            return True
        held = {*table.table.key, *table.tenant_columns, *(c for fk in table.table.foreign_keys for c in fk.columns)}
        for column in columns:
            if column not in held and table.table.column(column).type.startswith(_NUMBERS):
                self.parked[table.table.name, column] += 1
                stand_in = self.largest(table.table.name, column) + self.parked[table.table.name, column]
                self.early[place][column] = str(stand_in)
                return True
        return False


def links_of(fence: Fence, name: str) -> list[ForeignKey]:
    """Every foreign key of a table, those that only the fence knows included."""
    table = fence.tables[name]
    found = {(fk.columns, fk.parent, fk.parent_columns): fk for fk in (*table.table.foreign_keys, *table.paths)}
    return list(found.values())
