"""One page of a table's changed rows as `RowChange` values, explained and paired; called by `net.py`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from differ.compose import Scope, compose, rest_hash
from differ.explain import Budget, Explanation, explain_rows
from differ.fetching import fetch
from differ.kinds import cell_kind
from differ.model import CellChange, Key, RowChange, RowKind

Cells = list[str | None]


@dataclass(frozen=True, kw_only=True)
class ChangedRow:
    """A row as the page query gives it; `handle` is the key as one text, for asking about it again."""

    before: Cells | None
    after: Cells | None
    origins: tuple[str, ...]
    only_updated: bool
    handle: str


def page_of_table(
    conn: psycopg.Connection[Any], scope: Scope, start: int, size: int, budget: Budget
) -> list[RowChange]:
    """At most `size` changed rows of one table from the `start`-th on, in the key's own order."""
    images = scope.images
    looked_up = replace(scope, many=False)  # keys come in order: a page stops at its last row
    window = {"limit": sql.Literal(size), "offset": sql.Literal(start)}
    found = fetch(conn, compose(looked_up, "table_page", ordered=True, **window))
    rows = [
        ChangedRow(before=before, after=after, origins=_origins(origins), only_updated=only_updated, handle=handle)
        for before, after, origins, only_updated, handle in found
    ]
    explanations = explain_rows(conn, images, [(row.before, row.after) for row in rows], budget)
    changes = [_row_change(scope, row, why) for row, why in zip(rows, explanations, strict=True)]
    return _paired(conn, scope, rows, changes)


def _row_change(scope: Scope, row: ChangedRow, why: Explanation) -> RowChange:
    kind: RowKind = "insert" if row.before is None else "delete" if row.after is None else "update"
    columns = scope.images.columns
    before = row.before if row.before is not None else [None] * len(columns)
    after = row.after if row.after is not None else [None] * len(columns)
    cells = tuple(
        CellChange(
            column=column.name,
            type=column.type,
            before=before[place],
            after=after[place],
            kind=cell_kind(scope.images, scope.rule, place, row.before, row.after),
            paths=why.paths.get(column.name, ()),
            more_paths=why.left_off.get(column.name, 0),
        )
        for place, column in enumerate(columns)
        if kind != "update" or before[place] != after[place]
    )
    sides = row.before if row.before is not None else after
    key = _key(scope, [sides[place] for place in scope.images.key_positions])
    return RowChange(table=scope.images.table, kind=kind, key=key, cells=cells, origins=row.origins)


def _paired(
    conn: psycopg.Connection[Any], scope: Scope, rows: Sequence[ChangedRow], changes: list[RowChange]
) -> list[RowChange]:
    """The same changes; a deleted row that an update moved to a new key names it, and the other way round."""
    wanted = [
        row.handle for row, change in zip(rows, changes, strict=True) if row.only_updated and change.kind != "update"
    ]
    if not wanted or not scope.images.key:
        return changes
    query = compose(scope, "rekeyed_pairs", wanted=sql.Literal(wanted), rest_hash=rest_hash(scope.images))
    pairs = [(_key(scope, old), _key(scope, new)) for old, new in fetch(conn, query, many=scope.many)]
    to, from_ = _single(pairs), _single([(new, old) for old, new in pairs])
    return [
        replace(
            change,
            rekeyed_to=to.get(change.key) if change.kind == "delete" else None,
            rekeyed_from=from_.get(change.key) if change.kind == "insert" else None,
        )
        for change in changes
    ]


def _single(pairs: Sequence[tuple[Key, Key]]) -> dict[Key, Key]:
    """Only the keys with exactly one partner: two steps may each suggest another one."""
    partners: dict[Key, set[Key]] = {}
    for one, other in pairs:
        partners.setdefault(one, set()).add(other)
    return {one: next(iter(others)) for one, others in partners.items() if len(others) == 1}


def _key(scope: Scope, texts: Sequence[str | None]) -> Key:
    return tuple((name, text or "") for name, text in zip(scope.images.key, texts, strict=True))


def _origins(noted: list[list[str]]) -> tuple[str, ...]:
    """`[['2', 'trigger:recalc']]` → `('trigger recalc 2',)`, by step."""
    ordered = sorted(noted, key=lambda note: (int(note[0]), note[1]))
    return tuple(f"{origin.replace(':', ' ', 1)} {step}" for step, origin in ordered)
