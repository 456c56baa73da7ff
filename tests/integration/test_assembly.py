"""A process put together from URLs of servers that somebody else runs, instead of the embedded ones."""

from pathlib import Path

import psycopg
import pytest
import uvicorn
from psycopg.conninfo import make_conninfo

from mcp_server.assembly import open_desk
from mcp_server.cli.running import serve_http
from mcp_server.doctor import examine
from mcp_server.errors import ConfigurationInvalid
from mcp_server.expiring import expire_overdue
from mcp_server.identity import Caller
from mcp_server.settings import Settings, load_settings
from shadow.embedded import open_sandbox
from shadow.errors import ShadowExpired, WallMissing
from shadow.fence import FenceRules
from tests.lifecycle import installed
from tests.postgres import MakeDatabase

APP = """
CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE notes(id serial PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants(id), body text);
INSERT INTO tenants VALUES (1,'Acme'),(2,'Globex');
INSERT INTO notes(tenant_id, body) SELECT 1 + g % 2, 'n' || g FROM generate_series(1,10) g;
"""
REP = Caller(name="rep", role="rep", channel="cli", client="test")


def settings_for(folder: Path, production_url: str, servers_url: str) -> Settings:
    """Sandbox and control on one server of our own, named by URL."""
    with psycopg.connect(servers_url, autocommit=True) as conn:
        conn.execute("CREATE DATABASE desk")
    parts = installed(production_url, FenceRules(root="tenants", label="name"))
    control = make_conninfo(servers_url, dbname="desk")
    config = folder / "shadowdesk.toml"
    config.write_text(f"""
data_dir = "{folder / "data"}"
[production]
reader_url = "{parts.reader_url}"
applier_url = "{parts.applier_url}"
[fence]
root = "tenants"
label = "name"
[sandbox]
url = "{servers_url}"
pool = 1
[control]
url = "{control}"
control_url = "{make_conninfo(control, user="shadowdesk_control", password="control-password")}"
audit_url = "{make_conninfo(control, user="shadowdesk_audit", password="audit-password")}"
[people.rep]
role = "rep"
""")
    return load_settings(config)


@pytest.fixture
def owner_url(production_database: MakeDatabase) -> str:
    return production_database(APP)


@pytest.fixture
def settings(tmp_path: Path, owner_url: str) -> Settings:
    server = open_sandbox(tmp_path / "servers")
    return settings_for(tmp_path, owner_url, server.owner_url)


def test_a_fix_on_servers_named_by_url(settings: Settings) -> None:
    with open_desk(settings, applier=True) as assembly:
        dry_run = assembly.desk.start_dry_run(REP, "1", "fix my note", "test")
        assembly.desk.run(REP, dry_run.id, "UPDATE notes SET body = 'fixed' WHERE body = 'n2'", "as asked")
        proposal = assembly.desk.propose(REP, dry_run.id)
        receipt = assembly.desk.confirm(REP, proposal.id, proposal.digest, proposal.rows)
        assert receipt.rows == 1
        assert assembly.desk.proposal(REP, proposal.id).state == "applied"


def test_another_process_takes_up_the_same_shadow(settings: Settings) -> None:
    with open_desk(settings, applier=False) as first, open_desk(settings, applier=False) as second:
        dry_run = first.desk.start_dry_run(REP, "1", "fix my note", "test")
        first.desk.run(REP, dry_run.id, "UPDATE notes SET body = 'one' WHERE body = 'n2'", "first process")
        second.desk.run(REP, dry_run.id, "UPDATE notes SET body = 'two' WHERE body = 'n4'", "second process")
        assert first.control.dry_run(dry_run.id).shadow_id == dry_run_shadow(second, dry_run.id)
        assert first.desk.diff(REP, dry_run.id).total_rows == 2


def dry_run_shadow(assembly: object, dry_run_id: str) -> str | None:
    shadow_id: str | None = assembly.control.dry_run(dry_run_id).shadow_id  # type: ignore[attr-defined]
    return shadow_id


def test_an_ended_dry_run_is_never_rebuilt_on_rows_that_moved_on(settings: Settings) -> None:
    with open_desk(settings, applier=True) as assembly:
        dry_run = assembly.desk.start_dry_run(REP, "1", "fix my note", "test")
        assembly.desk.run(REP, dry_run.id, "UPDATE notes SET body = 'fixed' WHERE body = 'n2'", "as asked")
        proposal = assembly.desk.propose(REP, dry_run.id)
        assembly.desk.confirm(REP, proposal.id, proposal.digest, proposal.rows)
        assert assembly.desk.diff(REP, dry_run.id).total_rows == 1
        assembly.shadows.drop(dry_run.id, assembly.control.dry_run(dry_run.id).shadow_id)
        with pytest.raises(ShadowExpired):
            assembly.desk.diff(REP, dry_run.id)


def test_overdue_dry_runs_expire_and_proposed_ones_wait_for_their_proposals_time(settings: Settings) -> None:
    with open_desk(settings, applier=False) as assembly:
        waiting = assembly.desk.start_dry_run(REP, "1", "fix my note", "test")
        proposed = assembly.desk.start_dry_run(REP, "1", "fix my other note", "test")
        assembly.desk.run(REP, proposed.id, "UPDATE notes SET body = 'x' WHERE body = 'n2'", "as asked")
        assembly.desk.propose(REP, proposed.id)
        with psycopg.connect(settings.control.url.get_secret_value(), autocommit=True) as conn:
            conn.execute("UPDATE control.dry_runs SET expires_at = created_at + interval '1 microsecond'")
        assert expire_overdue(assembly.control) == [waiting.id]
        assert assembly.control.dry_run(waiting.id).state == "expired"
        assert assembly.control.dry_run(proposed.id).state == "proposed"


def test_the_doctor_finds_everything_in_order_and_says_what_is_not(settings: Settings, tmp_path: Path) -> None:
    checks = {check.name: check for check in examine(settings)}
    assert all(check.ok for check in checks.values()), [c for c in checks.values() if not c.ok]
    text = (tmp_path / "shadowdesk.toml").read_text()
    broken = tmp_path / "broken.toml"
    broken.write_text(text.replace("reader-password", "wrong").replace('root = "tenants"', 'root = "nothing"'))
    wrong = [check for check in examine(load_settings(broken)) if not check.ok]
    assert {check.name for check in wrong} == {"production.reader_url", "fence"}
    assert all(check.mend for check in wrong)


def test_no_server_starts_where_a_wall_is_missing(
    owner_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def served(*_: object, **__: object) -> None:
        pytest.fail("a server started although a wall is missing")

    monkeypatch.setattr(uvicorn.Server, "run", served)
    for words, mcp, pages, wall in (
        ("GRANT DELETE ON shadowdesk.receipts TO shadowdesk_applier", True, True, "receipts cannot be taken back"),
        ("GRANT INSERT ON notes TO shadowdesk_reader", True, False, "reader cannot write an app table"),
    ):
        with psycopg.connect(owner_url, autocommit=True) as conn:
            conn.execute(words.encode())
        with pytest.raises(WallMissing, match=wall) as told:
            serve_http(settings, mcp=mcp, pages=pages)
        assert "Nothing was started" in told.value.not_happened
        assert any(not check.ok and wall in check.name for check in examine(settings))


def test_a_control_server_without_its_roles_is_refused(settings: Settings, tmp_path: Path) -> None:
    text = (tmp_path / "shadowdesk.toml").read_text()
    lacking = tmp_path / "lacking.toml"
    lacking.write_text("\n".join(line for line in text.splitlines() if not line.startswith("audit_url")))
    with pytest.raises(ConfigurationInvalid, match="audit_url"), open_desk(load_settings(lacking), applier=False):
        pass
