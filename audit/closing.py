"""Ends the calls that nobody can end any more: their process is gone. The hub's housekeeping calls it.

Every intent gets its outcome, so that an open one always means a call that runs now.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from audit.event import AuditEvent
from audit.store import AuditStore

LOST = "lost"
_MESSAGE = (
    "The process that ran this call ended before it could say how the call ended."
    " The state of its dry run or proposal tells what it did."
)
#: A process that writes no name is of an earlier version, or knows no presence.
_NAMELESS = timedelta(days=1)


class Closing:
    """Looks through the trail once and from then on only at what came later or is still open."""

    def __init__(
        self,
        store: AuditStore,
        *,
        grace: timedelta = timedelta(minutes=1),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`grace`: how old a call must be; a process whose session was lost takes it again within that time."""
        self._store = store
        self._grace = grace
        self._now = now
        self._after = 0

    def close_lost(self) -> list[str]:
        """Writes the outcome "lost" for every call whose process is gone; returns their ids. Raises AuditUnavailable.

        Another process may do the same at the same time: a call ends once (a constraint of the trail).
        """
        closed: list[str] = []
        reached, first_open = self._store.head().seq, None
        gone: dict[str, bool] = {}
        for event in self._store.unfinished(after=self._after):
            if not self._is_lost(event, gone):
                first_open = first_open or event.seq
                continue
            ending = replace(event, at=self._now(), kind="outcome", outcome=LOST, message=_MESSAGE, seq=None)
            if self._store.append_once(ending):
                closed.append(event.call_id)
        self._after = reached if first_open is None else first_open - 1
        return closed

    def _is_lost(self, event: AuditEvent, gone: dict[str, bool]) -> bool:
        age = self._now() - event.at
        if event.process is None:
            return age > _NAMELESS
        if age <= self._grace:
            return False
        if event.process not in gone:
            gone[event.process] = self._store.is_gone(event.process)
        return gone[event.process]
