"""Ends dry runs whose time is over; each process' housekeeping calls it now and then."""

from datetime import UTC, datetime

from mcp_server.control.store import ControlStore

#: States in which a dry run still waits for somebody.
_WAITING = ("open", "proposed", "escalated")


def expire_overdue(control: ControlStore) -> list[str]:
    """Moves overdue dry runs (and with them their undecided proposals) to expired; returns their ids.

    A proposal outlives its shadow: what it needs is frozen, so it keeps its dry run from expiring until its own
    time is over.
    """
    now = datetime.now(UTC)
    ended = []
    for state in _WAITING:
        for dry_run in control.list_dry_runs(state=state, limit=1000):
            proposal = control.latest_proposal(dry_run.id) if state != "open" else None
            until = max(dry_run.expires_at, proposal.expires_at) if proposal else dry_run.expires_at
            if until < now and control.set_dry_run_state(dry_run.id, "expired", state):
                ended.append(dry_run.id)
    return ended
