"""Proposals, their rows and statements, questions and answers in the control store; part of `store.ControlStore`."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import rfc8785
from sqlalchemy import Connection, Engine, RowMapping, Select, insert, literal, select, update

from differ.model import CellKind, FrozenRow
from mcp_server.control.connections import transaction
from mcp_server.control.dry_runs import DryRunTable, lock_dry_run, move_dry_run, reopen
from mcp_server.control.records import Escalation, Proposal, Statement
from mcp_server.control.states import UNDECIDED, DryRunState, ProposalState
from mcp_server.control.tables import (
    DRY_RUNS,
    ESCALATIONS,
    PROPOSAL_ROWS,
    PROPOSAL_STATEMENTS,
    PROPOSALS,
    STATEMENTS,
)
from mcp_server.errors import NotFound, WrongState

_PAGE = 1000


class ProposalTable(DryRunTable):
    """Proposals, one short transaction per method."""

    _engine: Engine

    def create_proposal(self, proposal: Proposal, rows: Iterable[FrozenRow]) -> None:
        """Freezes the proposal with the kept statements and its rows, all or nothing; the dry run is proposed by it.

        An earlier proposal that nobody decided is withdrawn. Raises WrongState where the dry run may not be proposed.
        """
        values = {
            **vars(proposal),
            "header": rfc8785.dumps(proposal.header).decode(),
            "reasons": list(proposal.reasons),
        }
        tenant = select(DRY_RUNS.c.tenant_key).where(DRY_RUNS.c.id == proposal.dry_run_id).scalar_subquery()
        with transaction(self._engine) as connection:
            reopen(connection, proposal.dry_run_id)
            if not move_dry_run(connection, proposal.dry_run_id, DryRunState.PROPOSED, DryRunState.OPEN):
                raise _not_now("proposed")
            connection.execute(insert(PROPOSALS).values({**values, "tenant_key": tenant}))
            _freeze_statements(connection, proposal)
            _copy_rows(connection, proposal.id, rows)

    def proposal(self, proposal_id: str) -> Proposal:
        """The proposal as it stands. Raises NotFound."""
        found = self._proposal(select(PROPOSALS).where(PROPOSALS.c.id == proposal_id))
        if found is None:
            raise NotFound(f"There is no proposal {proposal_id!r}.", "Nothing was read.", "See list_dry_runs.")
        return found

    def latest_proposal(self, dry_run_id: str) -> Proposal | None:
        """The dry run's newest proposal, whatever became of it."""
        query = select(PROPOSALS).where(PROPOSALS.c.dry_run_id == dry_run_id)
        return self._proposal(query.order_by(PROPOSALS.c.number.desc()).limit(1))

    def proposal_statements(self, proposal_id: str) -> list[Statement]:
        """The statements the proposal froze, in step order, undone since or not."""
        query = select(STATEMENTS).join(PROPOSAL_STATEMENTS, PROPOSAL_STATEMENTS.c.statement_id == STATEMENTS.c.id)
        return self._statements(
            query.where(PROPOSAL_STATEMENTS.c.proposal_id == proposal_id).order_by(STATEMENTS.c.step)
        )

    def proposal_rows(self, proposal_id: str) -> Iterator[FrozenRow]:
        """Every frozen row in the order it was given, read page by page."""
        rows = PROPOSAL_ROWS.c
        patterns: dict[tuple[CellKind, ...], tuple[CellKind, ...]] = {}
        after = 0
        while True:
            query = select(PROPOSAL_ROWS).where(rows.proposal_id == proposal_id, rows.ordinal > after)
            with transaction(self._engine) as connection:
                page = connection.execute(query.order_by(rows.ordinal).limit(_PAGE)).mappings().all()
            yield from (_frozen_row(row, patterns) for row in page)
            if len(page) < _PAGE:
                return
            after = page[-1]["ordinal"]

    def set_proposal_state(
        self, proposal_id: str, new: str, expected_old: str | tuple[str, ...], *, message: str | None = None
    ) -> bool:
        """Moves the proposal if it is in one of the expected states; False, and nothing done, if it is not.

        The dry run stays where it is. Raises WrongState where the move is not a legal one.
        """
        with transaction(self._engine) as connection:
            return move_proposal(connection, proposal_id, new, expected_old, message=message)

    def escalate(self, escalation: Escalation) -> None:
        """Puts the question; proposal and dry run are escalated by it. Raises WrongState unless it is pending."""
        proposal_id = escalation.proposal_id
        with transaction(self._engine) as connection:
            lock_dry_run(connection, escalation.dry_run_id)
            connection.execute(insert(ESCALATIONS), [vars(escalation)])
            asked = move_proposal(connection, proposal_id, ProposalState.ESCALATED, ProposalState.PENDING)
            if not asked or not move_dry_run(
                connection, escalation.dry_run_id, DryRunState.ESCALATED, DryRunState.PROPOSED
            ):
                raise _not_now("escalated")

    def escalation(self, proposal_id: str) -> Escalation | None:
        """The proposal's latest question or answer."""
        query = select(ESCALATIONS).where(ESCALATIONS.c.proposal_id == proposal_id)
        with transaction(self._engine) as connection:
            row = connection.execute(query.order_by(ESCALATIONS.c.id.desc()).limit(1)).mappings().first()
        return None if row is None else Escalation(**{name: value for name, value in row.items() if name != "id"})

    def answer(self, proposal_id: str, person: str, verdict: str, comment: str) -> None:
        """Answers the open question, or decides without one. 'rejected' ends proposal and dry run.

        Raises WrongState where the proposal waits for no answer; an approved one can still be rejected.
        """
        answer = {"answered_by": person, "verdict": verdict, "comment": comment, "answered_at": datetime.now(UTC)}
        waiting = UNDECIDED if verdict == "rejected" else (ProposalState.PENDING, ProposalState.ESCALATED)
        with transaction(self._engine) as connection:
            dry_run_id = lock_dry_run_of(connection, proposal_id)
            if not move_proposal(connection, proposal_id, verdict, waiting):
                raise _not_now(verdict)
            if verdict == "rejected":
                move_dry_run(
                    connection, dry_run_id, DryRunState.REJECTED, (DryRunState.PROPOSED, DryRunState.ESCALATED)
                )
            unanswered = (ESCALATIONS.c.proposal_id == proposal_id, ESCALATIONS.c.verdict.is_(None))
            if connection.execute(update(ESCALATIONS).where(*unanswered).values(answer)).rowcount == 0:
                row = {"dry_run_id": dry_run_id, "proposal_id": proposal_id, **answer}
                connection.execute(insert(ESCALATIONS).values(row))

    def _proposal(self, query: Select[Any]) -> Proposal | None:
        with transaction(self._engine) as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else _record(row)


def move_proposal(
    connection: Connection, proposal_id: str, new: str, expected: str | tuple[str, ...], *, message: str | None = None,
    receipt: dict[str, Any] | None = None,
) -> bool:  # fmt: skip
    """Compare-and-set of the state in one UPDATE; for the store's own transactions."""
    old = (expected,) if isinstance(expected, str) else expected
    values: dict[str, Any] = {"state": str(new)}
    if message is not None:
        values["outcome_message"] = message
    if receipt is not None:
        values["receipt"] = receipt
    query = update(PROPOSALS).where(PROPOSALS.c.id == proposal_id, PROPOSALS.c.state.in_(old)).values(values)
    return connection.execute(query).rowcount == 1


def lock_dry_run_of(connection: Connection, proposal_id: str) -> str:
    """The id of the proposal's dry run, which is locked until commit. Raises NotFound."""
    query = select(PROPOSALS.c.dry_run_id).where(PROPOSALS.c.id == proposal_id)
    dry_run_id: str | None = connection.execute(query).scalar_one_or_none()
    if dry_run_id is None:
        raise NotFound(f"There is no proposal {proposal_id!r}.", "Nothing was changed.", "See list_dry_runs.")
    lock_dry_run(connection, dry_run_id)
    return dry_run_id


def _freeze_statements(connection: Connection, proposal: Proposal) -> None:
    kept = select(literal(proposal.id), STATEMENTS.c.id, STATEMENTS.c.dry_run_id).where(
        STATEMENTS.c.dry_run_id == proposal.dry_run_id, STATEMENTS.c.undone_at.is_(None)
    )
    connection.execute(insert(PROPOSAL_STATEMENTS).from_select(["proposal_id", "statement_id", "dry_run_id"], kept))


def _copy_rows(connection: Connection, proposal_id: str, rows: Iterable[FrozenRow]) -> None:
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    target = "COPY control.proposal_rows (proposal_id, ordinal, table_name, key, before, after, kinds) FROM STDIN"
    with driver.cursor() as cursor, cursor.copy(target) as copy:
        for ordinal, row in enumerate(rows, 1):
            images = (None if image is None else list(image) for image in (row.before, row.after))
            copy.write_row((proposal_id, ordinal, row.table, list(row.key), *images, list(row.kinds)))


def _frozen_row(row: RowMapping, patterns: dict[tuple[CellKind, ...], tuple[CellKind, ...]]) -> FrozenRow:
    """`patterns`: the kinds that rows share, kept once each."""
    before, after = (None if image is None else tuple(image) for image in (row["before"], row["after"]))
    kinds = tuple(row["kinds"])
    return FrozenRow(
        table=row["table_name"], key=tuple(row["key"]), before=before, after=after,
        kinds=patterns.setdefault(kinds, kinds),
    )  # fmt: skip


def _record(row: RowMapping) -> Proposal:
    values = {name: value for name, value in row.items() if name not in ("number", "tenant_key")}
    values["header"] = json.loads(values["header"])
    values["reasons"] = tuple(values["reasons"])
    return Proposal(**values)


def _not_now(wanted: str) -> WrongState:
    return WrongState(
        f"The dry run or its proposal is in a state that does not let it become {wanted}.",
        "Nothing was changed.",
        "Look at its status; somebody may have decided or edited it meanwhile.",
    )
