"""A sandbox that goes away mid dry run, moves to production's own server, or meets a new schema: what the rep sees."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from mcp_server.assembly import Assembly, open_desk
from mcp_server.doctor import examine
from mcp_server.settings import Settings, load_settings
from mcp_server.shadows import Shadows
from mcp_server.views import DryRunView
from shadow import mirror
from shadow.embedded import EmbeddedServer, open_sandbox
from shadow.embedded_state import READY
from shadow.errors import SandboxUnavailable, StatementFailed
from shadow.sandbox_docker import DockerSandbox
from shadow.sandbox_server import EmbeddedSandbox
from tests.control import execute
from tests.integration.test_assembly import APP, REP, settings_for
from tests.postgres import DEBIAN_15, MakeDatabase
from tests.processes import ROOT, supervisor_of

FIX = "UPDATE notes SET body = 'fixed' WHERE body = 'n2'"


def with_sandbox(settings_file: Path, url: str, servers_url: str) -> Settings:
    """The same configuration with another sandbox."""
    text = settings_file.read_text()
    changed = settings_file.with_name("changed.toml")
    changed.write_text(text.replace(f'url = "{servers_url}"\npool', f'url = "{url}"\npool'))
    assert changed.read_text() != text
    return load_settings(changed)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of version 15 for production and control, as old as the container's."""
    if not (DEBIAN_15 / "postgres").is_file():
        pytest.skip(f"NO POSTGRES 15 for production: looked in {DEBIAN_15}")
    with open_sandbox(tmp_path / "servers", binaries=DEBIAN_15) as server:
        execute(server.owner_url, "CREATE DATABASE app")
        execute(server.url("app"), APP)
        yield server


def started(assembly: Assembly) -> DryRunView:
    dry_run = assembly.desk.start_dry_run(REP, "1", "fix my note", "test")
    assembly.desk.run(REP, dry_run.id, FIX, "as asked")
    return dry_run


def test_a_container_killed_mid_dry_run(docker_image: str, servers: EmbeddedServer, tmp_path: Path) -> None:
    settings_for(tmp_path, servers.url("app"), servers.owner_url)
    settings = with_sandbox(tmp_path / "shadowdesk.toml", f"docker://{docker_image}", servers.owner_url)
    with open_desk(settings, applier=True) as assembly:
        assert all(check.ok for check in examine(settings))
        server = assembly.sandbox_server
        assert isinstance(server, DockerSandbox)
        try:
            dry_run = started(assembly)
            assert assembly.desk.list_dry_runs(REP)[0].notes == ()
            server._container().kill()
            (listed,) = assembly.desk.list_dry_runs(REP)
            assert "lost" in listed.notes[0] and listed.state == "open" and listed.steps == 1
            step = assembly.desk.run(REP, dry_run.id, "UPDATE notes SET body = 'too' WHERE body = 'n4'", "more")
            assert step.step == 2 and step.row_count == 1
            assert "lost" in step.warnings[0] and "rebuilt from 1 recorded statement" in step.warnings[0]
            assert assembly.desk.diff(REP, dry_run.id).total_rows == 2
            assert assembly.desk.list_dry_runs(REP)[0].notes == step.warnings
            proposal = assembly.desk.propose(REP, dry_run.id)
            assert step.warnings[0] in proposal.rehearsal_notes
            assert assembly.desk.confirm(REP, proposal.id, proposal.digest, proposal.rows).rows == 2
        finally:
            assembly.shadows.close()
            server.remove_unused(0)


def test_reap_removes_the_container_that_nobody_uses(
    docker_image: str, servers: EmbeddedServer, tmp_path: Path
) -> None:
    settings_for(tmp_path, servers.url("app"), servers.owner_url)
    with_sandbox(tmp_path / "shadowdesk.toml", f"docker://{docker_image}", servers.owner_url)
    config = tmp_path / "changed.toml"
    config.write_text(config.read_text() + '[people.op]\nrole = "operator"\n')
    settings = load_settings(config)

    def reap() -> list[str]:
        command = [sys.executable, "-m", "mcp_server", "reap", "--config", str(config), "--person", "op", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        return [str(name) for name in json.loads(done.stdout)]

    with open_desk(settings, applier=False) as assembly:
        dry_run = started(assembly)
        server = assembly.sandbox_server
        assert isinstance(server, DockerSandbox)
        name = server._container().name
        assert name not in reap()  # this process uses it
    assert name not in reap()  # a dry run is open in it
    with open_desk(settings, applier=False) as assembly:
        assert assembly.desk.diff(REP, dry_run.id).total_rows == 1  # the same shadow, after a restart
        assert assembly.desk.list_dry_runs(REP)[0].notes == ()
        assembly.desk.discard(REP, dry_run.id)
    assert name in reap()


def test_a_container_killed_while_a_statement_runs_loses_nothing_that_was_kept(
    docker_image: str, servers: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_for(tmp_path, servers.url("app"), servers.owner_url)
    settings = with_sandbox(tmp_path / "shadowdesk.toml", f"docker://{docker_image}", servers.owner_url)
    with open_desk(settings, applier=False) as assembly:
        server = assembly.sandbox_server
        assert isinstance(server, DockerSandbox)
        try:
            dry_run = started(assembly)
            found = Shadows.get

            def get_and_kill(shadows: Shadows, *about: str) -> object:
                shadow = found(shadows, *about)
                server._container().kill()
                return shadow

            with monkeypatch.context() as patch:
                patch.setattr(Shadows, "get", get_and_kill)
                rows = assembly.desk.query(REP, dry_run.id, "SELECT body FROM notes ORDER BY id")
            assert rows.rows[0] == ("fixed",) and "rebuilt" in rows.notes[0]
            assert assembly.desk.query(REP, dry_run.id, "SELECT 1").notes == ()
        finally:
            assembly.shadows.close()
            server.remove_unused(0)


def test_an_embedded_sandbox_killed_under_a_living_process(tmp_path: Path, production_database: MakeDatabase) -> None:
    with open_sandbox(tmp_path / "servers") as servers:
        settings_for(tmp_path, production_database(APP), servers.owner_url)
        settings = with_sandbox(tmp_path / "shadowdesk.toml", "embedded", servers.owner_url)
        state = settings.data_dir / "sandbox"
        with open_desk(settings, applier=False) as assembly, open_desk(settings, applier=False) as other:
            dry_run = started(assembly)
            for how in ("postmaster", "supervisor"):
                server = assembly.sandbox_server
                assert isinstance(server, EmbeddedSandbox)
                os.kill(server._server.postmaster if how == "postmaster" else supervisor_of(state), signal.SIGKILL)
                before = server.url
                assert assembly.desk.diff(REP, dry_run.id).total_rows == 1
                assert server.url != before and (state / READY).exists()
                assert other.desk.diff(REP, dry_run.id).total_rows == 1  # the other process finds the same new server
                assert other.sandbox.admin_url == assembly.sandbox.admin_url
            assert "rebuilt" in assembly.desk.list_dry_runs(REP)[0].notes[0]
            assert started(assembly).state == "open"


def test_a_server_of_somebody_else_that_comes_back_empty(tmp_path: Path, production_database: MakeDatabase) -> None:
    with open_sandbox(tmp_path / "servers") as servers, open_sandbox(tmp_path / "named") as named:
        settings_for(tmp_path, production_database(APP), servers.owner_url)
        settings = with_sandbox(tmp_path / "shadowdesk.toml", named.owner_url, servers.owner_url)
        with open_desk(settings, applier=False) as assembly:
            dry_run = started(assembly)
            shadow_id = assembly.control.dry_run(dry_run.id).shadow_id
            for (name,) in execute(
                named.owner_url, "SELECT datname FROM pg_database WHERE datname ~ '^(mirror|shadow)_'"
            ):
                execute(named.owner_url, f"DROP DATABASE {name} WITH (FORCE)")
            execute(named.owner_url, "DROP SCHEMA shadowdesk CASCADE")
            execute(named.owner_url, f"DROP ROLE shadow_{shadow_id}")
            assert "lost" in assembly.desk.list_dry_runs(REP)[0].notes[0]
            assert assembly.desk.diff(REP, dry_run.id).total_rows == 1


def test_the_sandbox_on_productions_own_server_cannot_reach_the_apps_database(
    tmp_path: Path, production_server: EmbeddedServer, production_database: MakeDatabase
) -> None:
    with open_sandbox(tmp_path / "servers") as servers:
        app = production_database(APP)
        settings_for(tmp_path, app, servers.owner_url)
        own = production_database()
        settings = with_sandbox(tmp_path / "shadowdesk.toml", own, servers.owner_url)
        database = psycopg.conninfo.conninfo_to_dict(app)["dbname"]
        execute(app, f"GRANT CONNECT ON DATABASE {database} TO PUBLIC")  # as Postgres makes every database
        with open_desk(settings, applier=True) as assembly:
            with pytest.raises(SandboxUnavailable, match="REVOKE CONNECT"):
                assembly.desk.start_dry_run(REP, "1", "fix my note", "test")
            execute(app, f"REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC")
            dry_run = started(assembly)
            shadow_id = str(assembly.control.dry_run(dry_run.id).shadow_id)
            password = assembly.sandbox.password(shadow_id)
            role = assembly.sandbox.role_url(shadow_id, str(password))
            with psycopg.connect(role) as conn:
                assert conn.execute("SELECT current_user").fetchone() == (f"shadow_{shadow_id}",)
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                psycopg.connect(make_conninfo(role, dbname=database))
            proposal = assembly.desk.propose(REP, dry_run.id)
            assert assembly.desk.confirm(REP, proposal.id, proposal.digest, proposal.rows).rows == 1
            assembly.shadows.drop(dry_run.id, shadow_id)
            execute(own, "DELETE FROM shadowdesk.shadows WHERE state = 'ready' RETURNING id")
        # The rest of this server belongs to other tests: what was made here is dropped.
        for (name,) in execute(own, "SELECT datname FROM pg_database WHERE datname ~ '^(mirror|shadow)_'"):
            execute(own, f"DROP DATABASE {name} WITH (FORCE)")


def test_a_new_schema_is_told_and_the_shadow_rebuilt_on_it(
    tmp_path: Path, production_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_server.shadows._SCHEMA_S", 0.0)
    with open_sandbox(tmp_path / "servers") as servers:
        app = production_database(APP)
        settings = settings_for(tmp_path, app, servers.owner_url)
        with open_desk(settings, applier=False) as assembly:
            one, two = started(assembly), started(assembly)
            old = assembly.control.dry_run(one.id).mirror_version
            execute(app, "ALTER TABLE notes ADD COLUMN rating int")
            assembly.shadows.reap()
            assert old in mirrors(assembly)  # shadows of the old schema still stand on it
            step = assembly.desk.run(REP, one.id, "UPDATE notes SET rating = 5 WHERE body = 'fixed'", "as asked")
            assert step.row_count == 1
            assert "schema changed" in step.warnings[0] and "rebuilt from 1 recorded statement" in step.warnings[0]
            assert assembly.control.dry_run(one.id).mirror_version != old
            assert (
                assembly.desk.run(REP, one.id, "UPDATE notes SET rating = 6 WHERE rating = 5", "again").warnings == ()
            )
            assembly.shadows.reap()
            assert old in mirrors(assembly)  # the second dry run's
            assembly.desk.discard(REP, two.id)
            assembly.shadows.reap()
            assert mirrors(assembly) == {assembly.control.dry_run(one.id).mirror_version}


def test_a_statement_that_the_new_schema_cannot_run_is_named(
    tmp_path: Path, production_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_server.shadows._SCHEMA_S", 0.0)
    with open_sandbox(tmp_path / "servers") as servers:
        app = production_database(APP)
        settings = settings_for(tmp_path, app, servers.owner_url)
        with open_desk(settings, applier=False) as assembly:
            dry_run = started(assembly)
            execute(app, "ALTER TABLE notes ADD CONSTRAINT short CHECK (body <> 'fixed')")
            with pytest.raises(StatementFailed, match="step 1 does not run"):
                assembly.desk.diff(REP, dry_run.id)
            assert len(assembly.desk.statements(REP, dry_run.id)) == 1
            taken = execute(servers.owner_url, "SELECT count(*) FROM shadowdesk.shadows WHERE state = 'taken'")
            assert taken == [(0,)]


def mirrors(assembly: Assembly) -> set[object]:
    with assembly.sandbox.admin() as conn:
        return {name for (name,) in conn.execute("SELECT datname FROM pg_database WHERE datname ~ '^mirror_'")}


def test_programs_and_sandboxes_older_than_production_are_refused_before_anything_runs(
    servers: EmbeddedServer, postgres_server: EmbeddedServer
) -> None:
    with psycopg.connect(postgres_server.owner_url) as newer, psycopg.connect(servers.owner_url) as older:
        with pytest.raises(SandboxUnavailable, match=r"pg_dump in .* is version 15, production is PostgreSQL 18"):
            mirror.check_versions(newer, newer.info.server_version, DEBIAN_15)
        with pytest.raises(SandboxUnavailable, match="sandbox is PostgreSQL 15, older than production's 18"):
            mirror.check_versions(older, newer.info.server_version, postgres_server.bin_dir)
        mirror.check_versions(newer, older.info.server_version, postgres_server.bin_dir)
