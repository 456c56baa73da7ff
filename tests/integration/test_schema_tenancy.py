"""How the tenant's rows are found and kept apart: hops, paths, shared rows, spellings, rows for everybody."""

import json

import psycopg
import pytest

from mcp_server.errors import ConfigurationInvalid
from mcp_server.guessing import guess
from mcp_server.recording import export, rules_from_json, rules_to_json, write
from mcp_server.recording_run import run_with_rows
from shadow.errors import Drifted, StatementFailed, StatementRefused, TenantNotFound
from shadow.fence import FenceRules, TableRule, build_fence
from shadow.owners import count_rows
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


ACCOUNTS = FenceRules(
    root="accounts",
    key=("region", "account_no"),
    label="name",
    tables={"links": TableRule(fence_class="direct", column=("r", "a"))},
)
MINE = "region = 'eu' AND account_no = 1"


def test_a_tenants_key_of_several_columns(whole_way: WholeWay) -> None:
    way = whole_way(schema("tenancy", "several_columns"), ACCOUNTS, tenant='["eu", "1"]')
    before = way.fixes.rows()
    applied = way.applied(
        "UPDATE orders SET n = n + 1", "DELETE FROM lines WHERE order_no = 2", "UPDATE links SET n = 1",
        "INSERT INTO orders(order_no, n) VALUES (3, 3)", "INSERT INTO notes(id, body) VALUES (80, 'new')",
        "INSERT INTO orders(region, account_no, order_no, n) VALUES ('eu', 1, 4, 4)",
        "INSERT INTO orders(region, account_no, order_no, n) VALUES ('eu', 1, 3, 9)"
        " ON CONFLICT (region, account_no, order_no) DO UPDATE SET n = excluded.n",
        "UPDATE accounts SET plan = 'gold'", "UPDATE notes SET body = 'y' WHERE region = 'eu'",
        plain=[
            f"UPDATE orders SET n = n + 1 WHERE {MINE}", f"DELETE FROM lines WHERE {MINE} AND order_no = 2",
            "UPDATE links SET n = 1 WHERE r = 'eu' AND a = 1", "INSERT INTO orders VALUES ('eu', 1, 3, 9)",
            "INSERT INTO notes VALUES (80, 'eu', 1, 'new')", "INSERT INTO orders VALUES ('eu', 1, 4, 4)",
            f"UPDATE accounts SET plan = 'gold' WHERE {MINE}", f"UPDATE notes SET body = 'y' WHERE {MINE}",
        ],
    )  # fmt: skip
    assert applied.diff.total_rows == 10
    shown = way.run("UPDATE orders SET n = 7 WHERE order_no = 1", "INSERT INTO orders(order_no, n) VALUES (5, 5)")
    assert run_with_rows(json.loads(write(export(way.fixes.desk, REP, shown, with_rows=True)))) == []
    [(proposal,)] = way.fixes.production("SELECT proposal_id FROM shadowdesk.receipts")
    way.fixes.reverted(str(proposal))
    assert {k: v for k, v in way.fixes.rows().items() if k != "receipts"} == before


def test_a_key_of_several_columns_is_one_text_wherever_a_tenant_is_named(whole_way: WholeWay) -> None:
    odd = '["e\\"u, \\\\ü", "1"]'
    way = whole_way(schema("tenancy", "several_columns"), ACCOUNTS, tenant=odd)
    production = way.fixes.desk.production
    assert [hit.key for hit in production.find_tenants("odd", 5)] == [odd]
    assert production.tenant_of("lines.id", "1") in {'["eu", "1"]', '["us", "1"]', '["eu", "2"]', odd}
    assert (
        way.applied("UPDATE orders SET n = 1", plain=["UPDATE orders SET n = 1 WHERE region ~ 'ü'"]).diff.total_rows
        == 2
    )
    for wrong in ('["eu", "7"]', '["eu"]', "eu", '["eu", 1]', '{"eu": "1"}'):
        with pytest.raises(TenantNotFound):
            way.fixes.rehearse(["UPDATE orders SET n = 1"], wrong)
    with psycopg.connect(production.settings.reader_url) as conn:
        counted = {one.table: one for one in count_rows(conn, way.fence)}
        guessed = guess(conn, way.fence.catalog)
    assert (counted["notes"].owned, counted["notes"].nobody, counted["lines"].contradicted) == (4, 2, 0)
    assert guessed is not None and guessed.roots[0].key == ("region", "account_no")
    told = rules_from_json(rules_to_json(ACCOUNTS))
    assert build_fence(way.fence.catalog, told).tables == way.fence.tables


def test_no_part_of_a_key_leads_to_another_tenant(whole_way: WholeWay) -> None:
    way = whole_way(schema("tenancy", "several_columns"), ACCOUNTS, tenant='["eu", "1"]')
    for text in (
        "UPDATE notes SET region = 'us'", "UPDATE notes SET account_no = 2", "UPDATE notes SET account_no = account_no + 1",
        "INSERT INTO orders(region, account_no, order_no) VALUES ('us', 1, 9)", "UPDATE accounts SET account_no = 3",
        "INSERT INTO orders(account_no, order_no) SELECT 2, 9",
        "INSERT INTO orders(order_no, code) VALUES (9, '2-1') ON CONFLICT (region, code) DO NOTHING",
    ):  # fmt: skip
        with pytest.raises(StatementRefused):
            way.run(text)
    with pytest.raises(StatementFailed, match="leave the tenant's fence"):
        way.run("UPDATE notes SET account_no = 1, region = 'eu'", "UPDATE lines SET account_no = 2")
    dry_run = way.run("UPDATE notes SET body = 'z'")
    proposal = way.fixes.desk.propose(REP, dry_run)
    way.fixes.production("UPDATE notes SET account_no = 2 WHERE region = 'eu' AND account_no = 1")
    with pytest.raises(Drifted):
        way.fixes.desk.confirm(REP, proposal.id, proposal.digest, proposal.rows)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (FenceRules(root="accounts", key="region"), "would join tenants"),
        (FenceRules(root="accounts", key=("region", "name")), "would join tenants"),
        (FenceRules(root="accounts", key=("region", "nothing")), "no column 'nothing'"),
        (FenceRules(root="accounts", key=("region", "account_no"), tenant_column="region"), "name 2 columns"),
        (
            FenceRules(
                root="accounts", key=("region", "account_no"),
                tables={"links": TableRule(fence_class="direct", column="r")},
            ),
            "name 2 columns",
        ),
        (
            FenceRules(
                root="accounts", key=("region", "account_no"), tables={"notes": TableRule(null_tenant="everybody")}
            ),
            "only for a tenant's key of one column",
        ),
    ],
)  # fmt: skip
def test_rules_for_such_a_key_that_would_join_tenants_are_refused(
    whole_way: WholeWay, rules: FenceRules, said: str
) -> None:
    way = whole_way(schema("tenancy", "several_columns"), rules)
    with pytest.raises(ConfigurationInvalid, match=said):
        way.run()


def test_per_cent_signs_in_every_name(whole_way: WholeWay) -> None:
    way = whole_way(
        'CREATE TABLE "te%nants"("id%" int PRIMARY KEY, "na%me" text); INSERT INTO "te%nants" VALUES (1, \'Acme\'), (2, \'50% off\');'
        'CREATE TABLE "do%cs"("id%" int PRIMARY KEY, "te%nant" int NOT NULL REFERENCES "te%nants", "vat%s" text);'
        "INSERT INTO \"do%cs\" VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 1, 'c');",
        FenceRules(root="te%nants", key=("id%",), label="na%me"),
    )
    production = way.fixes.desk.production
    assert [hit.key for hit in production.find_tenants("0%", 5)] == ["2"]
    assert production.tenant_of("do%cs.id%", "3") == "1"
    way.applied('UPDATE "do%cs" SET "vat%s" = \'x%\' WHERE "id%" = 1', 'DELETE FROM "do%cs" WHERE "id%" = 3')
