"""How the tenant's rows are found and kept apart: hops, paths, shared rows, spellings, rows for everybody."""

import pytest

from shadow.errors import StatementFailed, StatementRefused
from shadow.fence import FenceRules, TableRule
from tests.fixes import REP
from tests.schemas.whole import WholeWay, schema


def test_a_tenant_is_reached_over_four_keys(whole_way: WholeWay) -> None:
    way = whole_way(schema("tenancy", "hops"))
    mine = "up IN (SELECT l3.id FROM l3 JOIN l2 ON l2.id = l3.up JOIN l1 ON l1.id = l2.up WHERE l1.tenant_id = 1)"
    applied = way.applied("UPDATE l4 SET n = 1", plain=[f"UPDATE l4 SET n = 1 WHERE {mine}"])
    assert applied.diff.total_rows == 16


def test_a_parent_without_a_way_to_the_tenant_is_read_only_company(whole_way: WholeWay) -> None:
    way = whole_way(schema("tenancy", "hops"))
    dry_run = way.run()
    assert [row[0] for row in way.fixes.desk.query(REP, dry_run, "SELECT id FROM settings ORDER BY id").rows] == [
        "2",
        "4",
    ]
    with pytest.raises(StatementRefused, match="read but not changed"):
        way.run("UPDATE settings SET colour = 'blue' WHERE id = 2")


def test_several_paths_are_a_union_and_a_contradiction_stays_out(whole_way: WholeWay) -> None:
    way = whole_way(schema("tenancy", "paths"))
    applied = way.applied("UPDATE fees SET n = 1", plain=["UPDATE fees SET n = 1 WHERE id IN (1, 2, 3)"])
    assert applied.diff.total_rows == 3
    with pytest.raises(StatementFailed, match="leave the tenant's fence"):
        way.run("UPDATE fees SET invoice = 1 WHERE id = 2")


def test_shared_rows_do_not_lead_on_to_other_tenants(whole_way: WholeWay) -> None:
    way = whole_way(schema("tenancy", "shared_rows"))
    dry_run = way.run("UPDATE members SET role = 'y' WHERE user_id = 6")
    seen = way.fixes.desk.query(REP, dry_run, "SELECT id FROM users ORDER BY id").rows
    assert [row[0] for row in seen] == ["1", "3", "5", "6"]
    assert way.fixes.desk.query(REP, dry_run, "SELECT count(*) FROM members").rows == (("4",),)
    with pytest.raises(StatementRefused):
        way.run("UPDATE users SET name = 'z' WHERE id = 6")
    with pytest.raises(StatementRefused):
        way.fixes.desk.query(REP, dry_run, "SELECT * FROM tags")


def test_two_spellings_and_rows_for_everybody(whole_way: WholeWay) -> None:
    rules = FenceRules(
        root="tenants", tenant_column="tenant_id", tables={"b": TableRule(fence_class="direct", column="tenantId")}
    )
    way = whole_way(schema("tenancy", "spellings"), rules)
    applied = way.applied(
        "UPDATE a SET n = 1", "UPDATE b SET n = 1", "UPDATE roles SET label = 'x'", "INSERT INTO b(id, n) VALUES (9, 9)",
        plain=[
            "UPDATE a SET n = 1 WHERE tenant_id = 1", "UPDATE b SET n = 1 WHERE \"tenantId\" = 1",
            "UPDATE roles SET label = 'x' WHERE id = 2", "INSERT INTO b VALUES (9, 1, 9)",
        ],
    )  # fmt: skip
    assert applied.diff.total_rows == 6
    with pytest.raises(StatementFailed, match="leave the tenant's fence"):
        way.run("UPDATE grants SET role = 1 WHERE id = 1")
