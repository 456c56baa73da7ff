"""Puts an applied proposal back: a new, ordinary dry run whose statements are the inverse, made from its frozen rows.

Called by the desk. Nothing here writes production: the dry run is diffed, proposed, confirmed and replayed like any.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from differ.kinds import ClockRule
from differ.model import Column, Diff, FrozenRow
from differ.text import neutralise
from mcp_server.control.records import DryRun, Proposal
from mcp_server.dry_runs import DryRuns, Progress
from mcp_server.errors import EXPLAINED, NotFound, WrongState
from mcp_server.governed import Facts, diff_summary
from mcp_server.identity import Caller
from mcp_server.recorded import REVERT
from mcp_server.reverting_order import MAX_BATCHES, Batch, Cells, Op, RevertRefused, order
from mcp_server.reverting_rows import LaterEdit, Now, Place, PutBack, drawn_keys, edited, put_backs
from mcp_server.reverting_sql import settable, statements
from mcp_server.views import DryRunView
from shadow.errors import QuotaExceeded, ShadowError, StatementFailed, StatementRefused
from shadow.fence import FencedTable
from shadow.shadow import Shadow

T = TypeVar("T")
#: How often what triggers undid is written again.
_ROUNDS = 4
#: Later edits that are listed.
_LISTED = 200
_NAMED = 10


class EditedSince(RevertRefused):
    """Rows of the proposal were edited after it was applied; `later_edits` lists them."""

    def __init__(self, proposal_id: str, later_edits: Sequence[LaterEdit]) -> None:
        shown = "; ".join(neutralise(str(one), 200) for one in later_edits[:_NAMED])
        more = f" and {len(later_edits) - _NAMED:,} more" if len(later_edits) > _NAMED else ""
        super().__init__(
            f"Rows of proposal {proposal_id} were edited after it was applied: {shown}{more}.",
            "No dry run was kept; production was not touched.",
            "Look whether those edits should stay; `anyway` makes the inverse all the same, and its diff shows it.",
        )
        self.later_edits = tuple(later_edits)


@dataclass(frozen=True, kw_only=True)
class RevertView:
    """The dry run that would put a proposal back: its diff, who edited the rows since, and what cannot be put back."""

    proposal_id: str
    dry_run: DryRunView
    diff: Diff
    later_edits: tuple[LaterEdit, ...]
    later_edits_total: int
    not_put_back: tuple[str, ...]

    @property
    def facts(self) -> Facts:
        """What the audit trail keeps of it."""
        return Facts(dry_run_id=self.dry_run.id, request=self.dry_run.request, diff=diff_summary(self.diff))


class Reverting:
    """Makes inverses of applied proposals."""

    def __init__(self, dry_runs: DryRuns) -> None:
        self._dry_runs = dry_runs

    def revert(
        self, caller: Caller, proposal_id: str, request: str, *, anyway: bool = False, progress: Progress | None = None
    ) -> RevertView:
        """A dry run of the caller's that puts the proposal back; a dry run's id finds its latest proposal.

        Raises WrongState unless it is applied, EditedSince when its rows were edited since (not with `anyway`),
        RevertRefused when no statements can put them back. No dry run is left behind then.
        """
        proposal, origin = self._applied(caller, proposal_id)
        purpose = f"Revert proposal {proposal.id}: {origin.purpose}"
        view = self._dry_runs.start_dry_run(caller, origin.tenant_key, request, purpose[:400], progress)
        try:
            inverse = Inverse(dry_runs=self._dry_runs, caller=caller, dry_run_id=view.id, proposal=proposal)
            later = inverse.prepare(anyway=anyway)
            inverse.run(anyway=anyway)
            diff = self._dry_runs.diff(caller, view.id)
            told = inverse.not_put_back()
        except BaseException as error:
            with suppress(*EXPLAINED):
                self._dry_runs.discard(caller, view.id)
            if isinstance(error, StatementFailed | StatementRefused | QuotaExceeded):
                raise _impossible(error) from error
            raise
        return RevertView(
            proposal_id=proposal.id, dry_run=inverse.view(), diff=diff, later_edits=tuple(later[:_LISTED]),
            later_edits_total=len(later), not_put_back=told,
        )  # fmt: skip

    def _applied(self, caller: Caller, proposal_id: str) -> tuple[Proposal, DryRun]:
        control = self._dry_runs.control
        found = control.latest_proposal(proposal_id) if proposal_id.startswith("dr_") else control.proposal(proposal_id)
        if found is None:
            raise NotFound(f"Dry run {proposal_id} has no proposal.", "Nothing ran.", "There is nothing to put back.")
        origin = self._dry_runs.visible(caller, found.dry_run_id)
        if found.state != "applied" or found.receipt is None:
            raise WrongState(
                f"Proposal {found.id} is {found.state}, not applied.",
                "Nothing ran: there is nothing to put back.",
                "A dry run that was not applied is taken back with undo, or discarded.",
            )
        return found, origin


def _impossible(error: ShadowError) -> RevertRefused:
    return RevertRefused(
        f"The inverse cannot be made: {error.happened}",
        "No dry run was kept; production was not touched.",
        "Put the rows back by hand in a dry run; the proposal's page shows what they were.",
    )


@dataclass(kw_only=True)
class Inverse:
    """One inverse while it is being made on the shadow of its dry run.

    `aims` says how each row should end (None: not there): rows of the proposal as they were before it, rows that only
    the inverse's own triggers changed as they stood. `times` are cells whose value triggers take from the clock.
    """

    dry_runs: DryRuns
    caller: Caller
    dry_run_id: str
    proposal: Proposal
    aims: dict[Place, Cells | None] = field(default_factory=dict)
    times: dict[Place, frozenset[str]] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    steps: int = 0

    def prepare(self, *, anyway: bool) -> list[LaterEdit]:
        """Reads the frozen rows and the shadow's. Raises EditedSince unless `anyway`."""
        frozen = list(self.dry_runs.control.proposal_rows(self.proposal.id))
        later = self._on_shadow(lambda shadow: self._read(shadow, frozen))
        if later and not anyway:
            raise EditedSince(self.proposal.id, later)
        return later

    def _read(self, shadow: Shadow, frozen: Sequence[FrozenRow]) -> list[LaterEdit]:
        now, fence = Now(shadow), shadow.fence
        clock = now.clock(str((self.proposal.receipt or {})["applied_at"]))
        wanted = list(put_backs(fence, self.proposal, frozen))
        drawn = [row for row in wanted if not row.drawn.isdisjoint(fence.tables[row.table].table.key)]
        known, self.lost = drawn_keys(fence, drawn, now, clock)
        rows = [row for row in wanted if row.drawn.isdisjoint(fence.tables[row.table].table.key)] + known
        present = now.rows((row.table, row.key) for row in rows)
        later: list[LaterEdit] = []
        for row in rows:
            now_there = present.get((row.table, row.key))
            place = row.table, row.key if now_there is None else now.key(row.table, now_there)
            later += edited(fence, row, now_there, clock)
            self.aims[place] = aim(row, now_there)
            self.times[place] = row.clocks if fence.tables[row.table].table.triggers else frozenset()
        deletes = [op for op in self._missing(shadow) if op.kind == "delete"]
        return [*later, *now.referring(deletes, set(self.aims))]

    def _missing(self, shadow: Shadow) -> list[Op]:
        """What rows still need; tables that no statement may name are left out."""
        now = Now(shadow)
        self.aims.update({p: c for p, c in now.touched().items() if p not in self.aims and c is not None})
        present, rule = now.rows(self.aims), ClockRule(clocks=now.clocks(), set_columns=self._set_columns())
        found = []
        for place, wanted in self.aims.items():
            table = shadow.fence.tables[place[0]]
            times = self.times.get(place, frozenset())
            op = needed(table, place[1], present.get(place), wanted, times, rule) if table.writable else None
            if op is not None:
                found.append(op)
        return found

    def _set_columns(self) -> frozenset[tuple[str, str]]:
        """(table, column) of what the proposal's own statements set: today's date there may be theirs."""
        return frozenset((table, column) for table, column in self.proposal.frozen.get("set_columns", ()))

    def run(self, *, anyway: bool) -> None:
        """Writes the inverse round by round until every row is as it should be, or nothing more can be done.

        The first round leaves updates out that triggers may make by themselves. Raises WrongState when there is
        nothing to write.
        """
        before: list[Op] = []
        for number in range(_ROUNDS):
            ops = self._on_shadow(self._missing)
            if not ops or (number > 1 and _same(ops, before)):
                break
            try:
                self._write_all(self._on_shadow(partial(_ordered, ops=ops, lazy=number == 0)), anyway=anyway)
            except StatementFailed as error:
                if number > 0 or not error.taken:  # else an update that was left out may free the value
                    raise
            before = ops
        if self.steps == 0:
            raise WrongState(
                f"Every row of proposal {self.proposal.id} that statements can reach is already as it was.",
                "No dry run was kept.",
                "There is nothing to put back.",
            )

    def _write_all(self, batches: Sequence[Batch], *, anyway: bool) -> None:
        """The batches in their order; one that meets a value still taken is put off, in halves, as long as that helps.

        No order is known beforehand where uniqueness is of a part of the rows, of an expression, or an exclusion.
        """
        left, tries = list(batches), 0
        while left:
            put_off: list[Batch] = []
            refusal: StatementFailed | None = None
            for batch in left:
                try:
                    self._write(batch, anyway=anyway)
                except StatementFailed as error:
                    tries += 1
                    # what comes later may wait for what was put off
                    if not (error.taken or put_off) or tries > MAX_BATCHES:
                        raise
                    put_off += _halves(batch)
                    refusal = refusal or error
            if refusal and len(put_off) == len(left) and all(len(batch.rows) == 1 for batch in left):
                raise refusal
            left = put_off

    def _write(self, batch: Batch, *, anyway: bool) -> None:
        """One batch as recorded steps; rows that already are as the batch wants them are left out."""
        fence, batch = self._on_shadow(lambda shadow: (shadow.fence, _open(shadow, batch)))
        for text, params, rows in statements(fence, batch):
            self.dry_runs.run(
                self.caller, self.dry_run_id, text,
                f"revert {self.proposal.id}: {batch.kind} {_count(rows)} of {batch.table}",
                params, tool=REVERT, arguments={"proposal_id": self.proposal.id, "anyway": anyway},
            )  # fmt: skip
            self.steps += 1

    def not_put_back(self) -> tuple[str, ...]:
        """What statements could not bring back, and what the inverse's own triggers do besides."""
        return self._on_shadow(lambda shadow: tuple(self._told(shadow)))

    def _told(self, shadow: Shadow) -> Iterator[str]:
        now = Now(shadow)
        added = [place for place, cells in now.touched().items() if cells is None and place not in self.aims]
        present = now.rows([*self.aims, *added])
        yield from _differing(self.aims, self.times, present)
        for name, rows in sorted(Counter(name for name, key in added if (name, key) in present).items()):
            yield f"{name}: triggers add {_count(rows)} when the inverse runs."
        for name, rows in sorted(self.lost.items()):
            yield f"{name}: {_count(rows)} that triggers made cannot be told from others, and stay."
        for table in Diff.from_json(self.proposal.diff).tables:
            if table.sink:
                yield f"{table.table}: {_count(table.rows)} that triggers wrote as side effects, and stay."

    def view(self) -> DryRunView:
        """The dry run as it now stands."""
        return self.dry_runs.view(self.dry_runs.control.dry_run(self.dry_run_id))

    def _on_shadow(self, work: Callable[[Shadow], T]) -> T:
        dry_run = self.dry_runs.editable(self.caller, self.dry_run_id)
        return self.dry_runs.on_shadow(dry_run, lambda shadow, _steps: work(shadow))


def aim(row: PutBack, now: Cells | None) -> Cells | None:
    """How a row should end: what the proposal changed as it was before, everything else as it stands.

    A row that the proposal only changed and that was deleted since stays deleted.
    """
    if row.then is None or (now is None and row.confirmed is not None):
        return None
    if now is None:
        return row.then
    changed = {c: v for c, v in row.then.items() if c in now and (row.confirmed is None or row.confirmed[c] != v)}
    return {**now, **changed}


def needed(
    table: FencedTable, key: tuple[str, ...], now: Cells | None, wanted: Cells | None, times: frozenset[str],
    rule: ClockRule,
) -> Op | None:  # fmt: skip
    """What a row needs to end as wanted; None when it is so. Cells that triggers take from the clock are left."""
    if wanted is None:
        return None if now is None else Op(kind="delete", table=table.table.name, key=key, now=now, then=None)
    columns = {c.name: c.type for c in table.table.columns if not c.generated and c.name in wanted}
    if now is None:
        named = settable(table, tuple(columns))
        return Op(kind="insert", table=table.table.name, key=key, now=None, then=wanted, columns=named)
    ticking = table.table.triggers
    differing = tuple(
        name
        for name, type_name in columns.items()
        if now[name] != wanted[name]
        and name not in times
        and not (ticking and now[name] in rule.texts(table.table.name, Column(name=name, type=type_name)))
    )
    if not differing:
        return None
    return Op(kind="update", table=table.table.name, key=key, now=now, then=wanted, columns=differing)


def _ordered(shadow: Shadow, ops: Sequence[Op], lazy: bool) -> list[Batch]:
    return order(shadow.fence, ops, lazy=lazy, largest=Now(shadow).largest)


def _same(ops: Sequence[Op], before: Sequence[Op]) -> bool:
    return {(op.kind, op.table, op.key, op.columns) for op in ops} == {
        (op.kind, op.table, op.key, op.columns) for op in before
    }


def _open(shadow: Shadow, batch: Batch) -> Batch:
    """The batch without rows that a trigger or cascade has already brought there."""
    present = Now(shadow).rows((batch.table, key) for key, _ in batch.rows)
    rows = []
    for key, cells in batch.rows:
        now = present.get((batch.table, key))
        done = now is None if batch.kind != "insert" else now is not None
        if not done and not (batch.kind == "update" and now is not None and _holds(now, cells)):
            rows.append((key, cells))
    return replace(batch, rows=tuple(rows))


def _halves(batch: Batch) -> list[Batch]:
    """The batch in two, which may fare differently; one of a single row as it is."""
    middle = len(batch.rows) // 2
    return [replace(batch, rows=rows) for rows in (batch.rows[:middle], batch.rows[middle:]) if rows]


def _holds(now: Cells, cells: Cells) -> bool:
    return all(now[column] == value for column, value in cells.items())


def _differing(
    aims: Mapping[Place, Cells | None], times: Mapping[Place, frozenset[str]], present: Mapping[Place, Cells]
) -> Iterator[str]:
    """Sentences by table and column about rows and cells that do not end as they should."""
    found: Counter[str] = Counter()
    for (name, key), wanted in aims.items():
        now = present.get((name, key))
        if wanted is None or now is None:
            if (wanted is None) != (now is None):
                found[f"{name}: rows that would be {'there still' if wanted is None else 'missing'}"] += 1
            continue
        ticking = times.get((name, key), frozenset())
        for column, value in wanted.items():
            if column in ticking or now.get(column, value) != value:
                why = "is set by triggers" if column not in ticking else "holds the time of the change"
                found[f"{name}.{column} {why} and cannot be put back"] += 1
    for sentence, count in sorted(found.items()):
        yield f"{sentence} ({_count(count)})."


def _count(rows: int) -> str:
    return f"{rows:,} row" if rows == 1 else f"{rows:,} rows"
