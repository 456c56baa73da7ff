"""One snapshot of production per dry run: exported at the first load, imported by later ones.

Opened by the desk with the reader's URL; an idle holder keeps old rows from vacuum, so it lives for a bounded time.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Self

import psycopg
from psycopg import sql

from shadow.errors import ShadowError
from shadow.session import connect


class SnapshotGone(ShadowError):
    """The snapshot can no longer be imported, or production was rewritten since: the dry run must be rebased."""


_FILENODES = (
    "SELECT c.oid, pg_relation_filenode(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind = 'r' AND n.nspname = ANY(%s)"
)


class Snapshot:
    """A snapshot of production, held by this process or by another; `reader()` connects to exactly it."""

    def __init__(
        self, reader_url: str, schemas: Sequence[str], name: str, taken_at: datetime, filenodes: Mapping[int, int]
    ) -> None:
        self.name = name
        self.taken_at = taken_at
        self.filenodes = dict(filenodes)
        self._url = reader_url
        self._schemas = list(schemas)
        self._holder: psycopg.Connection[Any] | None = None
        self._deadline = math.inf

    @classmethod
    def take(cls, reader_url: str, schemas: Sequence[str], *, max_s: float) -> Self:
        """A new snapshot, held by this process for at most `max_s` seconds."""
        holder = connect(reader_url, schemas, application="shadowdesk snapshot")
        holder.execute("SET row_security = off")
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = holder.execute("SELECT pg_export_snapshot(), now()").fetchone()
        assert row is not None  # noqa: S101 - an export always returns its name
        filenodes = dict(holder.execute(_FILENODES, (list(schemas),)).fetchall())
        snapshot = cls(reader_url, schemas, row[0], row[1], filenodes)
        snapshot._holder = holder
        snapshot._deadline = time.monotonic() + max_s
        return snapshot

    @property
    def overdue(self) -> bool:
        """True when this process has held it for its longest time: the holder is to be closed."""
        return time.monotonic() > self._deadline

    def close(self) -> None:
        """Lets production vacuum again; a snapshot that was held here cannot be imported any more."""
        if self._holder is not None:
            self._holder.close()
            self._holder = None
            self._deadline = -math.inf

    @contextmanager
    def reader(self) -> Iterator[psycopg.Connection[Any]]:
        """A reader connection inside the snapshot; SnapshotGone when it cannot show the same rows any more.

        An imported snapshot reads 0 rows of a table that was rewritten or truncated since, without an error, so
        file nodes are compared first (Postgres docs 13.6, Caveats).
        """
        if self.overdue:
            self.close()
            raise _gone("the snapshot was held for its longest time")
        conn = connect(self._url, self._schemas, application="shadowdesk clone")
        try:
            now = dict(conn.execute(_FILENODES, (self._schemas,)).fetchall())
            if any(now.get(oid) != node for oid, node in self.filenodes.items()):
                raise _gone("a table of production was rewritten or truncated since")
            conn.execute("SET row_security = off")
            conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                conn.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self.name)))
            except psycopg.Error as error:
                raise _gone("production no longer holds the snapshot") from error
            yield conn
        finally:
            conn.close()


def _gone(why: str) -> SnapshotGone:
    return SnapshotGone(
        f"The dry run's snapshot of production cannot be used any more: {why}.",
        "Nothing was loaded and nothing was changed.",
        "The dry run is rebuilt on a new snapshot from its recorded statements.",
    )
