"""Executes a recording again, on an empty embedded Postgres or on a configured database, and says where it differs.

Called by `shadowdesk recording run` and the demo; exit codes are the caller's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from differ.measures import Measure
from differ.model import Diff, RowChange
from differ.net import net_diff
from mcp_server.control.records import Statement
from mcp_server.images import step_clocks, table_images
from mcp_server.production import Production
from mcp_server.recorded import preload, thaw
from mcp_server.recording_place import recorded_place
from mcp_server.shadows import Shadows
from mcp_server.surface import gate_surface
from shadow.run import run_step
from shadow.shadow import Shadow
from shadow.statement import GateLimits

_ALL_ROWS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One place where the re-execution differs: table, key and column as texts, and both values."""

    table: str
    key: str
    column: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.table} ({self.key}) {self.column}: expected {self.expected}, got {self.got}"


def run_with_rows(
    document: Mapping[str, Any], *, definitions: str | None = None, trusted: bool = False
) -> list[Difference]:
    """Re-executes a recording that carries its rows on an empty embedded Postgres; needs nothing else.

    `definitions` replaces the recorded schema: that is how QA tries yesterday's fix on tomorrow's release. What only
    a `trusted` recording may do is said in `recording_place.py`.
    """
    with recorded_place(document, definitions or document["definitions"], trusted=trusted) as (production, shadows):
        return run_on(document, production, shadows, _measures(document))


def run_on(
    document: Mapping[str, Any], production: Production, shadows: Shadows, measures: Sequence[Measure]
) -> list[Difference]:
    """Re-executes on a database that holds the tenant; the shadow is dropped afterwards. Empty list: equal.

    `measures` are those of the configuration: their SQL runs as the sandbox's owner, so a document's own is not taken.
    """
    shadow, _ = shadows.start(document["tenant"])
    shadows.keep(shadow.id, shadow)
    known = tuple(measure for measure in _measures(document) if measure in measures)
    try:
        diff = _execute(document, shadow, known)
    finally:
        shadows.drop(shadow.id, shadow.id)
    return compare(Diff.from_json(document["expected"]), diff)


def _measures(document: Mapping[str, Any]) -> tuple[Measure, ...]:
    return tuple(Measure(**measure) for measure in document["measures"])


def _execute(document: Mapping[str, Any], shadow: Shadow, measures: tuple[Measure, ...]) -> Diff:
    surface = gate_surface(shadow.fence, shadow.tenant_key, frozenset())
    sets: set[tuple[str, str]] = set()
    for recorded in document["statements"]:
        statement = _statement(document, recorded)
        preload(shadow, statement)
        gated = thaw(surface, statement, GateLimits()).gated
        sets |= gated.set_columns
        run_step(shadow, gated, statement.step)
    return net_diff(
        shadow.owner,
        table_images(shadow),
        clocks=step_clocks(shadow, None, rehearsal=False),
        set_columns=frozenset(sets),
        measures=measures,
        page_size=_ALL_ROWS,
    )


def _statement(document: Mapping[str, Any], data: Mapping[str, Any]) -> Statement:
    """A recorded statement as the control store would give it."""
    return Statement(
        dry_run_id=document["dry_run"],
        step=data["step"],
        text=data["text"],
        params=tuple(data["params"]),
        pins=tuple(data["pins"]),
        defaults=data["draws"],
        kind=data["kind"],
        reason=data["reason"],
        tool=data.get("tool"),
        arguments=None,
        row_count=data["rows"],
        warnings=(),
        ran_at=datetime.now(UTC),
    )


def compare(expected: Diff, got: Diff) -> list[Difference]:
    """Where two whole diffs differ; clock and generated cells match by kind, sinks by their number of rows."""
    found: list[Difference] = []
    left, right = _by_key(expected), _by_key(got)
    for place in sorted(left.keys() | right.keys()):
        found.extend(_compare_row(place, left.get(place), right.get(place)))
    sinks = {t.table: t.rows for t in expected.tables if t.sink}, {t.table: t.rows for t in got.tables if t.sink}
    for table in sorted(sinks[0].keys() | sinks[1].keys()):
        counts = sinks[0].get(table, 0), sinks[1].get(table, 0)
        if counts[0] != counts[1]:
            found.append(_difference(table, "", "rows written by triggers", str(counts[0]), str(counts[1])))
    deltas = {measure.name: measure.delta for measure in got.measures}
    for measure in expected.measures:
        delta = deltas.get(measure.name, "not a measure of this configuration")
        if measure.delta != delta:
            found.append(_difference(f"measure {measure.name}", "", "delta", measure.delta, delta))
    return found


def _by_key(diff: Diff) -> dict[tuple[str, str], RowChange]:
    sinks = {table.table for table in diff.tables if table.sink}
    rows = [row for row in diff.rows if row.table not in sinks]
    return {(row.table, ", ".join(f"{column} {text}" for column, text in row.key)): row for row in rows}


def _compare_row(place: tuple[str, str], expected: RowChange | None, got: RowChange | None) -> list[Difference]:
    table, key = place
    if expected is None or got is None:
        kinds = expected.kind if expected else "no change", got.kind if got else "no change"
        return [_difference(table, key, "(row)", *kinds)]
    if expected.kind != got.kind:
        return [_difference(table, key, "(row)", expected.kind, got.kind)]
    left = {cell.column: cell for cell in expected.cells}
    right = {cell.column: cell for cell in got.cells}
    found = []
    for column in sorted(left.keys() | right.keys()):
        cells = left.get(column), right.get(column)
        # which values triggers draw is only known where it was rehearsed twice: any new value is as good
        kind = cells[0].kind if cells[0] and cells[0].kind in ("generated", "wall") else None
        texts = [_shown(cell.after, kind or cell.kind) if cell else "unchanged" for cell in cells]
        if texts[0] != texts[1]:
            found.append(_difference(table, key, column, texts[0], texts[1]))
    return found


def _shown(text: str | None, kind: str) -> str:
    if kind != "value":
        return f"({kind})"
    return "NULL" if text is None else repr(text)


def _difference(table: str, key: str, column: str, expected: str, got: str) -> Difference:
    return Difference(table=table, key=key, column=column, expected=expected, got=got)
