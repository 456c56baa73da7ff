"""Dry runs and their statements in the control store; part of `store.ControlStore`."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Select, func, insert, select, update

from audit.canonical import tagged, untagged
from mcp_server.control.connections import transaction
from mcp_server.control.records import DryRun, Statement
from mcp_server.control.states import UNDECIDED, DryRunState, ProposalState
from mcp_server.control.tables import DRY_RUNS, PROPOSALS, STATEMENTS
from mcp_server.errors import NotFound

_EDITABLE = (DryRunState.PROPOSED, DryRunState.ESCALATED)
#: What becomes of an undecided proposal when its dry run moves to one of these.
_TAKES_ALONG = {
    DryRunState.OPEN: ProposalState.WITHDRAWN,
    DryRunState.DISCARDED: ProposalState.WITHDRAWN,
    DryRunState.EXPIRED: ProposalState.EXPIRED,
}


class DryRunTable:
    """Dry runs, one short transaction per method."""

    _engine: Engine

    def create_dry_run(self, dry_run: DryRun) -> DryRun:
        """Stores a new dry run, which begins open."""
        with transaction(self._engine) as connection:
            connection.execute(insert(DRY_RUNS), [vars(dry_run)])
        return dry_run

    def dry_run(self, dry_run_id: str) -> DryRun:
        """The dry run as it stands. Raises NotFound."""
        with transaction(self._engine) as connection:
            row = connection.execute(select(DRY_RUNS).where(DRY_RUNS.c.id == dry_run_id)).mappings().first()
        if row is None:
            raise NotFound(f"There is no dry run {dry_run_id!r}.", "Nothing was read.", "See list_dry_runs.")
        return DryRun(**row)

    def list_dry_runs(self, *, state: str | None = None, rep: str | None = None, limit: int = 20) -> list[DryRun]:
        """The newest first; None asks for any state, anybody's."""
        query = select(DRY_RUNS).order_by(DRY_RUNS.c.created_at.desc(), DRY_RUNS.c.id).limit(limit)
        if state is not None:
            query = query.where(DRY_RUNS.c.state == state)
        if rep is not None:
            query = query.where(DRY_RUNS.c.rep == rep)
        with transaction(self._engine) as connection:
            return [DryRun(**row) for row in connection.execute(query).mappings()]

    def open_dry_runs(self, rep: str) -> int:
        """How many of the rep's dry runs are open, proposed or escalated: each holds a shadow."""
        held = DRY_RUNS.c.state.in_((DryRunState.OPEN, *_EDITABLE))
        query = select(func.count()).where(DRY_RUNS.c.rep == rep, held, DRY_RUNS.c.expires_at > func.now())
        with transaction(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def set_dry_run_state(
        self, dry_run_id: str, new: str, expected_old: str | tuple[str, ...], *, reason: str | None = None
    ) -> bool:
        """Moves the dry run if it is in one of the expected states; False, and nothing done, if it is not.

        Opening or discarding withdraws its undecided proposal, expiring expires it. `reason` is kept with a
        discarded one. Raises WrongState where the move is not a legal one.
        """
        with transaction(self._engine) as connection:
            moved = move_dry_run(connection, dry_run_id, new, expected_old, reason=reason)
            if moved and new in _TAKES_ALONG:
                _take_along(connection, dry_run_id, _TAKES_ALONG[DryRunState(new)])
        return moved

    def reopen_dry_run(self, dry_run_id: str) -> None:
        """Opens a proposed or escalated dry run for further edits and withdraws its proposal; an open one stays."""
        with transaction(self._engine) as connection:
            reopen(connection, dry_run_id)

    def update_shadow(
        self, dry_run_id: str, *, shadow_id: str | None, snapshot_id: str | None, mirror_version: str | None,
        fence_hash: str | None, base_at: datetime | None,
    ) -> None:  # fmt: skip
        """The dry run goes on, on another shadow."""
        values = {
            "shadow_id": shadow_id, "snapshot_id": snapshot_id, "mirror_version": mirror_version,
            "fence_hash": fence_hash, "base_at": base_at,
        }  # fmt: skip
        with transaction(self._engine) as connection:
            connection.execute(update(DRY_RUNS).where(DRY_RUNS.c.id == dry_run_id).values(values))

    def add_statement(self, statement: Statement) -> None:
        """Keeps one more step; a proposed or escalated dry run is opened again by it.

        Raises WrongState where the dry run may not be edited, or the step is there already.
        """
        with transaction(self._engine) as connection:
            reopen(connection, statement.dry_run_id)
            connection.execute(insert(STATEMENTS), [_to_row(statement)])

    def statements(self, dry_run_id: str) -> list[Statement]:
        """The kept statements in step order."""
        kept = STATEMENTS.c.undone_at.is_(None)
        query = select(STATEMENTS).where(STATEMENTS.c.dry_run_id == dry_run_id, kept)
        return self._statements(query.order_by(STATEMENTS.c.step))

    def undo_statements(self, dry_run_id: str, above_step: int) -> int:
        """Undoes the kept steps above `above_step` and says how many; the rows stay, marked.

        A proposed or escalated dry run is opened again by it. Raises WrongState where it may not be edited.
        """
        kept = STATEMENTS.c.undone_at.is_(None)
        above = (STATEMENTS.c.dry_run_id == dry_run_id, STATEMENTS.c.step > above_step, kept)
        with transaction(self._engine) as connection:
            reopen(connection, dry_run_id)
            return connection.execute(update(STATEMENTS).where(*above).values(undone_at=datetime.now(UTC))).rowcount

    def _statements(self, query: Select[Any]) -> list[Statement]:
        with transaction(self._engine) as connection:
            return [_statement(row) for row in connection.execute(query).mappings()]


def move_dry_run(
    connection: Connection, dry_run_id: str, new: str, expected: str | tuple[str, ...], *, reason: str | None = None
) -> bool:
    """Compare-and-set of the state in one UPDATE; for the store's own transactions."""
    old = (expected,) if isinstance(expected, str) else expected
    values = {"state": str(new)} | ({} if reason is None else {"discarded_reason": reason})
    query = update(DRY_RUNS).where(DRY_RUNS.c.id == dry_run_id, DRY_RUNS.c.state.in_(old)).values(values)
    return connection.execute(query).rowcount == 1


def lock_dry_run(connection: Connection, dry_run_id: str) -> str | None:
    """The dry run's state, held until commit: whoever changes several tables comes through here first."""
    query = select(DRY_RUNS.c.state).where(DRY_RUNS.c.id == dry_run_id).with_for_update()
    return connection.execute(query).scalar_one_or_none()


def reopen(connection: Connection, dry_run_id: str) -> None:
    """Opens a proposed or escalated dry run and withdraws its proposal; any other stays as it is."""
    lock_dry_run(connection, dry_run_id)
    if move_dry_run(connection, dry_run_id, DryRunState.OPEN, _EDITABLE):
        _take_along(connection, dry_run_id, ProposalState.WITHDRAWN)


def _take_along(connection: Connection, dry_run_id: str, state: ProposalState) -> None:
    undecided = (PROPOSALS.c.dry_run_id == dry_run_id, PROPOSALS.c.state.in_(UNDECIDED))
    connection.execute(update(PROPOSALS).where(*undecided).values(state=str(state)))


def _to_row(statement: Statement) -> dict[str, Any]:
    lists = {"params": list(statement.params), "pins": list(statement.pins), "warnings": list(statement.warnings)}
    arguments = None if statement.arguments is None else tagged(statement.arguments)
    return {**vars(statement), **lists, "defaults": dict(statement.defaults), "arguments": arguments}


def _statement(row: RowMapping) -> Statement:
    values = {name: value for name, value in row.items() if name != "id"}
    values |= {name: tuple(values[name]) for name in ("params", "pins", "warnings")}
    values["arguments"] = untagged(values["arguments"])
    return Statement(**values)
