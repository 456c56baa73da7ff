"""Sessions on production opened while a person reads a proposal, so that their yes does not wait for one.

The review page asks for one when it shows the form that confirms; `confirming.py` takes it. A session that waits has no
transaction and no lock, and serves one replay at most.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg

from mcp_server.errors import EXPLAINED
from mcp_server.production import Production
from shadow.replay_session import name_session, open_ahead

#: Sessions kept at once by a process; one more ends the oldest.
MOST = 4


class Expecting:
    """The kept sessions, by proposal."""

    def __init__(self, production: Production, applier_url: str) -> None:
        self._production = production
        self._applier_url = applier_url
        self._lock = threading.Lock()
        self._kept: dict[str, psycopg.Connection[Any]] = {}

    def expect(self, proposal_id: str, tenant_key: str, tables: Sequence[str]) -> None:
        """Keeps a session for this proposal. Where production cannot be had now there is none: the confirmation opens
        its own, and says what is wrong.
        """
        with suppress(psycopg.Error, *EXPLAINED):
            fence = self._production.fence()
            known = [name for name in tables if name in fence.tables]
            path = self._production.settings.search_path
            self._keep(proposal_id, open_ahead(self._applier_url, path, fence, tenant_key, known))

    def _keep(self, proposal_id: str, conn: psycopg.Connection[Any]) -> None:
        with self._lock:
            ended = [self._kept.pop(proposal_id, None)]
            self._kept[proposal_id] = conn
            if len(self._kept) > MOST:
                ended.append(self._kept.pop(next(iter(self._kept))))
        for old in ended:
            if old is not None:
                old.close()

    def take(self, proposal_id: str) -> psycopg.Connection[Any] | None:
        """The proposal's session, named after it now; None when none was kept or production ended it meanwhile."""
        with self._lock:
            conn = self._kept.pop(proposal_id, None)
        if conn is None:
            return None
        try:
            name_session(conn, proposal_id)
        except psycopg.Error:
            conn.close()
            return None
        return conn

    def close(self) -> None:
        """Ends every kept session."""
        with self._lock:
            kept, self._kept = list(self._kept.values()), {}
        for conn in kept:
            conn.close()
