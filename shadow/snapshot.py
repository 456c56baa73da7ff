"""One snapshot of production per dry run: exported at the first load, imported by later ones.

Opened by the desk with the reader's URL; an idle holder keeps old rows from vacuum, so it lives for a bounded time.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from shadow.errors import ShadowError
from shadow.session import connect


class SnapshotGone(ShadowError):
    """The snapshot can no longer be imported, or production was rewritten since: the dry run must be rebased."""


_FILENODES = (
    "SELECT c.oid, pg_relation_filenode(c.oid) FROM pg_class c"
    " WHERE c.relkind = 'r' AND c.relnamespace = ANY(%s::regnamespace[])"
)


class Snapshot:
    """A held snapshot of production; `reader()` gives connections that see exactly it."""

    def __init__(self, reader_url: str, schemas: Sequence[str], *, max_s: float) -> None:
        self._url = reader_url
        self._schemas = list(schemas)
        self._deadline = time.monotonic() + max_s
        self._holder: psycopg.Connection[Any] | None = connect(reader_url, schemas, application="shadowdesk snapshot")
        self._holder.execute("SET row_security = off")
        self._holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = self._holder.execute("SELECT pg_export_snapshot(), now()").fetchone()
        assert row is not None  # noqa: S101 - an export always returns its name
        self.name: str = row[0]
        self.taken_at = row[1]
        self._filenodes = dict(self._holder.execute(_FILENODES, (self._schemas,)).fetchall())

    @property
    def alive(self) -> bool:
        """False once the holder was closed or has held for its longest time."""
        return self._holder is not None and not self._holder.closed and time.monotonic() < self._deadline

    def close(self) -> None:
        """Lets production vacuum again."""
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    @contextmanager
    def reader(self) -> Iterator[psycopg.Connection[Any]]:
        """A reader connection inside the snapshot; SnapshotGone when it cannot show the same rows any more.

        An imported snapshot reads 0 rows of a table that was rewritten or truncated since, without an error, so
        file nodes are compared first (Postgres docs 13.6, Caveats).
        """
        if not self.alive:
            raise _gone("the snapshot was held for its longest time")
        conn = connect(self._url, self._schemas, application="shadowdesk clone")
        try:
            now = dict(conn.execute(_FILENODES, (self._schemas,)).fetchall())
            if any(now.get(oid) != node for oid, node in self._filenodes.items()):
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
