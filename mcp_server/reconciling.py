"""Asks production what became of replays whose answer was lost; the housekeeping of every process with pages calls it.

A person who opens the proposal does the same (`Confirming.reconcile`); this finds those that nobody opens.
"""

from contextlib import suppress
from functools import partial

from mcp_server.desk import Desk
from mcp_server.errors import WrongState
from mcp_server.governed import Governor
from shadow.errors import OutcomeUnknown, ReplayPostponed

_WITHOUT_ANSWER = ("replaying", "unknown")


def reconcile_unknown(desk: Desk, governor: Governor) -> list[str]:
    """Settles every replay that no session works on any more; returns the ids of those settled.

    One that is still under way, or whose production cannot be reached, is left for the next round. Each is audited.
    """
    if not desk.confirms:
        return []
    settled = []
    for state in _WITHOUT_ANSWER:
        for dry_run in desk.control.list_dry_runs(state=state, limit=1000):
            proposal = desk.control.latest_proposal(dry_run.id)
            if proposal is None or proposal.state not in _WITHOUT_ANSWER:
                continue
            with suppress(OutcomeUnknown):
                # settled as well: production never committed it, or another replica was faster
                with suppress(ReplayPostponed, WrongState):
                    governor.by_itself("reconcile", {"proposal_id": proposal.id}, partial(desk.reconcile, proposal.id))
                settled.append(proposal.id)
    return settled
