"""The verdict from outside, over plain connections: production's rows and receipts, the control's state, the audit."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from audit.closing import Closing
from audit.errors import AuditError
from audit.event import AuditEvent
from audit.store import AuditStore
from audit.verify import verify_store
from mcp_server.control.connections import audit_pool
from tests.faults.replica import Waiting
from tests.faults.servers import Servers

#: Where a reconciled proposal may stand.
OVER = ("applied", "rejected", "pending")


@dataclass(frozen=True, kw_only=True)
class Marker:
    """The rows of one injection: `changed` get the mark, one is added, `deleted` goes."""

    name: str
    changed: tuple[int, int]
    deleted: int

    @property
    def statements(self) -> list[str]:
        """What is rehearsed and replayed."""
        ids = ", ".join(map(str, self.changed))
        return [
            f"UPDATE notes SET body = body || ' done', times = times + 1 WHERE id IN ({ids})",
            f"INSERT INTO notes (tenant_id, body) VALUES (1, '{self.name} new')",
            f"DELETE FROM notes WHERE id = {self.deleted}",
        ]


def mark(servers: Servers, name: str) -> Marker:
    """Three fresh rows on production, named after the injection."""
    first, second, third = (
        int(row[0])
        for row in servers.rows(
            "production",
            "INSERT INTO notes (tenant_id, body) SELECT 1, %s || ' ' || n FROM unnest('{a,b,c}'::text[]) n RETURNING id",
            name,
        )
    )
    return Marker(name=name, changed=(first, second), deleted=third)


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What production and control show at one moment."""

    rows: str
    receipts: int
    times_acted: int
    state: str
    dry_run_state: str

    @property
    def applied(self) -> bool:
        """Production holds the whole effect, once, with its receipt."""
        return self.rows == "after" and self.receipts == 1 and self.times_acted == 1

    @property
    def untouched(self) -> bool:
        """Production holds nothing of it."""
        return self.rows == "before" and self.receipts == 0 and self.times_acted == 0

    @property
    def settled(self) -> bool:
        """Control says what production shows."""
        if self.state == "applied":
            return self.applied and self.dry_run_state == "applied"
        return self.state in OVER and self.untouched


def look(servers: Servers, marker: Marker, waiting: Waiting) -> Sight:
    """Looks at both servers."""
    found = servers.rows(
        "production", "SELECT body, times FROM notes WHERE body LIKE %s ORDER BY body", marker.name + " %"
    )
    name = marker.name
    before = [(f"{name} a", 0), (f"{name} b", 0), (f"{name} c", 0)]
    after = [(f"{name} a done", 1), (f"{name} b done", 1), (f"{name} new", 0)]
    rows = {"before": before, "after": after}
    [(receipts,)] = servers.rows(
        "production", "SELECT count(*) FROM shadowdesk.receipts WHERE proposal_id = %s", waiting.id
    )
    acted = servers.rows(
        "production", "SELECT count(*) FROM history WHERE body LIKE %s GROUP BY body", marker.name + " %"
    )
    [(state, dry_run_state)] = servers.rows(
        "control",
        "SELECT p.state, d.state FROM control.proposals p JOIN control.dry_runs d ON d.id = p.dry_run_id"
        " WHERE p.id = %s",
        waiting.id,
    )
    return Sight(
        rows=next((name for name, wanted in rows.items() if wanted == found), f"neither: {found}"),
        receipts=int(receipts), times_acted=max((int(n) for (n,) in acted), default=0), state=state,
        dry_run_state=dry_run_state,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trail:
    """The audit of one injection's confirms: `open` intents have no outcome; a later event of the proposal closes it."""

    intents: int
    outcomes: int
    open: int
    closed_later: bool
    said: tuple[str, ...] = field(default=())


def head(servers: Servers) -> int:
    """The number of the trail's last event."""
    return int(servers.rows("control", "SELECT coalesce(max(seq), 0) FROM audit.events")[0][0])


def trail(servers: Servers, waiting: Waiting, after: int) -> Trail:
    """Every confirm of this proposal since event number `after`: the killed call is an intent whose call_id has no
    outcome; what became of it is said by the outcome of a later call with the same proposal_id.
    """
    rows = servers.rows("control", "SELECT seq, data FROM audit.events WHERE seq > %s ORDER BY seq", after)
    events = [AuditEvent.from_bytes(bytes(data), seq=seq) for seq, data in rows]
    mine = [event for event in events if event.proposal_id == waiting.id and event.tool == "confirm"]
    outcomes = {event.call_id: event for event in mine if event.kind == "outcome"}
    opened = [event for event in mine if event.kind == "intent" and event.call_id not in outcomes]
    last = max((event.seq or 0 for event in outcomes.values()), default=0)
    return Trail(
        intents=sum(event.kind == "intent" for event in mine), outcomes=len(outcomes), open=len(opened),
        closed_later=all((event.seq or 0) < last for event in opened),
        said=tuple(str(event.outcome) for event in outcomes.values()),
    )  # fmt: skip


def chain_of(servers: Servers) -> dict[str, Any]:
    """Whether the whole trail still verifies after everything that was killed; asked when every replica has ended.

    What housekeeping does once a minute is done here once: the calls of killed processes are closed as lost, and none
    may be without an outcome afterwards.
    """
    pool = audit_pool(servers.url("control"))
    store = AuditStore(pool)
    try:
        lost = Closing(store, grace=timedelta(0)).close_lost()
        found = verify_store(store)
    except AuditError as error:
        return {"holds": False, "why": str(error)}
    finally:
        pool.close()
    return {"holds": True, "events": found.events, "lost": len(lost), "intents_without_outcome": found.unfinished}
