"""Makes a `Diff` from a shadow's bookkeeping: net, of one step, or of the rehearsal; called by the hub.

Candidates are the keys that capture noted, so the cost follows the rows touched and not the table. Several
statements read the shadow: the caller keeps other writers away meanwhile.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import sql

from differ.compose import Scope, compose, summary_parts
from differ.digest import sink_root, tables_root
from differ.errors import BookkeepingBroken
from differ.explain import Budget
from differ.fetching import fetch
from differ.kinds import ClockRule
from differ.measures import Measure, measure_deltas
from differ.model import Diff, RowChange, TableImages, TableSummary
from differ.rows import page_of_table

#: Rows that are always looked up one by one.
_FEW = 1_000
_NO_TOTALS: Mapping[str, str] = MappingProxyType({})


def net_diff(
    conn: psycopg.Connection[Any],
    tables: Sequence[TableImages],
    *,
    clocks: Mapping[str, frozenset[str]],
    set_columns: frozenset[tuple[str, str]],
    upto: int | None = None,
    rehearsal: bool = False,
    measures: Sequence[Measure] = (),
    totals: Mapping[str, str] = _NO_TOTALS,
    page_start: int = 0,
    page_size: int = 50,
) -> Diff:
    """What the kept steps (through `upto`), or the rehearsal, changed: pristine against current rows.

    `clocks` maps a column type (format_type text) to the texts of the shadow's own transaction times;
    `set_columns` are the (table, column) pairs some statement set. `totals` maps a measure's name to its
    total before the first write, as numeric text. `page_start` counts changed rows from 0.
    BookkeepingBroken when the notes contradict each other.
    """
    rule = ClockRule(clocks=clocks, set_columns=set_columns)
    scopes = [Scope(images=images, rule=rule, upto=upto, rehearsal=rehearsal) for images in tables]
    return _diff(conn, scopes, measures, totals, page_start, page_size)


def step_diff(
    conn: psycopg.Connection[Any],
    tables: Sequence[TableImages],
    step: int,
    *,
    clocks: Mapping[str, frozenset[str]],
    set_columns: frozenset[tuple[str, str]],
    measures: Sequence[Measure] = (),
    totals: Mapping[str, str] = _NO_TOTALS,
    page_start: int = 0,
    page_size: int = 50,
) -> Diff:
    """What interactive step `step` changed by itself: the rows' state before it against its own images.

    Parameters as in `net_diff`; `totals` are the measures' totals before this step.
    """
    rule = ClockRule(clocks=clocks, set_columns=set_columns)
    scopes = [Scope(images=images, rule=rule, step=step) for images in tables]
    return _diff(conn, scopes, measures, totals, page_start, page_size)


def touched_scopes(conn: psycopg.Connection[Any], scopes: Iterable[Scope]) -> list[Scope]:
    """The scopes that have touched rows, by table name with sinks last.

    A sink without a key notes no keys and always counts. BookkeepingBroken when a table was touched and has
    no pristine copy: its before images are lost.
    """
    ordered = sorted(scopes, key=lambda scope: (scope.images.sink, scope.images.table))
    if not ordered:
        return []
    asked = sql.SQL(", ").join(
        compose(scope, "touched_count", base=sql.Literal(sql.Identifier(*scope.images.base).as_string(conn)))
        for scope in ordered
    )
    [noted] = fetch(conn, sql.SQL("SELECT {}").format(asked))
    found = [
        replace(scope, many=bool(scope.images.key) and touched > max(_FEW, pages))
        for scope, (touched, pages) in zip(ordered, noted, strict=True)
        if touched
    ]
    for scope in found:
        if scope.images.pristine is None and not scope.images.sink:
            raise BookkeepingBroken(
                f"Rows of {scope.images.table} were touched but no copy of them from before was kept.",
                "No diff was made: it would show changed rows as new ones.",
                "Discard this dry run and start it again.",
            )
    return found


def _diff(
    conn: psycopg.Connection[Any],
    scopes: Sequence[Scope],
    measures: Sequence[Measure],
    totals: Mapping[str, str],
    page_start: int,
    page_size: int,
) -> Diff:
    touched = touched_scopes(conn, scopes)
    changed = [(scope, summary) for scope in touched if (summary := _summary(conn, scope)).rows]
    return Diff(
        tables=tuple(summary for _, summary in changed),
        rows=tuple(_page(conn, changed, page_start, page_size)),
        total_rows=sum(summary.rows for _, summary in changed),
        page_start=page_start,
        measures=measure_deltas(conn, touched, measures, totals),
        tables_root=tables_root({summary.table: summary.root for _, summary in changed}),
    )


def _summary(conn: psycopg.Connection[Any], scope: Scope) -> TableSummary:
    [counts] = fetch(conn, compose(scope, "table_summary", **summary_parts(scope)), many=scope.many)
    inserted, updated, deleted, beyond, root = counts
    origins: list[tuple[Any, ...]] = []
    if beyond:
        origins = fetch(conn, compose(scope, "table_beyond_origins"), many=scope.many)
    return TableSummary(
        table=scope.images.table,
        inserted=inserted,
        updated=updated,
        deleted=deleted,
        beyond=beyond,
        sink=scope.images.sink,
        beyond_origins=tuple(origin.replace(":", " ", 1) for (origin,) in origins),
        root=sink_root(scope.images.table, inserted) if scope.images.sink else root,
    )


def _page(
    conn: psycopg.Connection[Any], changed: Sequence[tuple[Scope, TableSummary]], start: int, size: int
) -> Iterable[RowChange]:
    budget = Budget()
    for scope, summary in changed:
        if size > 0 and start < summary.rows:
            rows = page_of_table(conn, scope, start, size, budget)
            yield from rows
            size -= len(rows)
        start = max(0, start - summary.rows)
