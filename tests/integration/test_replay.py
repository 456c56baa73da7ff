"""The promise: production ends in exactly the confirmed rows, or nothing changes. Each test tries to break it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from shadow.embedded import EmbeddedServer
from shadow.errors import Diverged, Drifted, ReplayPostponed, StatementFailed, StatementRefused
from shadow.fence import FenceRules, TableRule
from shadow.replay import ReplayLimits, replay
from shadow.replay_session import open_session
from tests.lifecycle import Lifecycle, dump, installed
from tests.postgres import MakeDatabase

APP = """
CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE contracts(
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants(id),
  code text NOT NULL UNIQUE, total numeric(12,2) NOT NULL DEFAULT 0, token uuid NOT NULL DEFAULT gen_random_uuid(),
  updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE line_items(
  id serial PRIMARY KEY, contract_id int NOT NULL REFERENCES contracts(id) ON DELETE CASCADE,
  qty int NOT NULL CHECK (qty >= 0), price numeric(10,2) NOT NULL);
CREATE TABLE line_notes(id serial PRIMARY KEY, line_id int NOT NULL REFERENCES line_items(id) ON DELETE CASCADE, note text);
CREATE TABLE history(id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), who text NOT NULL DEFAULT session_user, what text);
CREATE FUNCTION recalc() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE cid int := coalesce(NEW.contract_id, OLD.contract_id);
BEGIN
  UPDATE contracts SET total = (SELECT coalesce(sum(qty*price),0) FROM line_items WHERE contract_id = cid), updated_at = now() WHERE id = cid;
  INSERT INTO history(what) VALUES (TG_OP || ' on contract ' || cid);
  RETURN NULL;
END$$;
INSERT INTO tenants VALUES (1,'Acme'),(2,'Globex');
INSERT INTO contracts(tenant_id, code, total) SELECT 1 + g % 2, 'C-' || g, g * 10 FROM generate_series(1,40) g;
INSERT INTO line_items(contract_id, qty, price) SELECT c.id, 1 + k, 10 FROM contracts c, generate_series(1,3) k;
INSERT INTO line_notes(line_id, note) SELECT id, 'note ' || id FROM line_items;
CREATE TRIGGER recalc AFTER INSERT OR UPDATE OR DELETE ON line_items FOR EACH ROW EXECUTE FUNCTION recalc();
"""
RULES = FenceRules(root="tenants", label="name", tables={"tenants": TableRule(surface=False)})


@pytest.fixture
def owner_url(production_database: MakeDatabase) -> str:
    return production_database(APP)


@pytest.fixture
def life(owner_url: str, postgres_server: EmbeddedServer) -> Iterator[Lifecycle]:
    lifecycle = Lifecycle(settings=installed(owner_url, RULES), sandbox_server=postgres_server, tenant="1")
    yield lifecycle
    lifecycle.close()


def on_production(owner_url: str, statement: str) -> None:
    with psycopg.connect(owner_url) as conn:
        conn.execute(statement)  # type: ignore[call-overload]


def own_contract(life: Lifecycle) -> str:
    rows = life.query("SELECT id FROM contracts ORDER BY id LIMIT 1").rows
    assert rows is not None and rows.rows[0][0] is not None
    return rows.rows[0][0]


def test_production_is_untouched_until_the_replay_and_equals_the_diff_after_it(life: Lifecycle, owner_url: str) -> None:
    before = dump(owner_url)
    contract = own_contract(life)
    life.run("UPDATE line_items SET qty = qty + 1 WHERE contract_id = $1", [contract])
    life.run("INSERT INTO contracts (code) VALUES ('NEW-1')")
    life.run("INSERT INTO line_items (contract_id, qty, price) SELECT id, 2, 7.5 FROM contracts WHERE code = 'NEW-1'")
    frozen, diff = life.freeze()
    assert dump(owner_url) == before
    life.replay(frozen)
    after = dump(owner_url)
    new = [row for row in diff.rows if row.table == "contracts" and row.kind == "insert"]
    with psycopg.connect(owner_url) as conn:
        found = conn.execute("SELECT id::text, token::text, total::text FROM contracts WHERE code = 'NEW-1'").fetchone()
    cells = {cell.column: cell.after for cell in new[0].cells}
    assert found == (cells["id"], cells["token"], "15.00"), "ids and defaults shown in the dry run are those inserted"
    assert len(after["line_items"]) == len(before["line_items"]) + 1
    assert len(after["history"]) - len(before["history"]) == 4


def test_a_second_replay_returns_the_first_receipt_and_runs_nothing(life: Lifecycle, owner_url: str) -> None:
    life.run("UPDATE contracts SET total = 1 WHERE id = $1", [own_contract(life)])
    frozen, _ = life.freeze()
    first = life.replay(frozen)
    after = dump(owner_url)
    assert life.replay(frozen) == first
    assert dump(owner_url) == after


def test_a_changed_row_is_drift_and_nothing_is_applied(life: Lifecycle, owner_url: str) -> None:
    contract = own_contract(life)
    life.run("UPDATE contracts SET total = 1 WHERE id = $1", [contract])
    frozen, _ = life.freeze()
    on_production(owner_url, f"UPDATE contracts SET code = 'MOVED' WHERE id = {contract}")
    before = dump(owner_url)
    with pytest.raises(Drifted, match="code: changed since the dry run"):
        life.replay(frozen)
    assert dump(owner_url) == before


def test_a_row_that_matches_the_statement_only_now_diverges(life: Lifecycle, owner_url: str) -> None:
    life.run("UPDATE line_items SET price = 11 WHERE price = 10")
    frozen, _ = life.freeze()
    on_production(owner_url, f"INSERT INTO line_items(contract_id, qty, price) VALUES ({own_contract(life)}, 1, 10)")
    before = dump(owner_url)
    with pytest.raises((Drifted, Diverged)):
        life.replay(frozen)
    assert dump(owner_url) == before


def test_definitions_that_change_while_the_replay_waits_for_a_lock_are_drift(life: Lifecycle, owner_url: str) -> None:
    """A catalog read at the start of the transaction would show the old function; the new one would run."""
    contract = own_contract(life)
    life.run("UPDATE contracts SET total = 1 WHERE id = $1", [contract])
    frozen, _ = life.freeze()
    fence, before = life.production.fence(), dump(owner_url)
    with (
        psycopg.connect(owner_url) as writer,
        ThreadPoolExecutor(1) as threads,
        open_session(str(life.settings.applier_url), ["public"], frozen.proposal_id) as session,
    ):
        writer.execute("SELECT FROM contracts FOR UPDATE")
        waiting = threads.submit(replay, session, fence, frozen, ReplayLimits(), life.production.fingerprint)
        while not writer.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
            assert not waiting.done()
        on_production(
            owner_url,
            "CREATE OR REPLACE FUNCTION recalc() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        )
        writer.rollback()
        with pytest.raises(Drifted, match="definitions changed"):
            waiting.result()
    assert dump(owner_url) == before


def test_another_tenants_change_never_blocks(life: Lifecycle, owner_url: str) -> None:
    life.run("UPDATE line_items SET qty = 9")
    frozen, _ = life.freeze()
    on_production(
        owner_url, "UPDATE line_items SET qty = 4 WHERE contract_id IN (SELECT id FROM contracts WHERE tenant_id = 2)"
    )
    life.replay(frozen)
    with psycopg.connect(owner_url) as conn:
        found = conn.execute(
            "SELECT c.tenant_id, array_agg(DISTINCT l.qty) FROM line_items l JOIN contracts c ON c.id = l.contract_id GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert found == [(1, [9]), (2, [4])]


TOP = """
CREATE FUNCTION top() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  UPDATE contracts SET total = total + 0 WHERE id = (SELECT id FROM contracts ORDER BY total DESC, id LIMIT 1); RETURN NULL; END$$;
CREATE TRIGGER top AFTER UPDATE ON line_items FOR EACH STATEMENT EXECUTE FUNCTION top();
"""


def test_a_trigger_that_touches_another_tenants_row_on_production_diverges(
    production_database: MakeDatabase, postgres_server: EmbeddedServer
) -> None:
    """Counters and own images are equal there: only who wrote the rows tells (design 4.6)."""
    owner_url = production_database(APP + TOP)
    on_production(
        owner_url, "UPDATE contracts SET total = 5000 WHERE id = (SELECT max(id) FROM contracts WHERE tenant_id = 2)"
    )
    life = Lifecycle(settings=installed(owner_url, RULES), sandbox_server=postgres_server, tenant="1")
    try:
        life.run("UPDATE line_items SET price = price WHERE contract_id = $1", [own_contract(life)])
        frozen, _ = life.freeze()
        before = dump(owner_url)
        with pytest.raises(Diverged):
            life.replay(frozen)
        assert dump(owner_url) == before
    finally:
        life.close()


def test_a_changed_definition_is_drift(life: Lifecycle, owner_url: str) -> None:
    life.run("UPDATE contracts SET total = 1 WHERE id = $1", [own_contract(life)])
    frozen, _ = life.freeze()
    on_production(owner_url, "ALTER TABLE line_notes ADD COLUMN extra int")
    with pytest.raises(Drifted, match="definitions changed"):
        life.replay(frozen)


def test_a_cascade_is_seen_and_replayed(life: Lifecycle, owner_url: str) -> None:
    contract = own_contract(life)
    life.run("DELETE FROM contracts WHERE id = $1", [contract])
    frozen, diff = life.freeze()
    summary = {t.table: (t.deleted, t.beyond) for t in diff.tables if not t.sink}
    assert summary == {"contracts": (1, 0), "line_items": (3, 3), "line_notes": (3, 3)}
    life.replay(frozen)
    with psycopg.connect(owner_url) as conn:
        assert conn.execute(f"SELECT count(*) FROM line_items WHERE contract_id = {contract}").fetchone() == (0,)


def test_an_empty_where_changes_this_tenants_rows_only(life: Lifecycle, owner_url: str) -> None:
    life.run("UPDATE line_items SET price = 99")
    frozen, _ = life.freeze()
    life.replay(frozen)
    with psycopg.connect(owner_url) as conn:
        found = conn.execute(
            "SELECT DISTINCT c.tenant_id FROM line_items l JOIN contracts c ON c.id = l.contract_id WHERE l.price = 99"
        ).fetchall()
    assert found == [(1,)]


def test_undo_gives_the_digest_of_a_dry_run_that_never_had_the_undone_steps(life: Lifecycle) -> None:
    contract = own_contract(life)
    life.run("UPDATE line_items SET qty = qty + 1 WHERE contract_id = $1", [contract])
    life.run("INSERT INTO contracts (code) VALUES ('U-1')")
    root = life.net().tables_root
    life.run("DELETE FROM contracts WHERE id = $1", [contract])
    life.run("UPDATE contracts SET total = 5")
    life.run("INSERT INTO contracts (code) VALUES ('U-2')")
    life.undo(2)
    assert life.net().tables_root == root
    life.undo(0)
    assert life.net().total_rows == 0
    life.run("UPDATE line_items SET qty = qty + 1 WHERE contract_id = $1", [contract])
    life.run("INSERT INTO contracts (code) VALUES ('U-1')")
    assert len(life.net().rows) == len({(r.table, r.key) for r in life.net().rows})


def test_a_diff_after_the_rehearsal_and_an_undo_after_it_speak_of_the_same_rows(life: Lifecycle) -> None:
    contract = own_contract(life)
    life.run("UPDATE line_items SET qty = qty + 1 WHERE contract_id = $1", [contract])
    root, rows = life.net().tables_root, life.net().total_rows
    life.run("DELETE FROM contracts WHERE id = $1", [contract])
    whole = life.net().tables_root
    _, rehearsed = life.freeze()
    assert rehearsed.tables_root == life.net().tables_root == whole
    life.undo(1)
    assert (life.net().tables_root, life.net().total_rows) == (root, rows)
    life.run("DELETE FROM contracts WHERE id = $1", [contract])
    assert life.freeze()[1].tables_root == whole


def test_a_failed_statement_leaves_the_shadow_as_before(life: Lifecycle) -> None:
    life.run("UPDATE line_items SET qty = 5")
    root = life.net().tables_root
    with pytest.raises(StatementFailed, match="check rule"):
        life.run("UPDATE line_items SET qty = -1")
    assert life.net().tables_root == root


def test_a_row_may_not_leave_the_fence(life: Lifecycle, owner_url: str) -> None:
    with psycopg.connect(owner_url) as conn:
        foreign = conn.execute("SELECT id FROM contracts WHERE tenant_id = 2 LIMIT 1").fetchone()
    assert foreign is not None
    with pytest.raises((StatementFailed, StatementRefused)) as told:
        life.run("UPDATE line_items SET contract_id = $1", [str(foreign[0])])
    assert "Globex" not in str(told.value)


def test_a_lock_held_by_somebody_else_postpones_the_replay(life: Lifecycle, owner_url: str) -> None:
    contract = own_contract(life)
    life.run("UPDATE contracts SET total = 1 WHERE id = $1", [contract])
    frozen, _ = life.freeze()
    with psycopg.connect(owner_url) as other:
        other.execute(f"SELECT 1 FROM contracts WHERE id = {contract} FOR UPDATE")
        with pytest.raises(ReplayPostponed, match="rolled back"):
            life.replay(frozen, ReplayLimits(lock_timeout_s=0.2))
    life.replay(frozen)


def test_a_unique_value_of_another_tenant_fails_without_telling_it(life: Lifecycle, owner_url: str) -> None:
    with psycopg.connect(owner_url) as conn:
        taken = conn.execute("SELECT code FROM contracts WHERE tenant_id = 2 LIMIT 1").fetchone()
    assert taken is not None
    life.run("INSERT INTO contracts (code) VALUES ($1)", [taken[0]])
    frozen, _ = life.freeze()
    with pytest.raises(Diverged, match="conflicts with a row outside this tenant") as told:
        life.replay(frozen)
    assert taken[0] not in str(told.value)
