"""Freshness: rows that a dry run only looked at and that changed on production since are told, and may stop the replay."""

from collections.abc import Iterator

import psycopg
import pytest

from shadow.embedded import EmbeddedServer
from shadow.errors import Drifted, ShadowExpired, StatementFailed
from shadow.fence import FenceRules, TableRule
from shadow.replay import Receipt, ReplayLimits
from tests.lifecycle import Lifecycle, installed
from tests.postgres import MakeDatabase

APP = """
CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE plans(id int PRIMARY KEY, price int NOT NULL);
CREATE TABLE contracts(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants(id), plan_id int REFERENCES plans(id),
  code text NOT NULL, note text);
CREATE TABLE line_items(id int PRIMARY KEY, contract_id int NOT NULL REFERENCES contracts(id), qty int NOT NULL);
INSERT INTO tenants VALUES (1,'Acme'),(2,'Globex');
INSERT INTO plans VALUES (1, 10), (2, 20);
INSERT INTO contracts SELECT g, 1 + g % 2, 1 + g % 2, 'c' || g, 'n' FROM generate_series(1, 20) g;
INSERT INTO line_items SELECT g, 1 + g % 20, 5 FROM generate_series(1, 100) g;
"""
RULES = FenceRules(root="tenants", label="name", tables={"tenants": TableRule(surface=False)})
FIX = "UPDATE line_items SET qty = 0 WHERE contract_id IN (SELECT id FROM contracts WHERE code = 'c2')"


class Fix:
    def __init__(self, owner_url: str, sandbox: EmbeddedServer) -> None:
        self.owner_url = owner_url
        self.life = Lifecycle(settings=installed(owner_url, RULES), sandbox_server=sandbox, tenant="1")

    def somebody(self, statement: str) -> None:
        with psycopg.connect(self.owner_url) as conn:
            conn.execute(statement.encode())

    def apply(self, meanwhile: str, *, blocks: bool = False) -> Receipt:
        frozen, _ = self.life.freeze()
        self.somebody(meanwhile)
        return self.life.replay(frozen, ReplayLimits(stale_blocks=blocks))

    def total(self) -> int:
        with psycopg.connect(self.owner_url) as conn:
            row = conn.execute("SELECT sum(qty) FROM line_items").fetchone()
            return int(row[0]) if row else -1


@pytest.fixture
def fix(production_database: MakeDatabase, postgres_server: EmbeddedServer) -> Iterator[Fix]:
    fix = Fix(production_database(APP), postgres_server)
    yield fix
    fix.life.close()


def test_a_row_that_a_condition_read_is_told_and_does_not_block(fix: Fix) -> None:
    fix.life.run(FIX)
    receipt = fix.apply("UPDATE contracts SET note = 'other' WHERE id = 2")
    assert receipt.notes == ("1 row you looked at changed since: contracts (2).",)
    assert fix.total() == 475


def test_policy_may_let_it_block(fix: Fix) -> None:
    fix.life.run(FIX)
    with pytest.raises(Drifted, match=r"1 row you looked at changed since: contracts \(2\)"):
        fix.apply("UPDATE contracts SET note = 'other' WHERE id = 2", blocks=True)
    assert fix.total() == 500


def test_rows_of_a_query_count_and_gone_ones_too(fix: Fix) -> None:
    fix.life.query("SELECT c.code, p.price FROM contracts c JOIN plans p ON p.id = c.plan_id WHERE c.id IN (2, 4)")
    fix.life.run("UPDATE line_items SET qty = 0 WHERE id = 5")
    receipt = fix.apply(
        "UPDATE contracts SET code = 'zz' WHERE id = 4; DELETE FROM line_items WHERE contract_id = 2;"
        " DELETE FROM contracts WHERE id = 2; UPDATE plans SET price = 11 WHERE id = 1"
    )
    assert receipt.notes == ("3 rows you looked at changed since: contracts (2), contracts (4), plans (1).",)


@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE contracts SET note = 'other' WHERE id = 4",  # the tenant's, but no condition looked at it
        "UPDATE contracts SET note = 'other' WHERE id = 3",  # another tenant's
        "UPDATE contracts SET note = note",  # written, not changed
    ],
)
def test_what_nobody_looked_at_is_not_told(fix: Fix, meanwhile: str) -> None:
    fix.life.run(FIX)
    assert fix.apply(meanwhile, blocks=True).notes == ()


def test_undone_steps_looked_at_nothing(fix: Fix) -> None:
    fix.life.run("UPDATE line_items SET qty = 1 WHERE id = 1")
    fix.life.run(FIX)
    fix.life.undo(1)
    assert fix.apply("UPDATE contracts SET note = 'other' WHERE id = 2", blocks=True).notes == ()


def test_touched_rows_are_compared_as_such(fix: Fix) -> None:
    """A row looked at in one step and written in another drifts by its cells, whatever policy says of freshness."""
    fix.life.query("SELECT * FROM contracts WHERE id = 2")
    fix.life.run("UPDATE contracts SET code = 'new' WHERE id = 2")
    frozen, _ = fix.life.freeze()
    assert frozen.looked == {}


def test_a_condition_that_fails_by_itself_counts_as_none(fix: Fix) -> None:
    """`guard` is left out of the look (it holds a sub-select), so the division is asked of rows it never saw."""
    fix.life.query("SELECT id FROM contracts WHERE id IN (SELECT 2) AND 10 / (id - 4) = -5")
    fix.life.run("UPDATE line_items SET qty = 0 WHERE id = 5")
    assert fix.apply("UPDATE contracts SET note = 'other' WHERE id = 2").notes == (
        "1 row you looked at changed since: contracts (2).",
    )


def test_a_condition_that_takes_too_long_is_told_as_the_statements_own_end(fix: Fix) -> None:
    slow = "SELECT id FROM contracts WHERE regexp_replace(repeat(note, 9999), 'n', 'm', 'g') ~ 'x'"
    fix.life.query("SELECT id FROM contracts WHERE id = 2")
    fix.life.shadow.role.execute("SET statement_timeout = '3ms'")
    with pytest.raises(StatementFailed, match="longer than a statement may"):
        fix.life.query(slow)
    fix.life.shadow.role.execute("RESET statement_timeout")
    assert fix.life.query("SELECT id FROM contracts WHERE id = 2").row_count == 1


def test_a_shadow_that_goes_away_meanwhile_is_said_to_be_gone(fix: Fix) -> None:
    fix.life.query("SELECT id FROM contracts WHERE id = 2")
    with psycopg.connect(fix.life.sandbox_server.owner_url, autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = %s",
            (fix.life.shadow.surface,),
        )
    with pytest.raises(ShadowExpired):
        fix.life.query("SELECT id FROM contracts WHERE id = 4")
