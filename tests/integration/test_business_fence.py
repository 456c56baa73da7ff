"""The fences of the demo's business and of the retail shop, as their own TOML templates draw them."""

import tomllib
from collections import defaultdict
from pathlib import Path
from string import Template

import psycopg
import pytest

from mcp_server.demo.business import business_sql
from shadow.catalog import read_catalog
from shadow.fence import Fence, FenceRules, TableRule, build_fence
from tests.postgres import MakeDatabase
from tests.retail.loader import schema

ROOT = Path(__file__).parents[2]


def fence_of(url: str, template: str) -> Fence:
    """The fence of the database under the `[fence]` of a template."""
    text = Template((ROOT / template).read_text(encoding="utf-8")).substitute(defaultdict(lambda: "1"))
    drawn = tomllib.loads(text)["fence"]
    tables = {
        name: TableRule(fence_class=rule.get("class"), via=rule.get("via"), rows=rule.get("rows"))
        for name, rule in drawn["tables"].items()
    }
    rules = FenceRules(root=drawn["root"], key=drawn["key"], label=drawn["label"], tables=tables)
    with psycopg.connect(url, autocommit=True) as connection:
        return build_fence(read_catalog(connection, ["public"]), rules)


BUSINESS = {
    "tenants": "root", "accounts": "direct", "contracts": "direct", "memberships": "direct", "signatories": "direct",
    "line_items": "reached", "invoices": "reached", "users": "shared", "currencies": "shared", "plans": "shared",
    "contract_history": "sink",
}  # fmt: skip
RETAIL = {
    "users": "root", "orders": "direct", "payment_methods": "direct", "order_items": "reached",
    "payments": "reached", "fulfilments": "reached", "fulfilment_items": "reached", "return_items": "reached",
    "exchange_items": "reached", "products": "shared", "variants": "shared",
}  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "template", "classes", "one_path"),
    [
        (business_sql(), "mcp_server/demo/shadowdesk.toml.in", BUSINESS, "invoices"),
        (schema(), "tests/retail/shadowdesk.toml.in", RETAIL, "payments"),
    ],
    ids=["business", "retail"],
)
def test_every_table_has_the_class_its_template_means(
    sql: str, template: str, classes: dict[str, str], one_path: str, database: MakeDatabase
) -> None:
    fence = fence_of(database(sql), template)
    assert {name: table.fence_class for name, table in fence.tables.items()} == classes
    assert all(table.writable == table.owned for table in fence.tables.values())
    assert len(fence.tables[one_path].paths) == 1
