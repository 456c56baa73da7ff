"""A process shows that it lives: one session of the audit database holds a lock named after it, as long as both last.

`store.py` takes it before a process announces its first call; `closing.py` asks it about the processes of open calls.
"""

import threading
import uuid
from collections.abc import Callable
from contextlib import suppress

import psycopg

from audit.sql import block

Connection = psycopg.Connection[tuple[object, ...]]


class Presence:
    """This process's presence; safe to share between threads."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        """`connect` opens an autocommit connection as the audit role, which `close` closes."""
        self.name = uuid.uuid4().hex
        self._connect = connect
        self._lock = threading.Lock()
        self._session: Connection | None = None

    def hold(self) -> None:
        """Takes the lock unless a session that is not known to be lost holds it. Raises psycopg.Error."""
        if self._session is not None and not self._session.closed:
            return
        with self._lock:
            if self._session is None or self._session.closed:
                session = self._connect()
                try:
                    session.execute(block("hold_presence"), (self.name,))
                except BaseException:
                    session.close()
                    raise
                self._session = session

    def renew(self) -> None:
        """Finds out whether the session was lost, and takes the lock again. Raises psycopg.Error."""
        if self._session is not None:
            with suppress(psycopg.Error):
                self._session.execute("")
            self.hold()

    def close(self) -> None:
        """The process announces no further call."""
        with self._lock:
            if self._session is not None:
                self._session.close()
