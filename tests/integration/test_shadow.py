"""The shadow's walls and life: what its role may reach, rows on first need, inspectors, reaping, the snapshot."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import shadow.sandbox as sandbox_module
from shadow.embedded import EmbeddedServer
from shadow.errors import QuotaExceeded, SandboxUnavailable, StatementFailed, StatementRefused
from shadow.fence import FenceRules, TableRule, build_fence, certificate
from shadow.mirror import mirror_name
from shadow.snapshot import SnapshotGone
from tests.control import execute
from tests.lifecycle import Lifecycle, installed
from tests.postgres import MakeDatabase
from tests.processes import until

APP = """
CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE users(id int PRIMARY KEY, email text NOT NULL UNIQUE);
CREATE TABLE plans(id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE memberships(tenant_id int NOT NULL REFERENCES tenants(id), user_id int NOT NULL REFERENCES users(id), PRIMARY KEY (tenant_id, user_id));
CREATE TABLE projects(id serial PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants(id), parent_id int REFERENCES projects(id),
  plan_id int REFERENCES plans(id) DEFERRABLE INITIALLY DEFERRED, name text NOT NULL, UNIQUE (tenant_id, name));
CREATE TABLE tasks(id serial PRIMARY KEY, project_id int NOT NULL REFERENCES projects(id) ON DELETE CASCADE, title text);
CREATE TABLE secrets(id int PRIMARY KEY, value text);
CREATE TABLE log(id bigserial PRIMARY KEY, note text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  INSERT INTO public.log(note) VALUES (TG_TABLE_NAME); RETURN NULL; END$$;
CREATE FUNCTION hidden() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN
  EXECUTE 'UPDATE tas' || 'ks SET title = title WHERE project_id = ' || NEW.id; RETURN NULL; END$$;
CREATE TRIGGER note AFTER UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER hidden AFTER UPDATE OF name ON projects FOR EACH ROW EXECUTE FUNCTION hidden();
INSERT INTO tenants VALUES (1,'Acme'),(2,'Globex');
INSERT INTO users SELECT g, 'u' || g || '@example.com' FROM generate_series(1,30) g;
INSERT INTO plans VALUES (1,'basic'),(2,'gold');
INSERT INTO memberships SELECT 1 + g % 2, g FROM generate_series(1,20) g;
INSERT INTO projects(tenant_id, name, plan_id) SELECT 1 + g % 2, 'P' || g, 1 FROM generate_series(1,10) g;
INSERT INTO tasks(project_id, title) SELECT id, 'T' FROM projects;
INSERT INTO secrets VALUES (1,'x');
"""
RULES = FenceRules(
    root="tenants",
    label="name",
    tables={"tenants": TableRule(surface=False), "plans": TableRule(fence_class="shared", rows="all")},
)


@pytest.fixture
def owner_url(production_database: MakeDatabase) -> str:
    return production_database(APP)


@pytest.fixture
def life(owner_url: str, postgres_server: EmbeddedServer) -> Iterator[Lifecycle]:
    lifecycle = Lifecycle(settings=installed(owner_url, RULES), sandbox_server=postgres_server, tenant="2")
    yield lifecycle
    lifecycle.close()


def test_the_classes_follow_from_the_foreign_keys(life: Lifecycle) -> None:
    classes = {name: table.fence_class for name, table in life.shadow.fence.tables.items()}
    assert classes == {
        "tenants": "root", "memberships": "direct", "projects": "direct", "tasks": "reached", "users": "shared",
        "plans": "shared", "log": "sink", "secrets": "outside",
    }  # fmt: skip
    text = certificate(life.shadow.fence)
    assert "(parent_id) -> projects(id): must point inside the fence or be NULL" in text


def test_rows_that_are_too_many_or_that_the_shadow_does_not_take_leave_nothing_behind(
    owner_url: str, postgres_server: EmbeddedServer
) -> None:
    """More than what is read ahead of the writer: neither thread may wait for the other for ever."""
    with psycopg.connect(owner_url) as conn:
        conn.execute("INSERT INTO tasks(project_id, title) SELECT 1, repeat('x', 1000) FROM generate_series(1, 8000)")
    life = Lifecycle(settings=installed(owner_url, RULES), sandbox_server=postgres_server, tenant="2")
    shadow, most = life.shadow, life.shadow._max_bytes
    shadow._max_bytes = 4_000_000
    with pytest.raises(QuotaExceeded, match="rows of tasks are larger than a shadow may hold"):
        shadow.ensure({"tasks": 1})
    assert shadow.level("tasks") == 0
    shadow._max_bytes = most
    shadow.owner.execute("ALTER TABLE tasks ADD CONSTRAINT none CHECK (title <> 'T')")
    with pytest.raises(SandboxUnavailable, match=r"rows of tasks \(SQLSTATE 23514\)") as told:
        shadow.ensure({"tasks": 1})
    assert "xxx" not in str(told.value)
    assert shadow.level("tasks") == 0
    shadow.owner.execute("ALTER TABLE tasks DROP CONSTRAINT none")
    shadow.ensure({"tasks": 1})
    found = life.query("SELECT count(*) FROM tasks").rows
    life.close()
    assert found is not None and found.rows == (("8005",),)


def test_rows_come_on_first_need_and_only_those_needed(life: Lifecycle) -> None:
    assert life.shadow.level("projects") == 0
    life.query("SELECT count(*) FROM projects")
    assert life.shadow.level("projects") == 1
    assert life.shadow.level("tasks") == 0
    life.run("UPDATE projects SET plan_id = 2")
    assert life.shadow.level("tasks") == 0, "an update of no key needs no child table"
    life.run("DELETE FROM projects WHERE name = 'P1'")
    assert life.shadow.level("tasks") == 3


def test_a_trigger_that_hides_its_table_meets_loaded_rows_or_nothing_at_all(life: Lifecycle) -> None:
    """The source does not name `tasks`: the first try is refused by privilege, then the rows are loaded."""
    life.run("UPDATE projects SET name = name || '!'")
    touched = {table.table: table.updated for table in life.net().tables if not table.sink}
    assert touched == {"projects": 5}
    assert life.shadow.level("tasks") >= 2
    counters = life.freeze()[0].counters
    assert counters["public.tasks"] == (0, 5, 0)


def test_shared_tables_hold_the_referenced_rows_and_cannot_be_written(life: Lifecycle) -> None:
    rows = life.query("SELECT id FROM users ORDER BY id").rows
    assert rows is not None
    assert [int(row[0] or 0) % 2 for row in rows.rows] == [1] * 10
    assert len(life.query("SELECT * FROM plans").rows.rows) == 2  # type: ignore[union-attr]
    with pytest.raises(StatementRefused):
        life.run("UPDATE users SET email = 'x'")


def test_a_table_outside_the_fence_is_refused_by_name(life: Lifecycle) -> None:
    with pytest.raises(StatementRefused):
        life.query("SELECT * FROM secrets")


def test_the_role_reaches_no_other_database_and_nothing_of_ours(
    life: Lifecycle, postgres_server: EmbeddedServer
) -> None:
    parts = conninfo_to_dict(life.shadow.role.info.dsn)
    url = make_conninfo(
        postgres_server.owner_url,
        user=str(parts["user"]),
        password=life.shadow.role.info.password,
        dbname=str(parts["dbname"]),
    )
    for database in ("postgres", life.mirror):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(make_conninfo(url, dbname=database))
    with psycopg.connect(url, autocommit=True) as conn:
        for statement in (
            "SELECT * FROM shadowdesk.pins", "SELECT shadowdesk.restore(0)", "SELECT * FROM public.projects",
            "TRUNCATE public.projects", "CREATE TABLE public.x()", "CREATE TEMP TABLE x()", "SELECT * FROM public.secrets",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(statement)


def test_definer_functions_lose_their_rights_in_the_mirror(life: Lifecycle) -> None:
    found = life.shadow.owner.execute(
        "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'public' AND prosecdef"
    ).fetchone()
    assert found == (0,)


def test_an_inspector_reads_the_surface_and_writes_nothing(life: Lifecycle) -> None:
    life.run("UPDATE projects SET plan_id = 2")
    url = life.shadows.inspector_url(life.shadow.id, 30)
    with psycopg.connect(url, autocommit=True) as conn:
        assert conn.execute("SELECT count(*) FROM projects WHERE plan_id = 2").fetchone() == (5,)
        with pytest.raises(psycopg.Error):
            conn.execute("UPDATE projects SET plan_id = 1")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("SELECT * FROM public.projects")
    row = life.shadow.owner.execute(
        "SELECT rolvaliduntil < now() + interval '31 minutes' FROM pg_roles WHERE rolname = %s",
        (conninfo_to_dict(url)["user"],),
    ).fetchone()
    assert row == (True,)


def test_deferred_keys_are_checked_in_the_rehearsal_not_step_by_step(life: Lifecycle) -> None:
    life.run("UPDATE projects SET plan_id = 99")
    with pytest.raises(StatementFailed, match="in the rehearsal"):
        life.freeze()
    life.run("UPDATE projects SET plan_id = 2")
    assert life.freeze()[1].total_rows == 15


def test_dropping_leaves_no_database_and_no_role(life: Lifecycle) -> None:
    life.shadows.inspector_url(life.shadow.id, 5)
    life.sandbox.drop(life.shadow.id)
    with psycopg.connect(life.sandbox_server.owner_url) as conn:
        found = conn.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE %(id)s UNION ALL SELECT rolname FROM pg_roles WHERE rolname LIKE %(id)s",
            {"id": f"%{life.shadow.id}%"},
        ).fetchall()
    assert found == []


def test_what_dropped_shadows_leave_in_the_catalogs_is_cleaned_away(
    life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleanings = "SELECT vacuum_count FROM pg_stat_all_tables WHERE relid = 'pg_database'::regclass"
    monkeypatch.setattr(sandbox_module, "_DROPS_PER_CLEANING", 2)
    [(before,)] = execute(life.sandbox.admin_url, cleanings)
    for _ in range(2):
        shadow_id, _ = life.sandbox.take(life.mirror)
        life.sandbox.drop(shadow_id)
    until(lambda: execute(life.sandbox.admin_url, cleanings)[0][0] > before)


def test_expired_shadows_are_reaped_by_anybody(life: Lifecycle) -> None:
    with psycopg.connect(life.sandbox_server.owner_url) as conn:
        conn.execute(
            "UPDATE shadowdesk.shadows SET expires_at = now() - interval '1 s' WHERE id = %s", (life.shadow.id,)
        )
    assert life.shadow.id in life.sandbox.reap(life.mirror)
    assert life.sandbox.password(life.shadow.id) is None


def test_a_truncated_table_ends_the_snapshot_instead_of_loading_nothing(life: Lifecycle, owner_url: str) -> None:
    life.query("SELECT count(*) FROM memberships")
    with psycopg.connect(owner_url) as conn:
        conn.execute("TRUNCATE tasks")
    with pytest.raises(SnapshotGone, match="rewritten or truncated"):
        life.query("SELECT count(*) FROM tasks")


def test_all_loads_of_a_dry_run_see_one_snapshot(life: Lifecycle, owner_url: str) -> None:
    life.query("SELECT count(*) FROM projects")
    with psycopg.connect(owner_url) as conn:
        conn.execute("INSERT INTO tasks(project_id, title) SELECT id, 'late' FROM projects")
    rows = life.query("SELECT count(*) FROM tasks").rows
    assert rows is not None and rows.rows == (("5",),)


def test_a_new_schema_version_gets_a_new_mirror(life: Lifecycle, owner_url: str) -> None:
    old = mirror_name(life.production.fence())
    with psycopg.connect(owner_url) as conn:
        conn.execute("ALTER TABLE projects ADD COLUMN extra int")
    assert mirror_name(life.production.fence()) != old


def test_rules_that_name_nothing_are_told(life: Lifecycle) -> None:
    catalog = life.production.fence().catalog
    for rules in (
        FenceRules(root="nothing"),
        FenceRules(root="tenants", key="nothing"),
        FenceRules(root="tenants", tables={"nothing": TableRule()}),
        FenceRules(root="tenants", tables={"tasks": TableRule(via="project_id => projects.id")}),
        FenceRules(root="tenants", tables={"users": TableRule(fence_class="direct", column="nothing")}),
    ):
        with pytest.raises(ValueError, match=r"\[fence"):
            build_fence(catalog, rules)
