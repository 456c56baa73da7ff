"""Copies the tenant's rows of chosen tables from production into a shadow, by COPY at libpq level.

Called by `Shadow.ensure` on first need; triggers and key checks are off during the load (session_replication_role).
"""

import selectors
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn

from shadow.errors import QuotaExceeded, SandboxUnavailable, StatementRefused
from shadow.fence import SINK, Fence, FencedTable
from shadow.predicate import Predicates, base

#: Bytes handed on at once, and the least of them when no more have arrived: what a clone costs in memory.
_BLOCK, _LEAST = 128 * 1024, 16 * 1024
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
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise _not_taken(table, error) from None
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


def _not_taken(table: FencedTable, error: psycopg.Error) -> SandboxUnavailable:
    """The driver's text may hold a cell's value: only the kind of error is told."""
    return SandboxUnavailable(
        f"The shadow does not take production's rows of {table.table.name} (SQLSTATE {error.sqlstate}): a definition"
        " there is not as on production.",
        "Nothing was loaded and nothing was kept.",
        "Start a new dry run; if it says the same, show this to the operator: a type, a check or a locale differs.",
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
    """COPY data from connection to connection; no row is parsed here. Both servers work while this process waits."""
    with source.cursor() as reading, target.cursor() as writing:
        copied = 0
        with writing.copy(write), reading.copy(read):
            for block in _blocks(source.pgconn):
                copied += len(block)
                if copied > max_bytes:
                    raise QuotaExceeded(
                        f"The tenant's rows of {table.table.name} are larger than a shadow may hold.",
                        "They were not loaded and nothing was changed.",
                        "Ask the operator to raise sandbox.max_shadow_mb.",
                    )
                _send(target.pgconn, block)
        return max(writing.rowcount, 0)


def _blocks(source: PGconn) -> Iterator[bytes]:
    """The rows of a COPY that `source` has begun, in blocks: libpq hands out one at a time, and asking for each through
    a cursor costs more than Postgres takes to write it (Postgres docs 32.10.2, Functions for Receiving COPY Data).
    """
    gathered: list[memoryview] = []
    size = 0
    while (found := source.get_copy_data(1))[0] >= 0:
        gathered += found[1:] if found[0] else ()
        size += found[0]
        if size >= (_BLOCK if found[0] else _LEAST):
            yield b"".join(gathered)
            gathered, size = [], 0
        if not found[0]:
            _arrived(source)
    if gathered:
        yield b"".join(gathered)
    _ended(source)


def _ended(source: PGconn) -> None:
    """Raises what stopped the COPY, if it did not come to its end; either way the connection is free again."""
    error: psycopg.Error | None = None
    while True:
        while source.is_busy():
            _arrived(source)
        result = source.get_result()
        if result is None:
            break
        if result.status != ExecStatus.COMMAND_OK:
            state = (result.error_field(DiagnosticField.SQLSTATE) or b"XX000").decode()
            error = psycopg.errors.lookup(state)(result.error_message.decode(errors="replace"))
    if error is not None:
        raise error


def _send(target: PGconn, block: bytes) -> None:
    """Hands a block to the kernel; meanwhile production's next rows arrive in its buffers."""
    while target.put_copy_data(block) == 0:
        _writable(target)
    while target.flush() == 1:
        _writable(target)


def _arrived(conn: PGconn) -> None:
    """Waits for more of the server's and takes it."""
    _wait(conn, selectors.EVENT_READ)
    conn.consume_input()


def _writable(conn: PGconn) -> None:
    """Waits until the server takes more; what it has to say meanwhile is read, or neither side would go on."""
    if _wait(conn, selectors.EVENT_READ | selectors.EVENT_WRITE) & selectors.EVENT_READ:
        conn.consume_input()


def _wait(conn: PGconn, events: int) -> int:
    with selectors.DefaultSelector() as selector:
        selector.register(conn.socket, events)
        return sum(found for _, found in selector.select())  # nothing where a signal came between


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
