"""The audit trail in the database: one statement appends and links an event; nothing changes one.

Used by the hub around every call; it hands in a pool of autocommit connections as the role `shadowdesk_audit`.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import LiteralString

import psycopg
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from audit.chain import GENESIS, Head, Link
from audit.errors import AuditUnavailable
from audit.event import AuditEvent, indexable
from audit.presence import Presence
from audit.sql import block

Pool = ConnectionPool[psycopg.Connection[tuple[object, ...]]]

_PAGE = 500
_NOT_DONE = {
    "intent": "The call was refused before it did anything.",
    "outcome": "What the call did or did not do stands as it is; only its outcome is missing from the trail.",
    "read": "Nothing was read and nothing changed.",
}


class AuditStore:
    """Appends events and reads them; safe to share between threads."""

    def __init__(self, pool: Pool, presence: Presence | None = None) -> None:
        """`pool` gives autocommit connections; it and the `presence` of this process stay the caller's to close.

        Events carry the presence's name, so that others can tell when a call of this process has nobody to end it.
        """
        self._pool = pool
        self._presence = presence

    def append(self, event: AuditEvent) -> int:
        """Commits the event at the end of the chain and returns its number.

        Concurrent callers queue for the microseconds of the insert. Raises AuditUnavailable on any failure:
        the caller then refuses what it was about to do.
        """
        with _explained(event.kind):
            if self._presence is not None and event.kind == "intent":
                self._presence.hold()
            [(seq,)] = self._rows(block("append"), self._row(event))
            return int(str(seq))

    def append_once(self, event: AuditEvent) -> bool:
        """Commits the outcome of a call unless it has one; True when it was added. Raises AuditUnavailable."""
        with _explained(event.kind):
            return bool(self._rows(block("append_once"), self._row(event)))

    def _row(self, event: AuditEvent) -> tuple[object, ...]:
        if self._presence is not None:
            event = replace(event, process=self._presence.name)
        return event.to_bytes(), indexable(event.call_id), event.kind, indexable(event.dry_run_id)

    def unfinished(self, *, after: int = 0) -> Iterator[AuditEvent]:
        """Calls announced since event number `after` and not ended, in order, page by page."""
        while True:
            with _explained("read"):
                events = _events(self._rows(block("unfinished"), (after, _PAGE)))
            yield from events
            if len(events) < _PAGE:
                return
            after = _int(events[-1].seq)

    def is_gone(self, process: str) -> bool:
        """Whether no session holds the presence of the process of that name."""
        with _explained("read"):
            return self._rows(block("is_gone"), (process,))[0][0] is True

    def head(self) -> Head:
        """The end of the chain; number 0 and the genesis hash while it is empty."""
        with _explained("read"):
            rows = self._rows(block("head"))
        return Head(seq=_int(rows[0][0]), hash=_bytes(rows[0][1])) if rows else Head(seq=0, hash=GENESIS)

    def tail(self, limit: int = 50, *, before: int | None = None) -> list[AuditEvent]:
        """The newest `limit` events, newest first; with `before`, those below that number."""
        with _explained("read"):
            rows = self._rows(block("tail"), (sys.maxsize if before is None else before, limit))
            return _events(rows)

    def of_dry_run(self, dry_run_id: str) -> list[AuditEvent]:
        """Every event of one dry run, in order."""
        with _explained("read"):
            return _events(self._rows(block("of_dry_run"), (dry_run_id,)))

    def links(self, *, after: int = 0) -> Iterator[Link]:
        """The chain in order, page by page, as stored and unchecked; for `verify.py` and `export.py`."""
        while True:
            with _explained("read"):
                rows = self._rows(block("links"), (after, _PAGE))
            yield from map(_link, rows)
            if len(rows) < _PAGE:
                return
            after = _int(rows[-1][0])

    def _rows(self, query: LiteralString, params: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._pool.connection() as connection:
            return connection.execute(query, params).fetchall()


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    """The one place where a driver's error becomes ours; neither its text nor a value is repeated."""
    try:
        yield
    except (psycopg.Error, PoolTimeout, PoolClosed) as error:
        state = getattr(error, "sqlstate", None)
        raise AuditUnavailable(
            f"The audit trail cannot be {'read' if doing == 'read' else 'written'} "
            f"({type(error).__name__}{f', SQLSTATE {state}' if state else ''}).",
            _NOT_DONE[doing],
            "Ask the operator to run `shadowdesk doctor`, then try again.",
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise AuditUnavailable(
            f"The audit trail has no form for this event ({type(error).__name__}).",
            _NOT_DONE[doing],
            "Send plain JSON, nested less than a few hundred levels deep.",
        ) from error


def _events(rows: list[tuple[object, ...]]) -> list[AuditEvent]:
    return [AuditEvent.from_bytes(_bytes(data), seq=_int(seq)) for seq, data in rows]


def _link(row: tuple[object, ...]) -> Link:
    seq, data, hash_, prev, call_id, kind, dry_run_id = row
    return Link(
        seq=_int(seq),
        data=_bytes(data),
        hash=_bytes(hash_),
        prev_hash=_bytes(prev),
        columns=(str(call_id), str(kind), None if dry_run_id is None else str(dry_run_id)),
    )


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("expected a number from the trail")
    return value


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("expected bytes from the trail")
    return value
