"""Streams every row the rehearsal touched, with both images: the hub stores, the replay compares them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from differ.compose import Scope, compose, frozen_parts
from differ.fetching import READ_WHOLE
from differ.kinds import ClockRule, cell_kind
from differ.model import CellKind, FrozenRow, TableImages
from differ.net import touched_scopes

#: Rows fetched from the server at a time.
CHUNK = 2_000


def frozen_rows(
    conn: psycopg.Connection[Any],
    tables: Sequence[TableImages],
    *,
    clocks: Mapping[str, frozenset[str]],
    set_columns: frozenset[tuple[str, str]],
) -> Iterator[FrozenRow]:
    """All rows the rehearsal touched, changed or not, by table name and the key text's bytes; no sinks.

    A row that neither existed before nor exists now (inserted and deleted again) has two None images.
    Nothing is held in memory but a chunk; a transaction is open on `conn` until the iterator is used up or
    closed. `clocks` and `set_columns` as in `net_diff`. BookkeepingBroken when a pristine copy is missing.
    """
    rule = ClockRule(clocks=clocks, set_columns=set_columns)
    scopes = [Scope(images=images, rule=rule, rehearsal=True) for images in tables if not images.sink]
    idle = conn.info.transaction_status == TransactionStatus.IDLE
    with conn.transaction() if idle else nullcontext():
        for scope in touched_scopes(conn, scopes):
            yield from _table(conn, scope)


def _table(conn: psycopg.Connection[Any], scope: Scope) -> Iterator[FrozenRow]:
    images = scope.images
    patterns: dict[tuple[CellKind, ...], tuple[CellKind, ...]] = {}  # few in a table: kept once each
    query = sql.Composed([compose(scope, "frozen", **frozen_parts(scope))])
    with conn.cursor(name="shadowdesk_frozen", row_factory=tuple_row) as cursor:
        if scope.many:
            conn.execute(READ_WHOLE)
        cursor.itersize = CHUNK
        for key, before, after in cursor.execute(query):
            kinds = tuple(cell_kind(images, scope.rule, place, before, after) for place in range(len(images.columns)))
            yield FrozenRow(
                table=images.table,
                key=tuple(key),
                before=None if before is None else tuple(before),
                after=None if after is None else tuple(after),
                kinds=patterns.setdefault(kinds, kinds),
            )
