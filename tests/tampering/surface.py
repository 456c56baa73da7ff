"""The corpus's application as a gate surface, and its entries as statements; used by the gate's tests."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shadow.statement import Surface, SurfaceTable

FOLDER = Path(__file__).parent
PLACEHOLDERS = {
    "{own_shadow}": "shadow_aaaaaaaaaaaa",
    "{other_shadow}": "shadow_bbbbbbbbbbbb",
    "{own_role}": "shadow_aaaaaaaaaaaa",
    "{other_role}": "shadow_bbbbbbbbbbbb",
    "{applier_role}": "shadowdesk_applier",
    "{owner_role}": "app_owner",
    "{control_role}": "shadowdesk_control",
}


def _table(
    name: str, columns: dict[str, str], unique: list[set[str]], safe: list[set[str]], **more: Any
) -> SurfaceTable:
    return SurfaceTable(
        name=name,
        columns=columns,
        key=("id",),
        unique_keys=tuple(frozenset(key) for key in unique),
        unique_with_tenant=tuple(frozenset(key) for key in safe),
        not_null=frozenset(more.get("not_null", ())),
        tenant_columns=more.get("tenant_columns", ()),
        writable=more.get("writable", True),
        fence_class=more.get("fence_class", "direct"),
        defaults=more.get("defaults", {}),
    )


CONTRACTS = _table(
    "contracts",
    {
        "id": "integer",
        "tenant_id": "integer",
        "code": "text",
        "customer": "text",
        "status": "contract_status",
        "amount": "numeric(12,2)",
        "starts_on": "date",
        "ends_on": "date",
        "tags": "text[]",
        "meta": "jsonb",
        "note": "text",
        "updated_at": "timestamp with time zone",
    },
    [{"id"}, {"code"}],
    [],
    tenant_columns=("tenant_id",),
)
LINE_ITEMS = _table(
    "line_items",
    {
        "id": "integer",
        "contract_id": "integer",
        "sku": "text",
        "qty": "integer",
        "price": "numeric(12,2)",
        "note": "text",
    },
    [{"id"}, {"contract_id", "sku"}],
    [{"contract_id", "sku"}],
    fence_class="reached",
)
INVOICES = _table(
    "invoices",
    {
        "id": "bigint",
        "tenant_id": "integer",
        "contract_id": "integer",
        "number": "text",
        "ext_ref": "text",
        "total": "numeric(12,2)",
        "due_on": "date",
        "paid": "boolean",
        "paid_at": "timestamp with time zone",
    },
    [{"id"}, {"ext_ref"}, {"tenant_id", "number"}],
    [{"tenant_id", "number"}],
    tenant_columns=("tenant_id",),
)
PLANS = _table("plans", {"id": "integer", "name": "text"}, [{"id"}], [], writable=False, fence_class="shared")


def functions() -> dict[str, str]:
    """pg_catalog's functions of PostgreSQL 18: name to worst volatility, as read from a server."""
    by_volatility = json.loads((FOLDER / "pg_proc_18.json").read_text())
    return {name: volatility for volatility, names in by_volatility.items() for name in names}


def surface(**changes: Any) -> Surface:
    """The corpus's surface: tenant 1, three tables, one read-only table beside them, three tables outside."""
    made = Surface(
        tables={table.name: table for table in (CONTRACTS, LINE_ITEMS, INVOICES, PLANS)},
        tenant_key="1",
        functions=functions(),
        allow_functions=frozenset(),
        server_version=180000,
        outside=frozenset({"tenants", "app_secrets", "audit_log"}),
    )
    return replace(made, **changes)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One corpus entry: the statements it sends, in order (or side by side for kind compare)."""

    id: str
    category: str
    surface: str
    expected: str
    statements: tuple[str, ...]
    params: tuple[Any, ...]
    compare: bool


def entries() -> Iterator[Entry]:
    """All entries, placeholders filled and repeated texts written out; numbers among parameters as their text."""
    for line in (FOLDER / "statements.jsonl").read_text(encoding="utf-8").split("\n"):
        if line:
            raw = json.loads(line)
            sent = raw.get("steps") or ([raw["a"], raw["b"]] if "a" in raw else [raw["sql"]])
            yield Entry(
                id=raw["id"],
                category=raw["category"],
                surface=raw["surface"],
                expected=raw["expected"],
                statements=tuple(_written_out(one) for one in sent),
                params=tuple(str(p) if isinstance(p, int) else p for p in raw.get("params") or ()),
                compare="a" in raw,
            )


def _written_out(statement: Any) -> str:
    if isinstance(statement, dict):
        return str(statement["prefix"] + statement["repeat"] * statement["times"] + statement.get("suffix", ""))
    text = str(statement)
    for placeholder, value in PLACEHOLDERS.items():
        text = text.replace(placeholder, value)
    return text
