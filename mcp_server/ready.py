"""The pool's shadows as this process keeps them: prepared and connected, so that a dry run starts without waiting.

Used by `shadows.py` only. A ready shadow may be taken by any replica; its connections here are closed with the next
filling then.
"""

import threading
from collections.abc import Sequence

from shadow.preparing import Connected


class Ready:
    """Connections to shadows that nobody took yet, by shadow id; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connected: dict[str, Connected] = {}

    @property
    def ids(self) -> list[str]:
        """The shadows connected here, those ready for longest first."""
        with self._lock:
            return list(self._connected)

    def add(self, shadow_id: str, connected: Connected) -> None:
        """Keeps the connections until somebody takes them."""
        with self._lock:
            self._connected[shadow_id] = connected

    def take(self, shadow_id: str) -> Connected | None:
        """The shadow's connections, which are the caller's to close; None when there are none that answer."""
        with self._lock:
            connected = self._connected.pop(shadow_id, None)
        if connected is None or connected.alive:
            return connected
        connected.close()
        return None

    def keep_only(self, shadow_ids: Sequence[str]) -> None:
        """Closes the connections of every other shadow: another replica took it, or it was dropped."""
        with self._lock:
            gone = [self._connected.pop(known) for known in list(self._connected) if known not in shadow_ids]
        for connected in gone:
            connected.close()

    def close(self) -> None:
        """Closes all."""
        self.keep_only(())
