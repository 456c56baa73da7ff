"""A dry run as one document that QA re-executes: statements, drawn values, the expected diff, and the rows it needs.

Exported by `shadowdesk recording export`; `recording_run.py` executes it again (design 4.9).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from psycopg import sql

from differ.model import Diff
from mcp_server.control.records import DryRun, Statement
from mcp_server.desk import Desk
from mcp_server.errors import ConfigurationInvalid
from mcp_server.identity import Caller
from mcp_server.images import table_images
from shadow.fence import SINK, Fence, FenceRules, TableRule
from shadow.links import via_from
from shadow.mirror import dump_definitions
from shadow.predicate import base
from shadow.shadow import Shadow

FORMAT = "shadowdesk.recording/1"
_ALL_ROWS = 1_000_000


def export(desk: Desk, caller: Caller, dry_run_id: str, *, with_rows: bool) -> dict[str, Any]:
    """The document of one dry run. With rows it holds the tenant's loaded rows: treat it as production data.

    Raises NotFound, ShadowExpired.
    """
    dry_run = desk.visible(caller, dry_run_id)

    def work(shadow: Shadow, steps: list[Statement]) -> dict[str, Any]:
        document = _document(desk, shadow, dry_run, steps)
        if with_rows:
            document["definitions"] = dump_definitions(
                desk.production.settings.reader_url, desk.shadows.bin_dir
            ).decode()
            document["fence"]["tables"] = _defined(document["fence"]["tables"], shadow.fence)
            document["rows"] = _rows(shadow)
        return document

    return desk.on_shadow(dry_run, work)


def _defined(rules: Mapping[str, Any], fence: Fence) -> dict[str, Any]:
    """The rules without those of tables that the definitions leave out."""
    gone = set(fence.catalog.left_out)
    tables = {name: one.table for name, one in fence.tables.items()}
    return {n: rule for n, rule in rules.items() if f"{tables[n].schema}.{tables[n].relation}" not in gone}


def _document(desk: Desk, shadow: Shadow, dry_run: DryRun, steps: list[Statement]) -> dict[str, Any]:
    sets = desk.set_columns(shadow, steps)
    diff = desk.net(shadow, sets, 0, _ALL_ROWS)
    return {
        "format": FORMAT,
        "dry_run": dry_run.id,
        "purpose": dry_run.purpose,
        "tenant": dry_run.tenant_key,
        "schema": shadow.fence.catalog.fingerprint,
        "search_path": list(desk.production.settings.search_path),
        "fence": rules_to_json(desk.production.settings.rules),
        "measures": [asdict(measure) for measure in desk.settings.measures],
        "statements": [
            {
                "step": s.step,
                "text": s.text,
                "params": list(s.params),
                "pins": list(s.pins),
                "draws": dict(s.defaults),
                "rows": s.row_count,
                "kind": s.kind,
                "reason": s.reason,
                "tool": s.tool,
            }
            for s in steps
        ],
        "expected": diff.to_json(),
    }


def _rows(shadow: Shadow) -> dict[str, Any]:
    """The rows as loaded: the pristine copy where something was written, else the table itself."""
    pristine = {images.table: images.pristine for images in table_images(shadow)}
    names = [name for (name,) in shadow.owner.execute("SELECT name FROM shadowdesk.loaded ORDER BY name").fetchall()]
    found = {}
    for name in names:
        table = shadow.fence.tables[name]
        if table.fence_class == SINK:
            continue
        kept = pristine.get(name)
        columns = [c.name for c in table.table.columns if not c.generated]
        cells = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(c)) for c in columns)
        source = sql.Identifier(*kept) if kept else base(table)
        rows = shadow.owner.execute(sql.SQL("SELECT {} FROM {}").format(cells, source)).fetchall()
        found[name] = {
            "columns": columns,
            "rows": sorted([list(row) for row in rows], key=lambda r: [c or "" for c in r]),
        }
    return found


def rules_to_json(rules: FenceRules) -> dict[str, Any]:
    """The tenancy rules as plain JSON."""
    return {**asdict(rules), "tables": {name: asdict(rule) for name, rule in rules.tables.items()}}


def rules_from_json(data: Mapping[str, Any]) -> FenceRules:
    """The rules that `rules_to_json` wrote; JSON's lists stand for several columns."""
    tables = {name: TableRule(**{**rule, "via": via_from(rule["via"])}) for name, rule in data["tables"].items()}
    return FenceRules(**{**data, "tables": tables})


def write(document: Mapping[str, Any]) -> str:
    """The document as text, stable and readable in a review."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def read(text: str) -> dict[str, Any]:
    """The document from text. Raises ConfigurationInvalid when it is not a recording of a format we know."""
    try:
        document = json.loads(text)
        known = document["format"] == FORMAT and Diff.from_json(document["expected"]) is not None
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ConfigurationInvalid(
            f"This is not a recording of format {FORMAT}.",
            "Nothing ran.",
            "Export it again with `shadowdesk recording`.",
        )
    found: dict[str, Any] = document
    return found
