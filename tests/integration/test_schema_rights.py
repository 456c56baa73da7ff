"""Schemas and tables that the reader may not read: left out of the mirror, told, and in nobody's way."""

import json

import pytest

from mcp_server.errors import ConfigurationInvalid
from mcp_server.first_settings import guessed_settings
from mcp_server.production import Production
from mcp_server.recording import export, write
from mcp_server.recording_run import run_with_rows
from shadow.errors import Diverged, StatementFailed, StatementRefused
from shadow.fence import FenceRules, TableRule, certificate
from shadow.mirror import mirror_name
from tests.fixes import REP
from tests.schemas.whole import TENANTS, Way, WholeWay, schema

CLOSED = "REVOKE ALL ON secrets FROM shadowdesk_reader; REVOKE ALL ON SCHEMA hidden FROM PUBLIC, shadowdesk_reader"
#: What makes `deals` need `kinds`, which the reader may not read.
RESTING = {
    "a check": "ALTER TABLE deals ADD CHECK (known(n + 1))",
    "a default": "ALTER TABLE deals ALTER n SET DEFAULT length(known(1)::text)",
    "a column of its rows' type": "ALTER TABLE deals ADD kind kinds",
    "a domain": "CREATE DOMAIN kind AS int CHECK (known(VALUE) IS NOT NULL); ALTER TABLE deals ADD kind kind",
    "a trigger's condition": (
        "CREATE TRIGGER t AFTER UPDATE ON deals FOR EACH ROW WHEN (known(new.n)) EXECUTE FUNCTION noted()"
    ),
}


def _apart(whole_way: WholeWay) -> Way:
    way = whole_way(schema("rights", "another_teams"))
    way.fixes.production(CLOSED)
    return way


def test_what_the_reader_may_not_read_is_left_out_and_told(whole_way: WholeWay) -> None:
    way = _apart(whole_way)
    applied = way.applied(
        "UPDATE contracts SET mood = 'angry' WHERE id = 2", "DELETE FROM contracts WHERE id = 4",
        plain=["UPDATE contracts SET mood = 'angry' WHERE id = 2", "DELETE FROM contracts WHERE id = 4"],
    )  # fmt: skip
    assert applied.diff.total_rows == 2
    fence = way.fence
    assert {n: t.fence_class for n, t in fence.tables.items()} == {
        "tenants": "root", "contracts": "direct", "secrets": "outside",
    }  # fmt: skip
    assert "may not read it: no shadow holds it" in certificate(fence)
    assert set(fence.catalog.left_out) == {
        'hidden.odd "names" *', "public.secrets", "public.seen", "public.seen_again", "public.counted",
    }  # fmt: skip
    with pytest.raises(StatementRefused):
        way.fixes.desk.query(REP, way.run(), "SELECT * FROM secrets")
    with pytest.raises(StatementFailed, match="the reader may not draw from it"):
        way.run("INSERT INTO contracts(id) VALUES (9)")


def test_rows_nobody_may_see_do_not_change_unseen(whole_way: WholeWay) -> None:
    way = _apart(whole_way)
    before = way.production()
    for text in ("DELETE FROM contracts WHERE id = 2", "UPDATE contracts SET origin = 7 WHERE id = 4"):
        proposal = way.fixes.desk.propose(REP, way.run(text))
        with pytest.raises((Diverged, StatementFailed)) as found:
            way.fixes.desk.confirm(REP, proposal.id, proposal.digest, proposal.rows)
        assert "1234" not in str(found.value)
        assert way.production() == before


def test_rights_that_come_and_go_are_another_mirror(whole_way: WholeWay) -> None:
    way = _apart(whole_way)
    way.run("UPDATE contracts SET mood = 'angry' WHERE id = 2")
    way.fixes.production("GRANT SELECT ON secrets TO shadowdesk_reader")
    applied = way.applied("UPDATE secrets SET pin = 'x'", plain=["UPDATE secrets SET pin = 'x' WHERE contract = 2"])
    assert applied.diff.total_rows == 1
    before = way.fence
    way.fixes.production(
        "GRANT SELECT ON ALL TABLES IN SCHEMA hidden TO PUBLIC; GRANT USAGE ON SCHEMA hidden TO PUBLIC"
    )
    later = Production(
        way.fixes.desk.production.settings
    )  # as the next process sees it: the app's schemas are the same
    assert later.fence().catalog.fingerprint == before.catalog.fingerprint
    assert mirror_name(later.fence()) != mirror_name(before)
    later.close()
    way.fixes.production("COMMENT ON TABLE contracts IS 'x'; ALTER TABLE contracts ADD more int")
    with pytest.raises(StatementFailed):
        way.run("UPDATE contracts SET origin = 7 WHERE id = 4")
    assert way.fence.catalog.left_out == ()
    way.fixes.production("REVOKE USAGE ON SCHEMA public FROM PUBLIC, shadowdesk_reader")
    with pytest.raises(ConfigurationInvalid, match="tenants: shadowdesk_reader may not read it"):
        way.run()


@pytest.mark.parametrize("how", RESTING)
def test_a_tenants_table_that_needs_what_nobody_may_read_is_refused_in_words(whole_way: WholeWay, how: str) -> None:
    text = schema("rights", "resting") + RESTING[how]
    way = whole_way(text)
    way.fixes.production("REVOKE ALL ON kinds FROM shadowdesk_reader")
    with pytest.raises(ConfigurationInvalid, match=r"no shadow can hold deals: it needs public\.kinds"):
        way.run()
    outside = whole_way(text, FenceRules(root="tenants", tables={"deals": TableRule(fence_class="outside")}))
    outside.fixes.production("REVOKE ALL ON kinds FROM shadowdesk_reader")
    assert outside.applied("UPDATE tenants SET name = 'x'", plain=["UPDATE tenants SET name = 'x' WHERE id = 1"])


def test_init_keeps_away_from_what_the_reader_may_not_read(whole_way: WholeWay) -> None:
    way = whole_way(
        schema("rights", "resting") + RESTING["a check"] + "; CREATE TABLE companies(id int PRIMARY KEY, tenant_id int,"
        " kinds_id int); CREATE TABLE stays(id int PRIMARY KEY, company_id int REFERENCES companies)"
    )
    way.fixes.production("REVOKE ALL ON kinds, companies FROM shadowdesk_reader")
    text, guesses = guessed_settings(way.fixes.desk.production.settings.reader_url, ("public",))
    assert guesses.roots[0].table == "tenants"
    assert "# deals needs public.kinds, which the reader may not read" in text
    assert '[fence.tables.deals]\nclass = "outside"' in text


def test_a_partition_nobody_may_read_closes_the_whole_table(whole_way: WholeWay) -> None:
    way = whole_way(
        schema("rights", "resting") + "CREATE TABLE days(id int, tenant_id int REFERENCES tenants, day int, PRIMARY KEY (id, day))"
        " PARTITION BY LIST (day); CREATE TABLE day_1 PARTITION OF days FOR VALUES IN (1);"
        "CREATE TABLE day_2 PARTITION OF days FOR VALUES IN (2);",
        FenceRules(root="tenants", label="name"),
    )  # fmt: skip
    way.fixes.production("REVOKE ALL ON day_2 FROM shadowdesk_reader")
    with pytest.raises(ConfigurationInvalid, match=r"no shadow can hold days: it needs public\.day_2"):
        way.run()


def test_a_recording_leaves_out_what_the_reader_may_not_read(whole_way: WholeWay) -> None:
    meant = FenceRules(root="tenants", label="name", tables={"secrets": TableRule(fence_class="outside")})
    way = whole_way(schema("rights", "another_teams"), meant)
    way.fixes.production(CLOSED)
    dry_run = way.run("UPDATE contracts SET mood = 'angry' WHERE id = 2")
    document = json.loads(write(export(way.fixes.desk, REP, dry_run, with_rows=True)))
    assert "secrets(" not in document["definitions"] and "TABLE public.secrets" not in document["definitions"]
    assert run_with_rows(document) == []


@pytest.mark.parametrize("rule", [TableRule(fence_class="shared"), TableRule(via="contract -> contracts.id")])
def test_rules_cannot_bring_in_what_nobody_may_read(whole_way: WholeWay, rule: TableRule) -> None:
    way = whole_way(schema("rights", "another_teams"), FenceRules(root=TENANTS.root, tables={"secrets": rule}))
    way.fixes.production(CLOSED)
    with pytest.raises(ConfigurationInvalid, match="secrets: shadowdesk_reader may not read it"):
        way.run()
