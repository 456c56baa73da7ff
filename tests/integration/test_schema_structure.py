"""Keys, names, links, constraints, views, rules and policies as real schemas have them, each the whole way."""

from dataclasses import dataclass

import psycopg
import pytest

from shadow.embedded import EmbeddedServer
from shadow.errors import Diverged, Drifted, StatementFailed, StatementRefused
from shadow.fence import FenceRules, TableRule
from tests.fixes import REP
from tests.schemas.judge import Cell
from tests.schemas.whole import TENANTS, WholeWay, schema


@dataclass(frozen=True, kw_only=True)
class Case:
    """Statements on one schema; `plain` is what somebody without a fence writes, where that differs."""

    schema: str
    steps: tuple[str, ...]
    rows: int
    plain: tuple[str, ...] = ()
    drawn: tuple[Cell, ...] = ()
    rules: FenceRules = TENANTS
    search_path: tuple[str, ...] = ("public",)
    since: int = 0


MINE = "tenant_id = 1"
WORKS = (
    Case(schema="no_key", rows=2, steps=(f"UPDATE badges SET colour = upper(colour), code = code || '!' WHERE {MINE} AND colour IS NOT NULL",)),
    Case(
        schema="natural_keys", rows=17,
        steps=(
            f"UPDATE rates SET rate = rate + 1 WHERE region = '' AND {MINE}",
            f"UPDATE rates SET region = 'moved ''' || region WHERE region = 'per%cent' AND {MINE}",
            f"UPDATE uses SET note = region WHERE {MINE} AND region LIKE 'moved%'",
            f"DELETE FROM rates WHERE {MINE} AND region = 'back\\slash' AND valid > '2024-01-01'",
            "INSERT INTO rates(tenant_id, region, valid, rate) VALUES (1, '\"', '2024-01-01', 9)",
        ),
    ),
    Case(
        schema="names", rows=7,
        steps=(
            'UPDATE "User" SET "Limit" = "Limit" + 1, "a""b" = \'"\', "per%cent" = 5 % 3, "Straße" = NULL, "{x}" = \'{}\' WHERE "tenant_id" = 1 AND "order" <> \'o2\'',
            'DELETE FROM "order" WHERE "User" = 2',
            'INSERT INTO "order"("select", "User") VALUES (100, 4), (101, 6)',
            'UPDATE "order" SET "from" = \'2024-02-02\' WHERE "order"."select" = 100',
            'UPDATE "order" AS o SET "from" = \'2024-02-02\' FROM "User" u WHERE u.id = o."User" AND u."tenant_id" = 1 AND u.id = 4 AND o."select" = 3',
        ),
    ),
    Case(
        schema="schemas", rows=8, search_path=("public", "billing"),
        steps=(
            "UPDATE items SET name = 'x' WHERE id = 2", "INSERT INTO items(id, tenant_id, name) VALUES (20, 1, 'new')",
            "INSERT INTO lines(item) VALUES (2), (4)", "DELETE FROM items WHERE id = 6", "UPDATE lines SET n = 3 WHERE item = 4",
        ),
    ),
    Case(schema="self_reference", rows=5, steps=("UPDATE nodes SET depth = 99 WHERE id = 4", "INSERT INTO nodes(id, tenant_id, parent, depth) VALUES (14, 1, 4, 3)", "DELETE FROM nodes WHERE id = 8")),
    Case(
        schema="cycle", rows=5,
        steps=(
            "INSERT INTO teams(id, tenant_id, lead) VALUES (9, 1, 90)", "INSERT INTO people(id, team, name) VALUES (90, 9, 'new')", "UPDATE teams SET lead = 90 WHERE id = 2",
            "DELETE FROM teams WHERE id = 4",
        ),
    ),
    Case(
        schema="deferrable", rows=6,
        steps=(
            "UPDATE entries SET pos = 5 - pos WHERE list = 1", "INSERT INTO entries(id, list, pos) VALUES (50, 5, 1)", "INSERT INTO lists(id, tenant_id) VALUES (5, 1)",
        ),
    ),
    Case(schema="generated", rows=3, steps=("UPDATE lines SET qty = qty * 2 WHERE id = 2", "INSERT INTO lines(id, tenant_id, qty, price) VALUES (10, 1, 3, 2.5)", "DELETE FROM lines WHERE total = 16.00")),
    Case(schema="generated_virtual", since=18, rows=3, steps=("UPDATE lines SET qty = qty * 2 WHERE id = 2", "INSERT INTO lines(id, tenant_id, qty, price) VALUES (10, 1, 3, 2.5)", "DELETE FROM lines WHERE total = 16.00")),
    Case(
        schema="sequences", rows=12,
        steps=(
            "INSERT INTO a(tenant_id, t) VALUES (1, 'new')", "INSERT INTO b(tenant_id, t) VALUES (1, 'x'), (1, 'y')",
            "INSERT INTO a(tenant_id, t) SELECT 1, t FROM b WHERE tenant_id = 1 AND t <> 'b1' ORDER BY id",
            "INSERT INTO c(a, t) SELECT id, t FROM a WHERE tenant_id = 1 AND t IN ('x', 'y') ORDER BY id",
            "INSERT INTO d(tenant_id, t) VALUES (1, 'one'), (1, 'two')", "INSERT INTO e(tenant_id, t) VALUES (1, 'one')",
            "INSERT INTO f(tenant_id, t) VALUES (1, 'one'), (1, 'two')",
        ),
        drawn=(("public.f", "id"), ("public.e", "id")),
    ),
    Case(
        schema="indexes", rows=5,
        steps=(
            "UPDATE docs SET state = 'live' WHERE tenant_id = 1 AND slug = 's0' AND id = 8",
            "UPDATE docs SET code = lower(code) WHERE tenant_id = 1 AND id IN (4, 6)",
            "INSERT INTO docs(tenant_id, code, slug, n) VALUES (1, 'N', 's0', 60) ON CONFLICT (tenant_id, n) DO UPDATE SET slug = 'upserted'",
            "INSERT INTO docs(tenant_id, code, slug, n) VALUES (1, 'M', 's0', 2) ON CONFLICT (tenant_id, n) DO UPDATE SET slug = 'upserted'",
        ),
    ),
    Case(schema="exclusion", rows=2, steps=("UPDATE bookings SET during = '[2025-01-01,2025-01-02)' WHERE id = 2", "INSERT INTO bookings(id, tenant_id, room, during) VALUES (9, 1, 0, '[2025-01-02,2025-01-03)')")),
    Case(schema="temporal", since=18, rows=3, steps=("UPDATE prices SET price = 3 WHERE sku = 'a' AND tenant_id = 1", "INSERT INTO prices(tenant_id, sku, valid, price) VALUES (1, 'b', '[2024-01-01,)', 5)")),
    Case(schema="views", rows=3, steps=("UPDATE orders SET amount = 0 WHERE id = 2", "UPDATE clicks SET n = 0 WHERE id = 6")),
    Case(
        schema="polymorphic", rows=3, rules=FenceRules(root="tenants", tables={"notes": TableRule(via="about_id -> deals.id", when="about_type = 'Deal'")}),
        steps=("UPDATE notes SET body = 'mine'", "INSERT INTO notes(id, about_type, about_id, body) VALUES (50, 'Deal', 2, 'new')"),
        plain=(
            "UPDATE notes SET body = 'mine' WHERE about_type = 'Deal' AND about_id IN (SELECT id FROM deals WHERE tenant_id = 1)",
            "INSERT INTO notes(id, about_type, about_id, body) VALUES (50, 'Deal', 2, 'new')",
        ),
    ),
    Case(schema="event_trigger", rows=1, steps=("UPDATE orders SET amount = 0 WHERE id = 2",)),
)  # fmt: skip


def major(server: EmbeddedServer) -> int:
    with psycopg.connect(server.owner_url) as conn:
        return conn.info.server_version // 10000


@pytest.mark.parametrize("case", WORKS, ids=lambda case: case.schema)
def test_structure_travels_the_whole_way(whole_way: WholeWay, production_server: EmbeddedServer, case: Case) -> None:
    if case.since > major(production_server):
        with pytest.raises(psycopg.errors.SyntaxError):  # a production that does not know it cannot have it
            whole_way(schema("structure", case.schema))
        return
    way = whole_way(schema("structure", case.schema), rules=case.rules, search_path=case.search_path)
    applied = way.applied(*case.steps, plain=case.plain or None, drawn=case.drawn)
    assert applied.diff.total_rows == case.rows


def test_rows_without_a_key_are_read_and_not_written(whole_way: WholeWay) -> None:
    way = whole_way(schema("structure", "no_key"))
    dry_run = way.run()
    assert len(way.fixes.desk.query(REP, dry_run, "SELECT sensor FROM readings").rows) == 6
    for text in (
        "UPDATE readings SET value = 0", "DELETE FROM readings",
        "INSERT INTO readings(tenant_id, sensor, value) VALUES (1, 's', 1)",
    ):  # fmt: skip
        with pytest.raises(StatementRefused, match="no primary key"):
            way.run(text)


def test_a_parent_in_table_inheritance_is_read_and_not_written(whole_way: WholeWay) -> None:
    way = whole_way(schema("structure", "inheritance"))
    dry_run = way.run()
    assert len(way.fixes.desk.query(REP, dry_run, "SELECT what FROM events").rows) == 2
    with pytest.raises(StatementRefused, match="inherit"):
        way.run("UPDATE events SET what = 'z' WHERE id = 1")
    with pytest.raises(StatementRefused, match="part of the table “events” and cannot be named by itself"):
        way.run("UPDATE special_events SET what = 'z' WHERE id = 3")


@pytest.mark.parametrize("view", ["live_orders", "totals", "stale_totals"])
def test_the_apps_views_are_not_on_the_surface(whole_way: WholeWay, view: str) -> None:
    way = whole_way(schema("structure", "views"))
    with pytest.raises(StatementRefused, match="no table"):
        way.fixes.desk.query(REP, way.run(), f"SELECT * FROM {view}")


def test_a_rule_on_a_table_is_refused(whole_way: WholeWay) -> None:
    way = whole_way(schema("structure", "rules"))
    with pytest.raises(StatementRefused, match="rule"):
        way.run("UPDATE orders SET amount = 0 WHERE id = 2")


BYPASS = "ALTER ROLE shadowdesk_reader {0}BYPASSRLS; ALTER ROLE shadowdesk_applier {0}BYPASSRLS"


def test_row_security_stands_in_nobodys_way_silently(whole_way: WholeWay) -> None:
    way = whole_way(schema("structure", "row_security"))
    with pytest.raises(StatementRefused, match="BYPASSRLS"):
        way.run("UPDATE orders SET amount = 0 WHERE id = 2")
    way.fixes.production(BYPASS.format(""))
    try:
        dry_run = way.run("UPDATE orders SET amount = 5 WHERE id = 2")
        way.fixes.production("ALTER ROLE shadowdesk_applier NOBYPASSRLS")
        with pytest.raises(Diverged, match="lacks a right"):
            way.fixes.confirm(dry_run)
        way.fixes.production(BYPASS.format(""))
        applied = way.applied("UPDATE orders SET amount = 7 WHERE id = 2")
        assert {row.table for row in applied.diff.rows} == {"orders", "sums"}
    finally:
        way.fixes.production(BYPASS.format("NO"))


@pytest.mark.parametrize(
    ("kind", "mine", "other"),
    [
        ("bigint", "9007199254740993", "9007199254740992"), ("uuid", "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"),
        ("text", "it's \"A\" %s \\", "IT'S"), ("citext", "AcMe", "other"), ("numeric(10,2)", "1.50", "1.51"), ("date", "2024-01-01", "2024-01-02"),
        ("char(4)", "ab", "abc"), ("tenant_code", "T1", "T2"),
    ],
)  # fmt: skip
def test_a_tenants_key_has_any_type(whole_way: WholeWay, kind: str, mine: str, other: str) -> None:
    quoted = [value.replace("'", "''") for value in (mine, other)]
    way = whole_way(
        "CREATE EXTENSION citext; CREATE DOMAIN tenant_code AS text CHECK (VALUE ~ '^T');"
        f"CREATE TABLE tenants(key {kind} PRIMARY KEY, name text);"
        f"CREATE TABLE orders(id int PRIMARY KEY, tenant {kind} NOT NULL REFERENCES tenants, n int);"
        "CREATE TABLE parts(id int PRIMARY KEY, order_id int NOT NULL REFERENCES orders, n int);"
        + "".join(
            f"INSERT INTO tenants VALUES ('{key}', 'x'); INSERT INTO orders VALUES ({place}, '{key}', 0); INSERT INTO parts VALUES ({place}, {place}, 0);"
            for place, key in enumerate(quoted)
        ),
        FenceRules(root="tenants", key="key", label="name"), tenant=mine,
    )  # fmt: skip
    applied = way.applied(
        "UPDATE orders SET n = n + 1", "UPDATE parts SET n = 5", "INSERT INTO orders(id, n) VALUES (9, 9)",
        "UPDATE tenants SET name = 'renamed'",
        plain=(
            "UPDATE orders SET n = n + 1 WHERE id = 0", "UPDATE parts SET n = 5 WHERE id = 0",
            f"INSERT INTO orders(id, tenant, n) VALUES (9, '{quoted[0]}', 9)", f"UPDATE tenants SET name = 'renamed' WHERE key = '{quoted[0]}'",
        ),
    )  # fmt: skip
    assert applied.diff.total_rows == 4


def test_a_deferred_key_waits_for_nobody_elses_row(whole_way: WholeWay) -> None:
    way = whole_way(schema("structure", "deferrable"))
    for text in ("UPDATE entries SET list = 2 WHERE list = 1", "INSERT INTO entries(id, list, pos) VALUES (60, 77, 1)"):
        dry_run = way.run(text)
        with pytest.raises(StatementFailed, match="a row it refers to is missing"):
            way.fixes.desk.propose(REP, dry_run)
    dry_run = way.run(
        "INSERT INTO entries(id, list, pos) VALUES (60, 77, 1)", "INSERT INTO lists(id, tenant_id) VALUES (77, 1)"
    )
    proposal = way.fixes.desk.propose(REP, dry_run)
    way.fixes.production("INSERT INTO lists VALUES (77, 2)")
    with pytest.raises(Drifted, match="exists already"):
        way.fixes.desk.confirm(REP, proposal.id, proposal.digest, proposal.rows)
