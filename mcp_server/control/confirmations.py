"""Confirmations and what became of the replay they allow, in the control store; part of `store.ControlStore`."""

from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select, update

from mcp_server.control.connections import transaction
from mcp_server.control.dry_runs import move_dry_run
from mcp_server.control.proposals import lock_dry_run_of, move_proposal
from mcp_server.control.records import Confirmation
from mcp_server.control.states import UNDECIDED, DryRunState, ProposalState
from mcp_server.control.tables import CONFIRMATIONS, ESCALATIONS, PROPOSALS
from mcp_server.errors import WrongState

_UNDER_WAY = (ProposalState.REPLAYING, ProposalState.UNKNOWN)
#: Where production's receipt is believed, whatever we thought of the replay.
_BELIEVED = (*_UNDER_WAY, ProposalState.CONFIRMED, *UNDECIDED)
_UNDECIDED_RUN = (DryRunState.PROPOSED, DryRunState.ESCALATED)


class ConfirmationTable:
    """Confirmations and replays, one short transaction per method."""

    _engine: Engine

    def add_confirmation(self, confirmation: Confirmation) -> None:
        """Stores a person's yes; an earlier one of the same proposal that was not used is withdrawn.

        Raises ConfirmationRefused unless digest, tenant and rows are the proposal's and it waits for a person.
        """
        with transaction(self._engine) as connection:
            lock_dry_run_of(connection, confirmation.proposal_id)
            unused = _unused(confirmation.proposal_id)
            connection.execute(update(CONFIRMATIONS).where(*unused).values(withdrawn_at=func.now()))
            connection.execute(insert(CONFIRMATIONS), [vars(confirmation)])

    def use_confirmation(self, proposal_id: str, digest: str, *, person: str | None = None) -> bool:
        """Uses up the yes, once: True for one caller, whose replay begins; False where there is none to use.

        With `person`, only that person's own.
        """
        with transaction(self._engine) as connection:
            dry_run_id = lock_dry_run_of(connection, proposal_id)
            mine = () if person is None else (CONFIRMATIONS.c.person == person,)
            usable = (*_unused(proposal_id), CONFIRMATIONS.c.digest == digest, CONFIRMATIONS.c.expires_at > func.now())
            used = update(CONFIRMATIONS).where(*usable, *mine).values(used_at=func.now())
            if connection.execute(used).rowcount == 0:
                return False
            return _begin_replay(connection, proposal_id, dry_run_id)

    def attempt(self, proposal_id: str) -> int | None:
        """The number of the yes that began the proposal's latest replay; None where none was used yet."""
        with transaction(self._engine) as connection:
            return _attempt(connection, proposal_id)

    def end_replay(
        self,
        proposal_id: str,
        outcome: str,
        message: str | None,
        *,
        receipt: dict[str, Any] | None = None,
        attempt: int | None = None,
    ) -> None:
        """Records how the replay ended, on proposal and dry run: 'applied' (with production's receipt), 'drifted',
        'diverged', 'unknown', or 'postponed': nothing was applied and it waits for a person's yes again.

        Saying the same again changes nothing. Raises WrongState where no replay is under way, or with `attempt` where
        a later one is; a receipt is believed in any state but an end.
        """
        with transaction(self._engine) as connection:
            dry_run_id = lock_dry_run_of(connection, proposal_id)
            if attempt is not None and _attempt(connection, proposal_id) != attempt:
                raise _not_under_way(proposal_id)
            proposal, dry_run = _ends(connection, proposal_id, outcome)
            under_way = _BELIEVED if outcome == "applied" else _UNDER_WAY
            if _state(connection, proposal_id) == proposal:
                return
            if not move_proposal(connection, proposal_id, proposal, under_way, message=message, receipt=receipt):
                raise _not_under_way(proposal_id)
            before = (DryRunState.REPLAYING, DryRunState.UNKNOWN, DryRunState.CONFIRMED, *_UNDECIDED_RUN)
            move_dry_run(connection, dry_run_id, dry_run, before)


def _attempt(connection: Connection, proposal_id: str) -> int | None:
    rows = CONFIRMATIONS.c
    used = select(func.max(rows.id)).where(rows.proposal_id == proposal_id, rows.used_at.is_not(None))
    number: int | None = connection.execute(used).scalar_one()
    return number


def _not_under_way(proposal_id: str) -> WrongState:
    return WrongState(
        f"No replay of proposal {proposal_id} is under way.",
        "Nothing was recorded.",
        "Look at its page: it says what happened.",
    )


def _unused(proposal_id: str) -> tuple[Any, ...]:
    rows = CONFIRMATIONS.c
    return rows.proposal_id == proposal_id, rows.used_at.is_(None), rows.withdrawn_at.is_(None)


def _begin_replay(connection: Connection, proposal_id: str, dry_run_id: str) -> bool:
    """Both through 'confirmed' to 'replaying', in the transaction that used the yes up."""
    if not move_proposal(connection, proposal_id, ProposalState.CONFIRMED, UNDECIDED):
        raise WrongState(
            f"Proposal {proposal_id} waits for no confirmation.",
            "Nothing was replayed; production is as it was.",
            "Look at its page: it says what happened.",
        )
    move_dry_run(connection, dry_run_id, DryRunState.CONFIRMED, _UNDECIDED_RUN)
    begun = move_proposal(connection, proposal_id, ProposalState.REPLAYING, ProposalState.CONFIRMED)
    return begun and move_dry_run(connection, dry_run_id, DryRunState.REPLAYING, DryRunState.CONFIRMED)


def _ends(connection: Connection, proposal_id: str, outcome: str) -> tuple[str, str]:
    """The states of proposal and dry run after the replay; a postponed one goes back to where it was confirmed."""
    if outcome != "postponed":
        return ProposalState(outcome), DryRunState(outcome)
    latest = select(ESCALATIONS.c.verdict).where(ESCALATIONS.c.proposal_id == proposal_id)
    verdicts = connection.execute(latest.order_by(ESCALATIONS.c.id.desc()).limit(1)).scalars().all()
    if not verdicts:
        return ProposalState.PENDING, DryRunState.PROPOSED
    asked = select(func.count()).where(ESCALATIONS.c.proposal_id == proposal_id, ESCALATIONS.c.question.is_not(None))
    dry_run = DryRunState.ESCALATED if connection.execute(asked).scalar_one() else DryRunState.PROPOSED
    return (ProposalState.APPROVED if verdicts[0] else ProposalState.ESCALATED), dry_run


def _state(connection: Connection, proposal_id: str) -> str:
    state: str = connection.execute(select(PROPOSALS.c.state).where(PROPOSALS.c.id == proposal_id)).scalar_one()
    return state
