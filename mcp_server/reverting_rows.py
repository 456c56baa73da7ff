"""What an applied proposal left behind: its frozen rows by column name, how they stand now, and who edited them since.

Called by `reverting.py`, on the shadow of the new dry run: everything here only reads.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from differ.model import FrozenRow
from mcp_server.control.records import Proposal
from mcp_server.images import step_clocks, table_images
from mcp_server.reverting_order import Cells, Op, RevertRefused
from shadow.fence import Fence, FencedTable
from shadow.fenced import fenced_key
from shadow.needs import READ
from shadow.predicate import base
from shadow.rows_by_key import array_text, cell_text, read_rows
from shadow.shadow import Shadow

#: A table's name and a row's key.
Place = tuple[str, tuple[str, ...]]
_BATCH = 5_000
#: Later rows that are named for one table.
_DEPENDENTS = 1_000


@dataclass(frozen=True, kw_only=True)
class PutBack:
    """One row that the proposal changed: `then` as it was before, `confirmed` as it was applied; None: no row.

    `clocks` and `drawn` are columns whose confirmed value production chose itself: its clock, its sequences.
    """

    table: str
    key: tuple[str, ...]
    then: Cells | None
    confirmed: Cells | None
    clocks: frozenset[str]
    drawn: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class LaterEdit:
    """A row that somebody edited after the proposal was applied; `column` is None where the whole row counts."""

    table: str
    key: tuple[tuple[str, str], ...]
    column: str | None
    how: str

    def __str__(self) -> str:
        key = ", ".join(f"{column} {fenced_key([text])}" for column, text in self.key)
        return f"{self.table} ({key}){'.' + self.column if self.column else ''}: {self.how}"


def put_backs(fence: Fence, proposal: Proposal, rows: Iterable[FrozenRow]) -> Iterator[PutBack]:
    """The rows that the proposal changed, by today's columns. Raises RevertRefused where those no longer fit."""
    known: dict[str, list[str]] = {}
    for row in rows:
        if not row.changed:
            continue
        if row.table not in known:
            known[row.table] = _columns(fence, proposal, row.table)
        names = known[row.table]
        then, confirmed = (None if image is None else _named(names, image) for image in (row.before, row.after))
        key = fence.tables[row.table].table.key
        if tuple((then or confirmed or {}).get(column) for column in key) != row.key:
            raise _changed(row.table)
        yield PutBack(
            table=row.table, key=row.key, then=then, confirmed=confirmed,
            clocks=frozenset(name for name, kind in zip(names, row.kinds, strict=True) if kind in ("clock", "wall")),
            drawn=frozenset(name for name, kind in zip(names, row.kinds, strict=True) if kind == "generated"),
        )  # fmt: skip


def _named(names: Sequence[str], image: Sequence[str | None]) -> Cells:
    return dict(zip(names, image, strict=True))


def _columns(fence: Fence, proposal: Proposal, name: str) -> list[str]:
    """The columns of the frozen images; each must still be there with the same type."""
    table = fence.tables.get(name)
    if table is None:
        raise _changed(name)
    today = {c.name: c.type for c in table.table.columns}
    kept = proposal.frozen.get("columns", {}).get(name)
    if kept is None and proposal.frozen["fingerprint"] == fence.catalog.fingerprint:
        kept = list(today.items())
    if kept is None or any(today.get(column) != type_name for column, type_name in kept):
        raise _changed(name)
    return [column for column, _ in kept]


def _changed(name: str) -> RevertRefused:
    return RevertRefused(
        f"The columns of {name} are not those of the applied proposal any more.",
        "No dry run was kept; production was not touched.",
        "Put its rows back by hand in a dry run; the proposal's page shows what they were.",
    )


class Now:
    """The rows of one shadow as they stand, by name and key."""

    def __init__(self, shadow: Shadow) -> None:
        self._shadow = shadow

    def rows(self, places: Iterable[Place]) -> dict[Place, Cells]:
        """The cells of those rows that are there. A row is found by an equal key too: 1.0 is 1.00."""
        keys: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        for name, key in places:
            keys[name].append(key)
        self._shadow.ensure(dict.fromkeys(keys, READ))
        found: dict[Place, Cells] = {}
        for name, wanted in keys.items():
            table = self._shadow.fence.tables[name]
            for start in range(0, len(wanted), _BATCH):
                some = wanted[start : start + _BATCH]
                for place, _, *cells in read_rows(self._shadow.owner, table, some, sql.SQL("true"), lock=False):
                    found[name, some[place - 1]] = _named([c.name for c in table.table.columns], cells)
        return found

    def key(self, name: str, cells: Cells) -> tuple[str, ...]:
        """A row's key as it is written now."""
        return tuple(str(cells[c]) for c in self._shadow.fence.tables[name].table.key)

    def _matching(
        self, table: FencedTable, columns: Sequence[str], given: Sequence[list[str]], *, typed: bool, limit: int = 0
    ) -> Iterator[Cells]:
        """Rows whose `columns` have one of the given combinations: as typed values, or as texts with NULL as ''."""
        types = {c.name: c.type for c in table.table.columns}
        names = [sql.Identifier(f"k{n}") for n in range(len(columns))]
        # literals and no parameters: a percent sign in a name is nothing but itself
        on = sql.SQL(" AND ").join(
            sql.SQL("t.{} = k.{}::{}").format(sql.Identifier(c), k, sql.SQL(types[c]))
            if typed
            else sql.SQL("coalesce({}, '') = k.{}").format(cell_text("t", c, types[c]), k)
            for c, k in zip(columns, names, strict=True)
        )
        query = sql.SQL("SELECT {} FROM (SELECT DISTINCT * FROM unnest({}) AS u({})) AS k JOIN {} AS t ON {}{}").format(
            sql.SQL(", ").join(cell_text("t", c.name, c.type) for c in table.table.columns),
            sql.SQL(", ").join(sql.SQL("{}::text[]").format(array_text(values)) for values in given),
            sql.SQL(", ").join(names), base(table), on,
            sql.SQL(" LIMIT {}").format(sql.Literal(limit)) if limit else sql.SQL(""),
        )  # fmt: skip
        for found in self._shadow.owner.execute(query).fetchall():
            yield dict(zip(types, found, strict=True))

    def like(self, name: str, masks: Sequence[Mapping[str, str | None]]) -> list[Cells]:
        """Rows that have one of the given combinations of cells; all masks name the same columns."""
        self._shadow.ensure({name: READ})
        columns = list(masks[0])
        given = [[mask[c] or "" for mask in masks] for c in columns]
        return list(self._matching(self._shadow.fence.tables[name], columns, given, typed=False))

    def referring(self, op: Sequence[Op], known: set[Place]) -> Iterator[LaterEdit]:
        """Rows that refer to rows about to be deleted and that the proposal did not touch."""
        fence = self._shadow.fence
        for name in sorted({one.table for one in op}):
            for child, fk in fence.children(name):
                if not child.owned or not child.table.key:
                    continue
                values = [v for one in op if one.table == name and (v := one.before(fk.parent_columns)) is not None]
                if not values:
                    continue
                self._shadow.ensure({child.table.name: READ})
                given = [list(column) for column in zip(*values, strict=True)]
                for row in self._matching(child, fk.columns, given, typed=True, limit=_DEPENDENTS):
                    key = tuple(str(row[c]) for c in child.table.key)
                    if (child.table.name, key) not in known:
                        how = f"refers to a row of {name} that the revert removes"
                        yield later_edit(fence, child.table.name, key, None, how)

    def touched(self) -> dict[Place, Cells | None]:
        """Every row that a step of this shadow wrote, as it was loaded and under the key that it had then; None for a
        row that was not there.
        """
        found: dict[Place, Cells | None] = {}
        for images in table_images(self._shadow):
            if images.sink or images.pristine is None:
                continue
            types = {c.name: c.type for c in images.columns}
            keys = [
                sql.SQL("coalesce({}, {})").format(cell_text("p", c, types[c]), cell_text("t", f"k{n}", types[c]))
                for n, c in enumerate(images.key, 1)
            ]
            on = sql.SQL(" AND ").join(
                sql.SQL("p.{} = t.{}").format(sql.Identifier(c), sql.Identifier(f"k{n}"))
                for n, c in enumerate(images.key, 1)
            )
            query = sql.SQL("SELECT DISTINCT ARRAY[{}], p.{} IS NOT NULL, {} FROM {} t LEFT JOIN {} p ON {}").format(
                sql.SQL(", ").join(keys), sql.Identifier(images.key[0]),
                sql.SQL(", ").join(cell_text("p", c.name, c.type) for c in images.columns),
                sql.Identifier(*images.touched), sql.Identifier(*images.pristine), on,
            )  # fmt: skip
            for key, there, *cells in self._shadow.owner.execute(query).fetchall():
                found[images.table, tuple(key)] = _named(list(types), cells) if there else None
        return found

    def largest(self, name: str, column: str) -> int:
        """The largest number in a column of the tenant's rows; 0 when there is none."""
        query = sql.SQL("SELECT coalesce(ceil(max({})), 0)::bigint FROM {}").format(
            sql.Identifier(column), base(self._shadow.fence.tables[name])
        )
        row = self._shadow.owner.execute(query).fetchone()
        return int(row[0]) if row else 0

    def clocks(self) -> dict[str, frozenset[str]]:
        """The times of the steps so far, as each date/time type writes them."""
        return step_clocks(self._shadow, None, rehearsal=False)

    def clock(self, applied_at: str) -> dict[str, str]:
        """The time at which the proposal was applied, as each date/time type writes it."""
        types = self._shadow.clock_types
        if not types:
            return {}
        cells = sql.SQL(", ").join(
            sql.SQL("{}::timestamptz::{}::text").format(applied_at, sql.SQL(t)) for t in types.values()
        )
        found: Any = self._shadow.owner.execute(sql.SQL("SELECT {}").format(cells))
        return dict(zip(types, found.fetchone(), strict=True))


def later_edit(fence: Fence, name: str, key: tuple[str, ...], column: str | None, how: str) -> LaterEdit:
    """One line of the list of later edits."""
    columns = fence.tables[name].table.key
    return LaterEdit(table=name, key=tuple(zip(columns, key, strict=True)), column=column, how=how)


def expected(fence: Fence, row: PutBack, clock: Mapping[str, str]) -> dict[str, str | None]:
    """The cells that production had when the proposal was applied; what it drew itself is left out."""
    types = {c.name: c.type for c in fence.tables[row.table].table.columns}
    cells = {c: clock.get(types[c], v) if c in row.clocks else v for c, v in (row.confirmed or {}).items()}
    return {column: value for column, value in cells.items() if column not in row.drawn}


def edited(fence: Fence, row: PutBack, now: Cells | None, clock: Mapping[str, str]) -> Iterator[LaterEdit]:
    """Where a row is no longer as it was confirmed."""
    if row.confirmed is None or now is None:
        if (row.confirmed is None) != (now is None):
            how = "the row was deleted since" if now is None else "a row with this key was made since"
            yield later_edit(fence, row.table, row.key, None, how)
        return
    for column, value in expected(fence, row, clock).items():
        if now.get(column) != value:
            yield later_edit(fence, row.table, row.key, column, "changed since")


def drawn_keys(
    fence: Fence, rows: Sequence[PutBack], now: Now, clock: Mapping[str, str]
) -> tuple[list[PutBack], dict[str, int]]:
    """Rows that triggers made, with the keys production drew for them; how many of a table could not be found.

    They are known by all their other cells, the time of the replay among them: only as many rows as were confirmed.
    """
    found: list[PutBack] = []
    missing: dict[str, int] = {}
    kinds: dict[tuple[str, frozenset[str]], list[PutBack]] = defaultdict(list)
    for row in rows:
        kinds[row.table, row.drawn].append(row)
    for (name, _), alike in kinds.items():
        masks = [expected(fence, row, clock) for row in alike]
        matching = now.like(name, masks) if masks[0] else []
        shown = [{column: cells[column] for column in masks[0]} for cells in matching]
        if Counter(tuple(m.values()) for m in masks) != Counter(tuple(m.values()) for m in shown):
            missing[name] = missing.get(name, 0) + len(alike)
            continue
        key = fence.tables[name].table.key
        found += [
            PutBack(
                table=name, key=tuple(str(cells[c]) for c in key), then=None, confirmed=cells, clocks=frozenset(),
                drawn=frozenset(),
            )
            for cells in matching
        ]  # fmt: skip
    return found, missing
