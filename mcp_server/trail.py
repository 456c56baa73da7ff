"""The audit trail as one process writes it: signed now and then, and outcomes that could not be written come later.

`governed.py` appends to it around every call; `cli/running.py` tidies it in its housekeeping.
"""

import threading
from collections import deque

from audit.checkpoint import Checkpoints
from audit.closing import Closing
from audit.errors import AuditUnavailable
from audit.event import AuditEvent
from audit.presence import Presence
from audit.store import AuditStore

#: Outcomes kept for later; beyond that the oldest stay open until this process ends and another closes them as lost.
_OWED = 10_000


class SealedTrail:
    """The audit store with a signed checkpoint every so many events, so that a tail that was cut off is found."""

    def __init__(self, store: AuditStore, checkpoints: Checkpoints, every: int = 200) -> None:
        self._store = store
        self._checkpoints = checkpoints
        self._every = every
        self._owed: deque[AuditEvent] = deque(maxlen=_OWED)
        self._settling = threading.Lock()
        self._closing = Closing(store)

    def append(self, event: AuditEvent) -> int:
        """See `AuditStore.append`; an outcome that cannot be written now is kept for `tidy`, and it still raises."""
        try:
            seq = self._store.append(event)
        except AuditUnavailable as error:
            formless = isinstance(error.__cause__, TypeError | ValueError | RecursionError)
            if event.kind == "outcome" and not formless:
                self._owed.append(event)
            raise
        if seq % self._every == 0:
            self._checkpoints.sign_if_due(self._store.head(), every=self._every)
        return seq

    def tidy(self, presence: Presence) -> None:
        """Writes what is owed and ends the calls of processes that are gone. Raises AuditUnavailable, psycopg.Error."""
        presence.renew()
        with self._settling:
            while self._owed:
                self._store.append_once(self._owed[0])
                self._owed.popleft()
            self._closing.close_lost()
