"""Executes a recording again, on an empty embedded Postgres or on a configured database, and says where it differs.

Called by `shadowdesk recording run` and the demo; exit codes are the caller's.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from differ.measures import Measure
from differ.model import Diff, RowChange
from differ.net import net_diff
from mcp_server.control.records import Statement
from mcp_server.images import step_clocks, table_images
from mcp_server.production import Production, ProductionSettings
from mcp_server.recorded import preload, thaw
from mcp_server.recording import rules_from_json
from mcp_server.shadows import Shadows, ShadowSettings
from mcp_server.surface import gate_surface
from shadow.embedded import open_sandbox
from shadow.mirror import restore_definitions
from shadow.run import run_step
from shadow.sandbox import Sandbox, SandboxLimits
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


def run_with_rows(document: Mapping[str, Any], *, definitions: str | None = None) -> list[Difference]:
    """Re-executes a recording that carries its rows on an empty embedded Postgres; needs nothing else.

    `definitions` replaces the recorded schema: that is how QA tries yesterday's fix on tomorrow's release.
    """
    with _empty_production(document, definitions or document["definitions"]) as (production, shadows):
        return run_on(document, production, shadows)


def run_on(document: Mapping[str, Any], production: Production, shadows: Shadows) -> list[Difference]:
    """Re-executes on a database that holds the tenant; the shadow is dropped afterwards. Empty list: equal."""
    shadow, _ = shadows.start(document["tenant"])
    shadows.keep(shadow.id, shadow)
    try:
        diff = _execute(document, shadow)
    finally:
        shadows.drop(shadow.id, shadow.id)
    return compare(Diff.from_json(document["expected"]), diff)


@contextmanager
def _empty_production(document: Mapping[str, Any], definitions: str) -> Iterator[tuple[Production, Shadows]]:
    """One throw-away server that plays production and sandbox; the recorded rows are all that production holds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shadowdesk-recording-")))
        server = stack.enter_context(open_sandbox(folder / "postgres"))
        with psycopg.connect(server.owner_url, autocommit=True) as conn:
            conn.execute("CREATE DATABASE recorded TEMPLATE template0")
        url = make_conninfo(server.owner_url, dbname="recorded")
        restore_definitions(definitions.encode(), url, server.bin_dir)
        _load(url, document)
        settings = ProductionSettings(
            reader_url=url, rules=rules_from_json(document["fence"]), search_path=tuple(document["search_path"])
        )
        production = Production(settings)
        sandbox = Sandbox(server.owner_url, SandboxLimits())
        shadows = Shadows(production, sandbox, server.owner_url, server.bin_dir, ShadowSettings(pool=0))
        stack.callback(shadows.close)
        yield production, shadows


def _load(url: str, document: Mapping[str, Any]) -> None:
    with psycopg.connect(url) as conn:
        conn.execute("SET session_replication_role = replica")
        path = sql.SQL(", ").join(sql.Identifier(name) for name in document["search_path"])
        conn.execute(sql.SQL("SET search_path = {}").format(path))
        for name, table in document["rows"].items():
            target = sql.Identifier(*name.split("."))
            columns = sql.SQL(", ").join(sql.Identifier(c) for c in table["columns"])
            with conn.cursor() as cur, cur.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(target, columns)) as copy:
                for row in table["rows"]:
                    copy.write_row(row)
        _advance(conn)


def _advance(conn: psycopg.Connection[Any]) -> None:
    """Sequences behind the loaded rows: new keys must not meet recorded ones."""
    owned = conn.execute(
        "SELECT format('%I.%I', n.nspname, c.relname), a.attname, s.oid::regclass::text FROM pg_class s"
        " JOIN pg_depend d ON d.objid = s.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')"
        " JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid WHERE s.relkind = 'S'"
    ).fetchall()
    for table, column, sequence in owned:
        conn.execute(
            sql.SQL("SELECT setval({}::regclass, (SELECT max({}) FROM {}) + 1000000) FROM {} LIMIT 1").format(
                sql.Literal(sequence), sql.Identifier(column), sql.SQL(table), sql.SQL(table)
            )
        )


def _execute(document: Mapping[str, Any], shadow: Shadow) -> Diff:
    surface = gate_surface(shadow.fence, shadow.tenant_key, frozenset())
    sets: set[tuple[str, str]] = set()
    for recorded in document["statements"]:
        statement = _statement(document, recorded)
        preload(shadow, statement)
        gated = thaw(surface, statement, GateLimits()).gated
        sets |= gated.set_columns
        run_step(shadow, gated, statement.step)
    measures = tuple(Measure(**measure) for measure in document["measures"])
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
        tool=None,
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
    for before, after in zip(expected.measures, got.measures, strict=True):
        if before.delta != after.delta:
            found.append(_difference(f"measure {before.name}", "", "delta", before.delta, after.delta))
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
        texts = [_shown(cell.after, cell.kind) if cell else "unchanged" for cell in cells]
        if texts[0] != texts[1]:
            found.append(_difference(table, key, column, texts[0], texts[1]))
    return found


def _shown(text: str | None, kind: str) -> str:
    if kind != "value":
        return f"({kind})"
    return "NULL" if text is None else repr(text)


def _difference(table: str, key: str, column: str, expected: str, got: str) -> Difference:
    return Difference(table=table, key=key, column=column, expected=expected, got=got)
