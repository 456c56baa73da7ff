"""Copies the tenant's rows of chosen tables from production into a shadow, by COPY at libpq level.

Called by `Shadow.ensure` on first need; triggers and key checks are off during the load (session_replication_role).
"""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from queue import Queue
from typing import Any

import psycopg
from psycopg import sql

from shadow.errors import QuotaExceeded, StatementRefused
from shadow.fence import SINK, Fence, FencedTable
from shadow.predicate import Predicates, base

_BLOCK = 256 * 1024
#: Blocks read before the writer takes them: what a clone costs in memory, besides one row.
_AHEAD = 8
#: From this many expected rows on, indexes are built after the load instead of row by row.
_BULK_ROWS = 20_000
_ANALYZE_ROWS = 10_000


def clone_table(
    source: psycopg.Connection[Any],
    target: psycopg.Connection[Any],
    fence: Fence,
    tenant_key: str,
    table: FencedTable,
    max_bytes: int,
) -> int:
    """Copies one table's rows inside the fence; returns how many. Sinks stay empty.

    Both sides write and read Postgres' text format, so versions may differ. Raises QuotaExceeded when the rows
    would exceed `max_bytes`, StatementRefused when the reader may not see all of them; the caller's transaction on
    `target` then undoes the load.
    """
    if table.fence_class == SINK:
        return 0
    columns = sql.SQL(", ").join(sql.Identifier(c.name) for c in table.table.columns if not c.generated)
    condition = Predicates(fence, tenant_key).readable(table, "t")
    read = sql.SQL("COPY (SELECT {} FROM {} AS t WHERE {}) TO STDOUT").format(columns, base(table), condition)
    write = sql.SQL("COPY {} ({}) FROM STDIN").format(base(table), columns)
    bulk = table.table.kind != "p" and table.table.estimated_rows >= _BULK_ROWS
    if bulk:
        _set_indexes_ready(target, table, ready=False)
    try:
        rows = _pipe(source, target, read.as_bytes(source), write.as_bytes(target), table, max_bytes)
    except psycopg.errors.InsufficientPrivilege:
        raise _not_all_rows(table) from None
    if bulk:
        _set_indexes_ready(target, table, ready=True)
        target.execute(sql.SQL("REINDEX TABLE {}").format(base(table)))
    if rows >= _ANALYZE_ROWS:
        target.execute(sql.SQL("ANALYZE {}").format(base(table)))
    _advance_sequences(source, target, table)
    return rows


def _not_all_rows(table: FencedTable) -> StatementRefused:
    return StatementRefused(
        f"Production does not let shadowdesk_reader see all rows of {table.table.name}, or of a table that its fence"
        " looks at: it lacks SELECT there, or a row-level security policy stands before it.",
        "Nothing was loaded and nothing was kept.",
        "Ask the operator to run `shadowdesk install` again, and under row-level security to give both of its roles"
        " BYPASSRLS.",
    )


def _set_indexes_ready(target: psycopg.Connection[Any], table: FencedTable, *, ready: bool) -> None:
    """Marks the table's indexes as not maintained during the load; REINDEX then builds them at once.

    Only ever done to a table of a throw-away shadow, inside the load's transaction.
    """
    target.execute(
        "UPDATE pg_index SET indisready = %s WHERE indrelid = %s::regclass",
        (ready, base(table).as_string(target)),
    )


def _pipe(
    source: psycopg.Connection[Any],
    target: psycopg.Connection[Any],
    read: bytes,
    write: bytes,
    table: FencedTable,
    max_bytes: int,
) -> int:
    """Blocks of COPY data from connection to connection, read and written by a thread each; no row is parsed here."""
    blocks: Queue[bytes | None] = Queue(_AHEAD)
    failed = threading.Event()
    with source.cursor() as reading, target.cursor() as writing, ThreadPoolExecutor(1, "clone") as workers:
        with writing.copy(write) as into:
            writer = workers.submit(_write, into, blocks, failed)
            try:
                with reading.copy(read) as out:
                    for chunk in _within(_blocks(out), table, max_bytes):
                        blocks.put(chunk)
                        if failed.is_set():
                            break
            finally:
                blocks.put(None)
                wait([writer])
            writer.result()
        return max(writing.rowcount, 0)


def _write(into: psycopg.Copy, blocks: "Queue[bytes | None]", failed: threading.Event) -> None:
    """Writes blocks until None; after a failure it only takes them, so that the reader never waits for it."""
    try:
        while (chunk := blocks.get()) is not None:
            into.write(chunk)
    except BaseException:
        failed.set()
        while blocks.get() is not None:
            pass
        raise


def _within(chunks: Iterable[bytes], table: FencedTable, max_bytes: int) -> Iterator[bytes]:
    copied = 0
    for chunk in chunks:
        copied += len(chunk)
        if copied > max_bytes:
            raise QuotaExceeded(
                f"The tenant's rows of {table.table.name} are larger than a shadow may hold.",
                "They were not loaded and nothing was changed.",
                "Ask the operator to raise sandbox.max_shadow_mb.",
            )
        yield chunk


def _blocks(out: psycopg.Copy) -> Iterator[bytes]:
    """libpq hands out one row a time; bigger blocks make fewer calls on the other side."""
    gathered: list[bytes] = []
    size = 0
    for piece in out:
        data = bytes(piece)
        gathered.append(data)
        size += len(data)
        if size >= _BLOCK:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def _advance_sequences(source: psycopg.Connection[Any], target: psycopg.Connection[Any], table: FencedTable) -> None:
    """Sequences that triggers draw from start where production's stand, so that new keys meet no loaded row.

    One that the reader may not look at stays at its start: an omitted value of such a column is refused in words.
    """
    for column in table.table.columns:
        if column.sequence is None or not column.sequence_seen:
            continue
        name = sql.Identifier(*column.sequence)
        row = source.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(name)).fetchone()
        if row:
            target.execute("SELECT setval(%s::regclass, %s, %s)", (name.as_string(target), row[0], row[1]))
