"""Schemas and statements that broke the promise once: each must replay exactly, or be refused before anything runs."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from shadow.embedded import EmbeddedServer
from shadow.errors import Diverged, Drifted, StatementFailed, StatementRefused
from shadow.fence import FenceRules, TableRule
from shadow.trace import read_trace
from tests.lifecycle import Lifecycle, installed
from tests.postgres import MakeDatabase

TENANTS = (
    "CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL); INSERT INTO tenants VALUES (1,'Acme'),(2,'Globex');"
)
#: A parent, its lines and a history that a trigger writes; `{history}` says how that table looks.
TRIGGERED = """
CREATE TABLE items(id int PRIMARY KEY, tenant_id int REFERENCES tenants(id), v int);
INSERT INTO items VALUES (1,1,1),(2,1,2),(3,2,3);
CREATE TABLE history({history});
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body}; RETURN NULL; END$$;
CREATE TRIGGER note AFTER UPDATE ON items FOR EACH ROW EXECUTE FUNCTION note();
"""
SERIAL = "id serial PRIMARY KEY, item_id int REFERENCES items(id), what text, at timestamptz"

Start = Callable[..., tuple[Lifecycle, str]]


@pytest.fixture
def start(production_database: MakeDatabase, postgres_server: EmbeddedServer) -> Iterator[Start]:
    """Starts tenant 1's dry run on a fresh production with the given tables; also returns the owner's URL."""
    started: list[Lifecycle] = []

    def begin(tables: str, search_path: tuple[str, ...] = ("public",), **rules: TableRule) -> tuple[Lifecycle, str]:
        url = production_database(TENANTS + tables)
        hidden = {"tenants": TableRule(surface=False), **rules}
        settings = installed(url, FenceRules(root="tenants", label="name", tables=hidden), search_path=search_path)
        started.append(Lifecycle(settings=settings, sandbox_server=postgres_server, tenant="1"))
        return started[-1], url

    yield begin
    for life in started:
        life.close()


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as conn:
        found = conn.execute(query.encode())
        return found.fetchall() if found.description else []


def applied(life: Lifecycle, *statements: str) -> None:
    for statement in statements:
        life.run(statement)
    life.replay(life.freeze()[0])


# ---------------------------------------------------------------------------------------------------- defaults


def test_a_default_built_around_a_sequence_keeps_what_is_built_around_it(start: Start) -> None:
    """It was inserted as `2` instead of `INV-2`."""
    life, url = start(
        "CREATE SEQUENCE numbers; CREATE TABLE invoices(id serial PRIMARY KEY, tenant_id int REFERENCES tenants(id),"
        " v int, code text UNIQUE DEFAULT 'INV-' || lpad(nextval('numbers')::text, 3, '0'));"
        "INSERT INTO invoices(tenant_id) VALUES (1),(2);"
    )
    life.run("INSERT INTO invoices (v) SELECT id FROM invoices")
    life.undo(0)
    applied(life, "INSERT INTO invoices (v) VALUES (7), (8)")
    assert rows(url, "SELECT v, code FROM invoices WHERE v > 0 ORDER BY id") == [(7, "INV-003"), (8, "INV-004")]


def test_defaults_that_reckon_with_the_clock_or_call_the_apps_functions_are_recorded(start: Start) -> None:
    """The first diverged on every replay; the second could not be evaluated at all."""
    life, url = start(
        "CREATE TABLE offers(id serial PRIMARY KEY, tenant_id int REFERENCES tenants(id), v int, tags text[] DEFAULT ARRAY[random()::text],"
        " made timestamptz DEFAULT now(), made_utc timestamp DEFAULT (now() AT TIME ZONE 'utc'), due date DEFAULT CURRENT_DATE + 14,"
        " until timestamptz DEFAULT now() + interval '1 day');"
        "CREATE FUNCTION plain_code() RETURNS text LANGUAGE plpgsql VOLATILE AS $$BEGIN RETURN half_code() || '!'; END$$;"
        "CREATE FUNCTION half_code() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT random()::text $$;"
        "ALTER TABLE offers ADD code text DEFAULT plain_code();"
    )  # fmt: skip
    life.run("INSERT INTO offers (v) VALUES (1)")
    frozen, diff = life.freeze()
    shown = {cell.column: cell for row in diff.rows for cell in row.cells}
    assert (shown["made"].kind, shown["made_utc"].kind, shown["until"].kind) == ("clock", "clock", "value")
    life.replay(frozen)
    found = rows(url, "SELECT code, tags::text, until::timestamptz(3) > now() FROM offers")
    assert found == [(shown["code"].after, shown["tags"].after, True)]


@pytest.mark.parametrize("default", ["next_id()", "CURRENT_USER", "current_setting('app.user', true)"])
def test_a_default_that_nobody_can_foresee_is_refused_when_it_is_left_out(start: Start, default: str) -> None:
    life, url = start(
        "CREATE SEQUENCE ids; CREATE FUNCTION next_id() RETURNS text LANGUAGE sql AS $$ SELECT nextval('ids')::text $$;"
        f"CREATE TABLE items(id int PRIMARY KEY, tenant_id int REFERENCES tenants(id), x text DEFAULT {default});"
    )
    with pytest.raises(StatementRefused, match="cannot be foreseen"):
        life.run("INSERT INTO items (id) VALUES (1)")
    applied(life, "INSERT INTO items (id, x) VALUES (1, 'mine')")
    assert rows(url, "SELECT * FROM items") == [(1, 1, "mine")]


def test_many_ids_are_drawn_in_one_statement_and_a_used_up_sequence_is_told(start: Start) -> None:
    """Drawing was quadratic: 10,000 rows ran into the statement timeout."""
    life, _ = start(
        "CREATE TABLE big(id serial PRIMARY KEY, tenant_id int REFERENCES tenants(id), v int);"
        "CREATE TABLE few(id smallint GENERATED ALWAYS AS IDENTITY (MAXVALUE 2) PRIMARY KEY, tenant_id int REFERENCES tenants(id), v int);"
    )
    assert life.run("INSERT INTO big (v) SELECT g FROM generate_series(1, 10000) g").row_count == 10_000
    with pytest.raises(StatementFailed, match="No new numbers for id of few"):
        life.run("INSERT INTO few (v) VALUES (1), (2), (3)")


def test_a_rebuilt_shadow_gives_every_step_the_ids_it_had(start: Start, postgres_server: EmbeddedServer) -> None:
    """Ids reserved for an INSERT … SELECT beyond its need went to the next step instead of the recorded ones."""
    life, _ = start(
        "CREATE TABLE items(id serial PRIMARY KEY, tenant_id int REFERENCES tenants(id), v int);"
        "INSERT INTO items(tenant_id, v) VALUES (1,1),(2,2);"
    )
    statements = ("INSERT INTO items (v) SELECT v FROM items", "INSERT INTO items (v) VALUES (5)")
    for statement in statements:
        life.run(statement)
    again = Lifecycle(settings=life.settings, sandbox_server=postgres_server, tenant="1")
    try:
        for step, statement in enumerate(statements, 1):
            drawn = life.shadow.owner.execute("SELECT slot, value, true FROM shadowdesk.pins WHERE step = %s", (step,))
            for pin in drawn.fetchall():
                again.shadow.owner.execute(
                    "INSERT INTO shadowdesk.pins(slot, value, reserved) VALUES (%s, %s, %s)", pin
                )
            again.run(statement)
        assert again.net().tables_root == life.net().tables_root
    finally:
        again.close()


def test_set_to_default_is_refused_because_a_view_would_write_null(start: Start) -> None:
    life, _ = start("CREATE TABLE items(id int PRIMARY KEY, tenant_id int REFERENCES tenants(id), v int DEFAULT 42);")
    with pytest.raises(StatementRefused, match="would write NULL"):
        life.run("UPDATE items SET v = DEFAULT")


# ---------------------------------------------------------------------------------------------------- triggers


def test_rows_made_by_triggers_may_differ_in_which_of_them_carry_the_time(start: Start) -> None:
    life, url = start(TRIGGERED.format(history=SERIAL, body=(
        "INSERT INTO history(item_id, what, at) VALUES (NEW.id, 'a', NULL); INSERT INTO history(item_id, what, at) VALUES (NEW.id, 'b', now())"
    )))  # fmt: skip
    applied(life, "UPDATE items SET v = 9 WHERE id = 2")
    assert rows(url, "SELECT what, at IS NULL FROM history ORDER BY what") == [("a", True), ("b", False)]


def test_a_row_that_a_trigger_makes_and_removes_again_does_not_bind_an_id_of_production(start: Start) -> None:
    life, url = start(TRIGGERED.format(history=SERIAL, body=(
        "INSERT INTO history(item_id, what) VALUES (NEW.id, 'a'); DELETE FROM history WHERE what = 'a' AND item_id = NEW.id"
    )))  # fmt: skip
    life.run("UPDATE items SET v = 9 WHERE id = 2")
    frozen, _ = life.freeze()
    rows(url, "INSERT INTO history(item_id, what) SELECT 3, 'another tenant''s' FROM generate_series(1, 5)")
    life.replay(frozen)
    assert rows(url, "SELECT v FROM items WHERE id = 2") == [(9,)]


def test_statements_and_triggers_that_both_draw_ids_of_one_table_are_refused(start: Start) -> None:
    life, _ = start(
        TRIGGERED.format(history=SERIAL, body="INSERT INTO history(item_id, what) VALUES (NEW.id, 'trigger')")
    )
    life.run("UPDATE items SET v = 5 WHERE id = 1")
    with pytest.raises(StatementRefused, match="Both statements and a trigger insert rows into history"):
        life.run("INSERT INTO history (item_id, what) VALUES (1, 'statement')")
    life.undo(0)
    life.run("INSERT INTO history (item_id, what) VALUES (1, 'statement')")
    with pytest.raises(StatementRefused, match="Both statements and a trigger insert rows into history"):
        life.run("UPDATE items SET v = 5 WHERE id = 1")


def test_an_undo_keeps_what_deferred_triggers_did_in_the_kept_steps(start: Start) -> None:
    """Images were taken before they fired: an undo took their rows back as well."""
    life, url = start(
        "CREATE TABLE items(id int PRIMARY KEY, tenant_id int REFERENCES tenants(id), total int);"
        "CREATE TABLE lines(id int PRIMARY KEY, item_id int REFERENCES items(id), q int);"
        "INSERT INTO items VALUES (1,1,0),(2,2,0); INSERT INTO lines VALUES (1,1,1),(2,1,1),(3,2,1);"
        "CREATE FUNCTION add_up() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE items SET total ="
        " (SELECT sum(q) FROM lines WHERE item_id = NEW.item_id) WHERE id = NEW.item_id; RETURN NULL; END$$;"
        "CREATE CONSTRAINT TRIGGER add_up AFTER UPDATE ON lines DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION add_up();"
    )
    life.run("UPDATE lines SET q = 5 WHERE id = 1")
    root = life.net().tables_root
    life.run("UPDATE lines SET q = 7 WHERE id = 2")
    life.undo(1)
    assert life.net().tables_root == root
    life.replay(life.freeze()[0])
    assert rows(url, "SELECT total FROM items ORDER BY id") == [(6,), (0,)]


def test_triggers_enabled_always_or_for_replicas_act_in_the_shadow_as_on_production(start: Start) -> None:
    """They fired while rows were loaded and restored."""
    body = "INSERT INTO history(item_id, what) VALUES (NEW.id, TG_OP)"
    life, url = start(
        TRIGGERED.format(history=SERIAL, body=body)
        + "ALTER TABLE items ENABLE ALWAYS TRIGGER note;"
        + "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.v := 666; RETURN NEW; END$$;"
        + "CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION spoil();"
        + "ALTER TABLE items ENABLE REPLICA TRIGGER spoil;"
    )
    life.run("UPDATE items SET v = 9 WHERE id = 2")
    life.undo(0)
    applied(life, "UPDATE items SET v = v + 1 WHERE id = 2")
    assert rows(url, "SELECT v FROM items ORDER BY id") == [(1,), (3,), (3,)]


# ---------------------------------------------------------------------------------------------------- keys and fence


def test_a_row_whose_parent_went_to_another_tenant_is_not_written_by_a_trigger(start: Start) -> None:
    """The row itself was as before, so neither drift nor counters told: another tenant's row was written."""
    life, url = start(
        "CREATE TABLE items(id int PRIMARY KEY, tenant_id int REFERENCES tenants(id), v int, favourite int);"
        "CREATE TABLE lines(id int PRIMARY KEY, item_id int REFERENCES items(id), q int);"
        "INSERT INTO items VALUES (1,1,1,3),(2,1,2,NULL); INSERT INTO lines VALUES (3,2,1);"
        "CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE lines SET q = q + 1 WHERE id = NEW.favourite; RETURN NULL; END$$;"
        "CREATE TRIGGER count_up AFTER UPDATE OF v ON items FOR EACH ROW EXECUTE FUNCTION count_up();"
    )
    life.run("UPDATE items SET v = 9 WHERE id = 1")
    frozen, _ = life.freeze()
    rows(url, "UPDATE items SET tenant_id = 2 WHERE id = 2")
    with pytest.raises(Drifted, match="not the tenant's any more"):
        life.replay(frozen)
    assert rows(url, "SELECT q FROM lines") == [(1,)]


def test_rows_without_a_key_are_added_by_triggers_and_taken_back_without_their_equals(start: Start) -> None:
    """An undo removed every equal row, loaded ones too, and the replay always diverged."""
    body = "INSERT INTO history VALUES (NEW.id, 'changed')"
    life, url = start(
        TRIGGERED.format(history="item_id int REFERENCES items(id), r text", body=body)
        + "INSERT INTO history VALUES (2, 'changed'), (2, 'changed');"
    )
    life.run("UPDATE items SET v = 9 WHERE id = 2")
    assert [(t.table, t.inserted) for t in life.net().tables if t.sink] == [("history", 1)]
    life.undo(0)
    left = life.query("SELECT * FROM history").rows
    assert left is not None and len(left.rows) == 2
    life.run("UPDATE items SET v = 8 WHERE id = 2")
    life.freeze()
    life.run("UPDATE items SET v = 7 WHERE id = 2")
    life.undo(1)
    life.replay(life.freeze()[0])
    assert rows(url, "SELECT count(*), (SELECT v FROM items WHERE id = 2) FROM history") == [(3, 8)]


def test_a_trigger_that_adds_another_tenants_row_without_a_key_diverges(start: Start) -> None:
    body = "INSERT INTO history SELECT id, 'changed' FROM items ORDER BY id DESC LIMIT 1"
    life, url = start(TRIGGERED.format(history="item_id int REFERENCES items(id), what text", body=body))
    life.run("UPDATE items SET v = 9 WHERE id = 2")
    frozen, _ = life.freeze()
    with pytest.raises(Diverged, match="rows outside the tenant would be added"):
        life.replay(frozen)
    assert rows(url, "SELECT * FROM history") == []


def test_rows_without_a_key_are_never_changed_or_removed_by_a_cascade(start: Start) -> None:
    """Restoring lost them, and nothing would have told which of them went on production."""
    life, _ = start(
        "CREATE TABLE items(id int PRIMARY KEY, tenant_id int REFERENCES tenants(id), v int);"
        "CREATE TABLE tags(item_id int REFERENCES items(id) ON DELETE CASCADE, tag text);"
        "INSERT INTO items VALUES (1,1,1),(2,1,2); INSERT INTO tags VALUES (1,'a'),(1,'a');"
    )
    with pytest.raises(StatementRefused, match="tags, which has no key"):
        life.run("DELETE FROM items WHERE id = 1")
    assert life.run("DELETE FROM items WHERE id = 2").row_count == 1


def test_a_conflict_that_changes_a_key_cascades_in_the_shadow_too(start: Start) -> None:
    """The child was not loaded, so the shadow showed no cascade."""
    life, url = start(
        "CREATE TABLE items(id int PRIMARY KEY, tenant_id int REFERENCES tenants(id), ext int, code text UNIQUE, UNIQUE (tenant_id, ext));"
        "CREATE TABLE uses(id int PRIMARY KEY, tenant_id int REFERENCES tenants(id), code text REFERENCES items(code) ON UPDATE CASCADE);"
        "INSERT INTO items VALUES (1,1,1,'a'); INSERT INTO uses VALUES (1,1,'a');"
    )
    applied(
        life,
        "INSERT INTO items (id, ext, code) VALUES (9, 1, 'z') ON CONFLICT (tenant_id, ext) DO UPDATE SET code = excluded.code",
    )
    assert rows(url, "SELECT code FROM uses") == [("z",)]


def test_on_conflict_is_refused_where_a_condition_makes_one_key_two_parents(start: Start) -> None:
    life, _ = start(
        "CREATE TABLE items(id int PRIMARY KEY, tenant_id int REFERENCES tenants(id)); INSERT INTO items VALUES (1,1),(2,2);"
        "CREATE TABLE files(id int PRIMARY KEY, kind text, owner_id int, note text, UNIQUE (owner_id, note));"
        "INSERT INTO files VALUES (1,'item',1,'x'),(2,'other',1,'y');",
        files=TableRule(via="owner_id -> items.id", when="kind = 'item'"),
    )
    with pytest.raises(StatementRefused, match="could meet a row outside this tenant"):
        life.run(
            "INSERT INTO files (id, kind, owner_id, note) VALUES (3,'item',1,'y') ON CONFLICT (owner_id, note) DO UPDATE SET kind = 'item'"
        )


def test_names_with_any_characters_and_twins_in_a_second_schema_are_kept_apart(start: Start) -> None:
    """A percent sign, a column named k1 and a second `Items` broke the replay, the step and the load."""
    table = (
        '(k1 int PRIMARY KEY, "Tenant" int REFERENCES public.tenants(id), "vat %s" int, "a""b" int, "order" int, r int)'
    )
    life, url = start(
        f'CREATE SCHEMA "My App"; CREATE TABLE "Items" {table}; CREATE TABLE "My App"."Items" {table};'
        'INSERT INTO "Items" SELECT g, g FROM generate_series(1, 2) g; INSERT INTO "My App"."Items" SELECT g, g FROM generate_series(1, 2) g;',
        search_path=("public", "My App"),
    )
    applied(
        life,
        'UPDATE "Items" SET "vat %s" = 7, "a""b" = 3, "order" = k1',
        'UPDATE "My App.Items" AS i SET k1 = i.k1 + 20, r = 5',
        'INSERT INTO "My App.Items" (k1, "vat %s") VALUES (9, 9)',
    )
    assert rows(url, 'SELECT * FROM "Items" ORDER BY 1') == [(1, 1, 7, 3, 1, None), (2, 2, None, None, None, None)]
    assert rows(url, 'SELECT k1, "Tenant", r FROM "My App"."Items" ORDER BY 1') == [
        (2, 2, None),
        (9, 1, None),
        (21, 1, 5),
    ]


def test_a_parent_of_inherited_tables_is_read_only(start: Start) -> None:
    life, _ = start(
        "CREATE TABLE items(id int PRIMARY KEY, tenant_id int REFERENCES tenants(id), v int); CREATE TABLE more() INHERITS (items);"
        "INSERT INTO items VALUES (1,1,1),(2,2,2); INSERT INTO more VALUES (5,1,1);"
    )
    found = life.query("SELECT id FROM items ORDER BY id").rows
    assert found is not None and found.rows == (("1",), ("5",))
    with pytest.raises(StatementRefused, match="can be read but not changed"):
        life.run("UPDATE items SET v = 3")


def test_letters_are_folded_and_ordered_as_production_does(
    production_server: EmbeddedServer, production_database: MakeDatabase, start: Start
) -> None:
    life, url = start("CREATE TABLE items(id int PRIMARY KEY, tenant_id int REFERENCES tenants(id), v text);")
    [(upper,)] = rows(url, "SELECT upper('käse' COLLATE \"default\")")
    found = life.query("SELECT upper('käse')").rows
    assert found is not None and found.rows == ((upper,),)


def test_rows_of_this_transaction_and_of_its_savepoints_are_told_from_all_others(
    production_database: MakeDatabase,
) -> None:
    """A row frozen two thousand million transactions ago has a number that seems to come after ours."""
    with psycopg.connect(
        production_database("CREATE SCHEMA fence_x; CREATE TABLE t(v int); INSERT INTO t VALUES (1)")
    ) as conn:
        conn.execute("INSERT INTO t VALUES (2)")
        with conn.transaction():
            conn.execute("INSERT INTO t VALUES (3)")
        ours = read_trace(conn, "fence_x", {}).ours
        found = conn.execute(f"SELECT v FROM t WHERE {ours} ORDER BY v".encode()).fetchall()
        younger = ours.replace("t.xmin::text::bigint", "(pg_current_xact_id()::text::bigint + 1000000000)")
        assert (found, conn.execute(f"SELECT v FROM t WHERE {younger}".encode()).fetchall()) == ([(2,), (3,)], [])
