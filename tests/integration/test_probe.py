"""Before anything is served the walls are tried on the servers themselves; each wall, taken down for real, is missed."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

import shadow.fence_views
import shadow.probe
import shadow.sandbox
from mcp_server.doctor import walls_on_production
from mcp_server.probing import before_serving, walls_on_sandbox
from mcp_server.production import Production, ProductionSettings
from shadow.embedded import EmbeddedServer
from shadow.errors import SandboxUnavailable, WallMissing
from shadow.fence import FenceRules
from shadow.mirror import mirror_name
from shadow.predicate import view_statements
from shadow.sandbox import Sandbox, SandboxLimits
from tests.lifecycle import Lifecycle, dump, installed
from tests.postgres import MakeDatabase

APP = (
    "CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL); INSERT INTO tenants VALUES (1,'a'), (2,'b');"
    "CREATE TABLE notes(id int PRIMARY KEY, tenant_id int REFERENCES tenants); INSERT INTO notes VALUES (1,1), (2,2);"
)
RULES = FenceRules(root="tenants")


@pytest.fixture
def owner_url(production_database: MakeDatabase) -> str:
    return production_database(APP)


def refused(settings: ProductionSettings) -> str:
    """What a process that would serve on this production says instead; '' where it would serve."""
    production = Production(settings)
    try:
        production.fence()
    except WallMissing as missing:
        return missing.happened
    finally:
        production.close()
    return ""


def without(words: str, instead: str = "") -> Callable[..., list[sql.SQL]]:
    """The generator of views with these words replaced."""

    def made(*given: Any, **named: Any) -> list[sql.SQL]:
        return [sql.SQL(s.as_string(None).replace(words, instead)) for s in view_statements(*given, **named)]

    return made


def test_everything_holds_and_nothing_is_left(owner_url: str, postgres_server: EmbeddedServer) -> None:
    settings = installed(owner_url, RULES)
    everything = "SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace ORDER BY 1, 2"
    with psycopg.connect(owner_url, autocommit=True) as conn:
        before = conn.execute(everything).fetchall(), dump(owner_url), dump(owner_url, ("shadowdesk",))
        production = Production(settings)
        production.fence()
        assert (conn.execute(everything).fetchall(), dump(owner_url), dump(owner_url, ("shadowdesk",))) == before
    checks = list(walls_on_production(production))
    assert len(checks) >= 16 and all(check.ok for check in checks), [c for c in checks if not c.ok]
    before_serving(production, Sandbox(postgres_server.owner_url, SandboxLimits()))
    production.close()


@pytest.mark.parametrize(
    ("words", "instead", "walls"),
    [
        (" WITH CASCADED CHECK OPTION", "", ("moved to another", "added for another", "hung under")),
        (" WITH (security_barrier = true)", "", ("tells what it sees",)),
        (" = '1'::integer", " IS NOT NULL", ("UPDATE without WHERE", "DELETE without WHERE", "upsert")),
    ],
)
def test_views_without_a_wall_are_not_served(
    words: str, instead: str, walls: tuple[str, ...], owner_url: str, postgres_server: EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings = installed(owner_url, RULES)
    monkeypatch.setattr(shadow.fence_views, "view_statements", without(words, instead))
    told = refused(settings)
    assert all(wall in told for wall in walls), told
    with pytest.raises(WallMissing, match=walls[0]):
        walls_on_sandbox(Sandbox(postgres_server.owner_url, SandboxLimits()))


@pytest.mark.parametrize(
    ("statement", "wall"),
    [
        ("GRANT UPDATE ON shadowdesk.receipts TO shadowdesk_applier", "receipts cannot be changed"),
        ("GRANT DELETE ON shadowdesk.receipts TO shadowdesk_applier", "receipts cannot be taken back"),
        ("GRANT TRUNCATE ON shadowdesk.receipts TO shadowdesk_applier", "receipts cannot be emptied"),
        ("ALTER TABLE shadowdesk.receipts DROP CONSTRAINT receipts_pkey", "one receipt"),
        ("GRANT DELETE ON shadowdesk.receipts TO shadowdesk_reader", "reader cannot write receipts"),
        ("GRANT DELETE ON tenants TO shadowdesk_reader", "reader cannot change the tenants"),
        ("GRANT INSERT ON notes TO shadowdesk_reader", "reader cannot write an app table \\(may write notes"),
        ("DO $$BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO shadowdesk_reader', current_database()); END$$",
         "reader cannot make a schema"),
        ("DO $$BEGIN EXECUTE format('REVOKE CREATE ON DATABASE %I FROM shadowdesk_applier', current_database()); END$$",
         "the fence can be made"),
        ("DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET track_counts = off', current_database()); END$$",
         "updates are counted"),
    ],
)  # fmt: skip
def test_rights_and_settings_that_take_a_wall_down_are_found(statement: str, wall: str, owner_url: str) -> None:
    settings = installed(owner_url, RULES)
    assert refused(settings) == ""
    with psycopg.connect(owner_url, autocommit=True) as conn:
        conn.execute(statement.encode())
    told = refused(settings)
    assert wall.replace("\\", "") in told, told
    assert "HIDDEN" not in told


def test_what_is_told_of_an_error_is_looked_at(owner_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = installed(owner_url, RULES)
    with psycopg.connect(owner_url) as conn:
        [(newer,)] = conn.execute("SELECT current_setting('server_version_num')::int BETWEEN 150020 AND 159999")
    monkeypatch.setattr(shadow.probe, "refusal", str)
    told = refused(settings)
    assert ("tells nothing of a row outside" in told) is not newer
    assert "HIDDEN" not in told


def test_a_new_schema_version_is_tried_again_and_nothing_is_replayed_without_its_walls(
    owner_url: str, postgres_server: EmbeddedServer
) -> None:
    settings = installed(owner_url, RULES)
    life = Lifecycle(settings, postgres_server, "1")
    try:
        fence = life.production.fence()
        assert life.production.fence() is fence
        with psycopg.connect(owner_url, autocommit=True) as conn:
            conn.execute("GRANT UPDATE ON shadowdesk.receipts TO shadowdesk_applier; CREATE TABLE newer()")
        for _ in range(2):
            with pytest.raises(WallMissing, match="receipts cannot be changed"):
                life.production.fence()
        with psycopg.connect(owner_url, autocommit=True) as conn:
            conn.execute("REVOKE UPDATE ON shadowdesk.receipts FROM shadowdesk_applier")
        assert "newer" in life.production.fence().tables
    finally:
        life.close()


#: What a shadow's role is given beside its script, and the wall that this takes down.
ROLE_WALLS = {
    "SUPERUSER": "cannot read what is not loaded",
    "CREATEROLE": "cannot make a role",
    "IN ROLE pg_read_server_files": "belongs to no other role",
    "IN ROLE pg_execute_server_program": "cannot start programs",
    "IN ROLE pg_read_all_data": "cannot read what is not loaded",
    "IN ROLE pg_write_all_data": "cannot change what is not loaded",
}


@pytest.fixture
def widened(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives the roles of new shadows more than they should have."""
    plain = Sandbox._add_role

    def widen(words: str) -> None:
        def made(self: Sandbox, conn: psycopg.Connection[Any], shadow_id: str) -> str:
            password = plain(self, conn, shadow_id)
            name = sql.Identifier(f"shadow_{shadow_id}")
            more = "GRANT {} TO {}; ALTER ROLE {} INHERIT" if words.startswith("IN ROLE") else "ALTER ROLE {1} {0}"
            given = (sql.SQL(words.removeprefix("IN ROLE ")), name, name)
            if words.startswith("IN ROLE") and conn.info.server_version >= 160000:
                more = "GRANT {} TO {} WITH INHERIT TRUE; ALTER ROLE {} INHERIT"
            conn.execute(sql.SQL(more).format(*given))
            return password

        monkeypatch.setattr(Sandbox, "_add_role", made)

    return widen


@pytest.mark.parametrize("words", ROLE_WALLS)
def test_a_shadow_whose_role_may_more_is_not_handed_out(
    words: str, owner_url: str, postgres_server: EmbeddedServer, widened: Callable[[str], None]
) -> None:
    settings = installed(owner_url, RULES)
    widened(words)
    with pytest.raises(WallMissing, match=ROLE_WALLS[words]):
        Lifecycle(settings, postgres_server, "1")
    with closing(Production(settings)) as production, psycopg.connect(postgres_server.owner_url) as conn:
        mirror = mirror_name(production.fence())
        assert conn.execute("SELECT id FROM shadowdesk.shadows WHERE mirror = %s", (mirror,)).fetchall() == []


def test_a_mirror_that_shadows_may_enter_is_found(owner_url: str, postgres_server: EmbeddedServer) -> None:
    settings = installed(owner_url, RULES)
    life = Lifecycle(settings, postgres_server, "1")
    with psycopg.connect(postgres_server.owner_url) as conn:
        conn.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO PUBLIC").format(sql.Identifier(life.mirror)))
    life.close()
    with pytest.raises(WallMissing, match="cannot enter another database"):
        Lifecycle(settings, postgres_server, "1")


def test_a_server_that_is_away_is_tried_when_it_comes_back(
    owner_url: str, postgres_server: EmbeddedServer, tmp_path: Path
) -> None:
    settings = installed(owner_url, RULES)
    away = Production(ProductionSettings(reader_url=f"host={tmp_path} dbname=none", rules=RULES))
    before_serving(away, Sandbox(postgres_server.owner_url, SandboxLimits()))
    with pytest.raises(SandboxUnavailable):
        away.fence()
    half = Production(ProductionSettings(
        reader_url=settings.reader_url, applier_url=f"host={tmp_path} dbname=none", rules=RULES
    ))  # fmt: skip
    with pytest.raises(SandboxUnavailable, match="as the applier"):
        half.fence()
    half.close()
