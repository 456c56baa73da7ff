"""Triggers and functions of the app: what they do on production is what they did in the shadow, or nothing happens."""

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from shadow.errors import Diverged, StatementFailed, StatementRefused
from tests.fixes import REP
from tests.schemas.whole import WholeWay, schema

HISTORY = (("public.history", "id"), ("public.history", "by_whom"))


def test_every_kind_of_trigger(whole_way: WholeWay) -> None:
    way = whole_way(schema("triggers", "kinds"), search_path=("public", "stats"))
    applied = way.applied(
        "UPDATE orders SET amount = amount + 1 WHERE id IN (2, 4)",
        "UPDATE orders SET amount = -1 WHERE id = 6",
        "INSERT INTO orders(tenant_id, amount) VALUES (1, 5), (1, 6)",
        "INSERT INTO payments(id, order_id, paid) VALUES (50, 8, 100)",
        "DELETE FROM orders WHERE id = 10",
        drawn=HISTORY,
    )
    assert {row.table for row in applied.diff.rows} == {"orders", "payments", "totals", "history"}
    assert applied.origins("totals") == {"trigger stats.tally", "trigger stats.tally_change"} or applied.origins(
        "totals"
    ) == {"trigger tally", "trigger tally_change"}
    paid = next(row for row in applied.diff.rows if row.table == "orders" and row.key == (("id", "8"),))
    assert {cell.column: (cell.after, cell.kind) for cell in paid.cells}["state"] == ("paid", "value")
    assert {cell.kind for cell in paid.cells if cell.column in ("updated_at", "changed_on")} == {"clock"}


def test_a_function_finds_what_it_names_under_its_own_search_path(whole_way: WholeWay) -> None:
    way = whole_way(schema("triggers", "names"), search_path=("public", "app", "lib"))
    applied = way.applied("UPDATE orders SET n = n + 1 WHERE id IN (2, 4)", drawn=[("app.audit", "id")])
    assert {row.table for row in applied.diff.rows} == {"orders", "counts", "audit"}


def test_a_trigger_writes_through_a_view_with_instead_of(whole_way: WholeWay) -> None:
    applied = whole_way(schema("triggers", "instead_of")).applied("UPDATE driver SET n = 70 WHERE id = 2")
    assert {row.table: row.origins for row in applied.diff.rows} == {
        "base": ("trigger write_base 1",),
        "driver": ("statement 1",),
    }


def test_dblink_reaches_nothing_from_a_shadow(whole_way: WholeWay) -> None:
    way = whole_way(schema("triggers", "reaching_out"))
    url = way.fixes.owner_url
    parts = conninfo_to_dict(url)
    target = " ".join(f"{k}={v}" for k, v in parts.items())
    way.fixes.production(
        f"CREATE OR REPLACE FUNCTION call() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM dblink_exec($c${target}$c$, 'UPDATE marks SET n = n + 1'); RETURN NEW; END $$"
    )
    with pytest.raises(StatementRefused, match="function dblink_exec outside the tenant's fence"):
        way.run("UPDATE orders SET n = 0 WHERE id = 2")
    assert way.fixes.production("SELECT n FROM marks") == [(0,)]


def test_a_foreign_table_is_not_reached_from_a_shadow(whole_way: WholeWay) -> None:
    way = whole_way(schema("triggers", "foreign_tables"))
    with pytest.raises(StatementRefused, match="foreign table marks outside the tenant's fence"):
        way.run("UPDATE orders SET n = 0 WHERE id = 2")
    with pytest.raises(StatementRefused, match="no table"):
        way.fixes.desk.query(REP, way.run(), "SELECT n FROM mixed")


def test_a_number_that_a_trigger_takes_from_an_unowned_sequence_is_refused(whole_way: WholeWay) -> None:
    way = whole_way(schema("triggers", "foreign_tables"))
    with pytest.raises(StatementRefused, match="sequence numbers outside the tenant's fence"):
        way.run("INSERT INTO invoices(id) VALUES (1)")


def test_a_notification_reaches_productions_listeners_once_and_at_the_replay_only(whole_way: WholeWay) -> None:
    way = whole_way(schema("triggers", "reaching_out"))
    with psycopg.connect(way.fixes.owner_url, autocommit=True) as listener:
        listener.execute("LISTEN orders")
        dry_run = way.run("UPDATE quiet SET n = 0 WHERE id = 2")
        proposal = way.fixes.desk.propose(REP, dry_run)
        assert list(listener.notifies(timeout=0)) == []
        way.fixes.desk.confirm(REP, proposal.id, proposal.digest, proposal.rows)
        listener.execute("SELECT 1")
        assert [note.payload for note in listener.notifies(timeout=5, stop_after=1)] == ["2"]


def test_disabled_and_replica_triggers_act_as_on_production(whole_way: WholeWay) -> None:
    applied = whole_way(schema("triggers", "switched")).applied("UPDATE orders SET n = 0 WHERE id = 2")
    assert {c.column: c.after for row in applied.diff.rows for c in row.cells}["log"] == "plain always "


def test_a_function_may_not_switch_triggers_off_or_make_tables(whole_way: WholeWay) -> None:
    way = whole_way(schema("triggers", "role_tricks"))
    for text in ("UPDATE orders SET n = 0 WHERE id = 2", "UPDATE others SET n = 0 WHERE id = 2"):
        with pytest.raises((StatementRefused, StatementFailed)) as told:
            way.run(text)
        assert told.value.next_step


def test_work_that_a_trigger_hides_diverges_and_changes_nothing(whole_way: WholeWay) -> None:
    way = whole_way(schema("triggers", "hidden_work"))
    before = way.fixes.rows()
    dry_run = way.run("UPDATE orders SET n = 0 WHERE id = 2")
    with pytest.raises(Diverged, match="shy"):
        way.fixes.confirm(dry_run)
    assert way.fixes.rows() == before


def test_a_trigger_that_writes_another_tenants_row_diverges(whole_way: WholeWay) -> None:
    way = whole_way(schema("triggers", "strangers"))
    before = way.fixes.rows()
    dry_run = way.run("UPDATE contracts SET amount = 1 WHERE id = 2")
    with pytest.raises(Diverged):
        way.fixes.confirm(dry_run)
    assert way.fixes.rows() == before
