"""Triggers that act on production's other rows: whatever they write besides the confirmed rows rolls everything back."""

from dataclasses import dataclass

import pytest

from shadow.errors import Diverged, StatementFailed
from tests.integration.test_replay_hard_cases import Start, rows, start  # noqa: F401 the fixture

ITEMS = (
    "CREATE TABLE items(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, v int, w int DEFAULT 0);"
    "INSERT INTO items VALUES (1,1,1),(2,2,2),(3,1,3);"
)
CONTRACTS = (
    "CREATE TABLE contracts(code text PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, amount int NOT NULL,"
    " top boolean NOT NULL DEFAULT false);"
    "INSERT INTO contracts VALUES ('A',1,100,true),('B',1,5,false),('Z',2,900,false);"
)
LINES = (
    "CREATE TABLE p(code text PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants); INSERT INTO p VALUES ('A',1),('Z',2);"
    "CREATE TABLE c(p text REFERENCES p ON UPDATE CASCADE, n int, amount int NOT NULL, top boolean NOT NULL DEFAULT false,"
    " PRIMARY KEY (p, n)); INSERT INTO c VALUES ('A',1,10,true),('A',2,5,false),('Z',9,900,false);"
)
AGENTS = (
    "CREATE TABLE agents(id uuid PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, load int);"
    "INSERT INTO agents VALUES ('00000000-0000-0000-0000-000000000001',1,5),('00000000-0000-0000-0000-000000000002',2,0);"
)


def trigger(body: str, when: str, level: str = "ROW") -> str:
    return (
        f"CREATE FUNCTION acts() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body}; RETURN NULL; END$$;"
        f"CREATE TRIGGER acts AFTER {when} FOR EACH {level} EXECUTE FUNCTION acts();"
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """A schema, a fix, what to look at on production, and what is said to differ there."""

    tables: str
    fix: tuple[str, ...]
    look: str
    told: str
    search_path: tuple[str, ...] = ("public",)


EDIT = ("UPDATE items SET v = 5 WHERE id = 1",)
TOP = "UPDATE contracts SET top = true WHERE amount = (SELECT max(amount) FROM contracts)"
NOTE = "INSERT INTO outbox(what) VALUES ('item ' || NEW.id)"
OUTBOX = (
    "CREATE TABLE outbox(id serial PRIMARY KEY, what text, hits int NOT NULL DEFAULT 0);"
    "INSERT INTO outbox(what) VALUES ('for tenant 2');"
)
NOT_CONFIRMED = "rows that were not confirmed would change"
CASES = {
    "a renamed key leaves no room for another tenant's row": Case(
        tables=CONTRACTS + trigger(TOP, "UPDATE OF amount ON contracts", "STATEMENT"),
        fix=("UPDATE contracts SET amount = 110 WHERE code = 'A'", "UPDATE contracts SET code = 'B2' WHERE code = 'B'"),
        look="SELECT * FROM contracts ORDER BY 1",
        told=f"contracts: {NOT_CONFIRMED}",
    ),
    "nor do keys that a cascade renames": Case(
        tables=LINES
        + trigger("UPDATE c SET top = true WHERE amount = (SELECT max(amount) FROM c)", "UPDATE OF amount ON c", "STATEMENT"),
        fix=("UPDATE p SET code = 'A2' WHERE code = 'A'", "UPDATE c SET amount = 11 WHERE n = 1"),
        look="SELECT * FROM c ORDER BY 1, 2",
        told=f"c: {NOT_CONFIRMED}",
    ),
    "a sink's row of somebody else is changed": Case(
        tables=ITEMS + OUTBOX
        + trigger(f"{NOTE}; UPDATE outbox SET hits = hits + 1 WHERE id = (SELECT min(id) FROM outbox)", "UPDATE ON items"),
        fix=EDIT, look="SELECT * FROM outbox ORDER BY 1", told=f"outbox: {NOT_CONFIRMED}",
    ),
    "a sink's row of somebody else is deleted": Case(
        tables=ITEMS + OUTBOX
        + trigger(f"{NOTE}; DELETE FROM outbox WHERE id = (SELECT min(id) FROM outbox)", "UPDATE ON items"),
        fix=EDIT, look="SELECT * FROM outbox ORDER BY 1", told=f"outbox: {NOT_CONFIRMED}",
    ),
    "a made row points at another tenant's, by a column that could be drawn": Case(
        tables=AGENTS + ITEMS
        + "CREATE TABLE tasks(id bigserial PRIMARY KEY, item_id int NOT NULL REFERENCES items,"
        " agent_id uuid DEFAULT gen_random_uuid() REFERENCES agents);"
        + trigger(
            "INSERT INTO tasks(item_id, agent_id) VALUES (NEW.id, (SELECT id FROM agents ORDER BY load LIMIT 1))",
            "UPDATE ON items",
        ),
        fix=EDIT, look="SELECT * FROM tasks ORDER BY 1", told="tasks: rows outside the tenant would be added",
    ),
    "a changed row points at another tenant's": Case(
        tables=AGENTS
        + "CREATE TABLE tickets(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants,"
        " agent_id uuid REFERENCES agents, s text); INSERT INTO tickets VALUES (1,1,NULL,'new');"
        + trigger(
            "UPDATE tickets SET agent_id = (SELECT id FROM agents ORDER BY load LIMIT 1) WHERE id = NEW.id",
            "UPDATE OF s ON tickets",
        ),
        fix=("UPDATE tickets SET s = 'open' WHERE id = 1",),
        look="SELECT * FROM tickets", told="agent_id: would have another value",
    ),
    "a number with a sequence that a trigger counts itself": Case(
        tables=ITEMS
        + "CREATE TABLE letters(id serial PRIMARY KEY, item_id int NOT NULL REFERENCES items, number serial);"
        "INSERT INTO letters(item_id, number) VALUES (1, 3), (2, 900);"
        + trigger(
            "INSERT INTO letters(item_id, number) VALUES (NEW.id, (SELECT max(number) + 1 FROM letters))", "UPDATE ON items"
        ),
        fix=EDIT, look="SELECT * FROM letters ORDER BY 1", told="letters: rows made by triggers would differ",
    ),
    "a deferred trigger puts off another one": Case(
        tables=ITEMS
        + "CREATE TABLE sums(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int);"
        "INSERT INTO sums VALUES (1,1,0),(2,2,0);"
        "CREATE FUNCTION b() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE sums SET n = n + 1; RETURN NULL; END$$;"
        "CREATE FUNCTION a() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN SET CONSTRAINTS b DEFERRED;"
        " UPDATE items SET w = w + 1 WHERE id = NEW.id; RETURN NULL; END$$;"
        "CREATE CONSTRAINT TRIGGER b AFTER UPDATE OF w ON items DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION b();"
        "CREATE CONSTRAINT TRIGGER a AFTER UPDATE OF v ON items DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION a();",
        fix=EDIT, look="SELECT * FROM sums ORDER BY 1", told="public.sums: another number of rows",
    ),
    "an event trigger writes when our schema goes": Case(
        tables=ITEMS
        + "CREATE TABLE ddl_log(id serial PRIMARY KEY, what text);"
        "CREATE FUNCTION dropped() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN"
        " INSERT INTO public.ddl_log(what) VALUES ('dropped'); END$$;"
        "CREATE EVENT TRIGGER dropped ON sql_drop EXECUTE FUNCTION dropped();",
        fix=EDIT, look="SELECT * FROM ddl_log", told="public.ddl_log: another number of rows",
    ),
    "a schema of the app whose name begins like a shadow's": Case(
        tables="CREATE SCHEMA shadow_app; GRANT USAGE ON SCHEMA shadow_app TO PUBLIC;"
        + ITEMS.replace("TABLE items", "TABLE shadow_app.items").replace("INTO items", "INTO shadow_app.items")
        + "UPDATE shadow_app.items SET v = 900 WHERE id = 2; UPDATE shadow_app.items SET w = 1 WHERE id = 3;"
        + trigger(
            "UPDATE shadow_app.items SET w = 1 WHERE v = (SELECT max(v) FROM shadow_app.items) AND w = 0",
            "UPDATE OF v ON shadow_app.items", "STATEMENT",
        ),
        fix=("UPDATE items SET v = 2 WHERE id = 1",),
        look="SELECT * FROM shadow_app.items ORDER BY 1", told="shadow_app.items: another number of rows",
        search_path=("public", "shadow_app"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_nobody_confirmed_is_found_and_nothing_changes(start: Start, case: Case) -> None:  # noqa: F811
    life, url = start(case.tables, search_path=case.search_path)
    for statement in case.fix:
        life.run(statement)
    frozen, _ = life.freeze()
    before = rows(url, case.look)
    with pytest.raises(Diverged) as told:
        life.replay(frozen)
    assert case.told in str(told.value)
    assert rows(url, case.look) == before


def test_which_row_is_meant_is_not_left_to_chance(start: Start) -> None:  # noqa: F811
    life, _ = start(
        "CREATE TABLE agents(id uuid PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int);"
        "INSERT INTO agents SELECT gen_random_uuid(), 1, g FROM generate_series(1,20000) g;"
        "CREATE TABLE tickets(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, s text,"
        " agent_id uuid REFERENCES agents); INSERT INTO tickets VALUES (1,1,'new',NULL);"
        "UPDATE tickets SET agent_id = (SELECT id FROM agents LIMIT 1);"
        + trigger(
            "UPDATE tickets SET agent_id = (SELECT id FROM agents ORDER BY random() LIMIT 1) WHERE id = NEW.id",
            "UPDATE OF s ON tickets",
        )
    )
    life.query("SELECT count(*) FROM agents")
    life.run("UPDATE tickets SET s = 'open' WHERE id = 1")
    with pytest.raises(StatementFailed, match="Nobody can say what agent_id of tickets would be"):
        life.freeze()


def test_a_sinks_own_rows_may_be_changed_and_deleted(start: Start) -> None:  # noqa: F811
    life, url = start(
        ITEMS + OUTBOX + trigger(
            f"{NOTE}; {NOTE}; UPDATE outbox SET hits = 1 WHERE what = 'item 1';"
            " DELETE FROM outbox WHERE id = (SELECT max(id) FROM outbox WHERE what = 'item 1')", "UPDATE ON items",
        )
    )  # fmt: skip
    life.run(*EDIT)
    life.replay(life.freeze()[0])
    assert rows(url, "SELECT what, hits FROM outbox ORDER BY id") == [("for tenant 2", 0), ("item 1", 1)]


def test_drawn_numbers_of_made_rows_may_still_differ(start: Start) -> None:  # noqa: F811
    life, url = start(
        ITEMS + "CREATE TABLE letters(id serial PRIMARY KEY, item_id int NOT NULL REFERENCES items, number serial);"
        + trigger("INSERT INTO letters(item_id) VALUES (NEW.id)", "UPDATE ON items")
    )  # fmt: skip
    life.run(*EDIT)
    frozen, _ = life.freeze()
    rows(url, "INSERT INTO letters(item_id) SELECT 2 FROM generate_series(1, 40)")
    life.replay(frozen)
    assert rows(url, "SELECT count(*) FROM letters WHERE item_id = 1 AND number > 40") == [(1,)]
