"""One snapshot of production per dry run: exported at the first load, imported by later ones.

Opened by the desk with the reader's URL; an idle holder keeps old rows from vacuum, so it lives for a bounded time.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Self

import psycopg
from psycopg import sql

from shadow.errors import ShadowError


class SnapshotGone(ShadowError):
    """The snapshot can no longer be imported, or production was rewritten since: the dry run must be rebased."""


#: A reader connection with pinned settings, named for what it is used for (its application_name).
OpenReader = Callable[[str], psycopg.Connection[Any]]

_FILENODES = (
    "SELECT coalesce(jsonb_object_agg(c.oid, pg_relation_filenode(c.oid)), '{{}}')::text FROM pg_class c"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname = ANY ({})"
)
_TAKE = (
    "SET row_security = off; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
    " SELECT pg_export_snapshot(), now(), (" + _FILENODES + ")"
)


def look(conn: psycopg.Connection[Any], schemas: Sequence[str] = ()) -> dict[str, int]:
    """Where the tables' files are, by oid. Asked ahead of need, it fills the caches of a new connection."""
    [(found,)] = conn.execute(sql.SQL(_FILENODES).format(list(schemas))).fetchall()
    return dict(json.loads(found))


class Snapshot:
    """A snapshot of production, held by this process or by another; `reader()` connects to exactly it."""

    def __init__(
        self, open_reader: OpenReader, schemas: Sequence[str], name: str, taken_at: datetime, filenodes: str
    ) -> None:
        """`filenodes`: where the tables' files were, as a JSON object of numbers by number."""
        self.name = name
        self.taken_at = taken_at
        self.filenodes = filenodes
        self._open_reader = open_reader
        self._schemas = list(schemas)
        self._holder: psycopg.Connection[Any] | None = None
        self._deadline = math.inf

    @classmethod
    def take(cls, open_reader: OpenReader, schemas: Sequence[str], *, max_s: float) -> Self:
        """A new snapshot, held by this process for at most `max_s` seconds."""
        holder = open_reader("shadowdesk snapshot")
        try:
            # One call to the server.
            [row] = list(holder.execute(sql.SQL(_TAKE).format(list(schemas))).results())[-1]
        except BaseException:
            holder.close()
            raise
        snapshot = cls(open_reader, schemas, *row)
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
        conn = self._open_reader("shadowdesk clone")
        try:
            if not self._same_files(look(conn, self._schemas)):
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

    def _same_files(self, now: Mapping[str, int]) -> bool:
        return all(now.get(oid) == node for oid, node in json.loads(self.filenodes).items())


def _gone(why: str) -> SnapshotGone:
    return SnapshotGone(
        f"The dry run's snapshot of production cannot be used any more: {why}.",
        "Nothing was loaded and nothing was changed.",
        "The dry run is rebuilt on a new snapshot from its recorded statements.",
    )
