"""Servers that go away: nothing is left behind, the words are ours, and what comes back is used again."""

import os
import signal
import time
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from audit.errors import AuditUnavailable
from audit.store import AuditStore
from mcp_server.assembly import open_desk
from mcp_server.control.connections import audit_pool
from mcp_server.control.migrate import migrate
from mcp_server.doctor import examine
from mcp_server.errors import WrongState
from mcp_server.identity import Caller
from mcp_server.settings import load_settings
from shadow.embedded import open_control, open_sandbox
from shadow.errors import SandboxUnavailable
from tests.integration.test_assembly import APP, settings_for
from tests.postgres import MakeDatabase

REP = Caller(name="rep", role="rep", channel="cli", client="test")
NOWHERE = "postgresql://somebody:s3cret@127.0.0.1:1/nothing"


def test_a_start_that_cannot_be_recorded_leaves_no_shadow(tmp_path: Path, production_database: MakeDatabase) -> None:
    server = open_sandbox(tmp_path / "servers")
    settings = settings_for(tmp_path, production_database(APP), server.owner_url)
    with open_desk(settings, applier=False) as assembly:
        with pytest.raises(WrongState):
            assembly.desk.start_dry_run(REP, "1", "words with a \0", "test")
        with assembly.shadows._sandbox.admin() as conn:
            assert conn.execute("SELECT count(*) FROM shadowdesk.shadows WHERE state = 'taken'").fetchone() == (0,)
        assert assembly.desk.start_dry_run(REP, "1", "real words", "test").state == "open"
        os.kill(server.postmaster, signal.SIGKILL)
        with pytest.raises(SandboxUnavailable):
            assembly.shadows.reap()
        with pytest.raises(SandboxUnavailable):
            assembly.shadows.get("dr_x", "x", "1", None)


@pytest.mark.parametrize("url", [NOWHERE, "no url at all"])
@pytest.mark.parametrize("key", ["reader_url", "url"])
def test_a_server_that_cannot_be_reached_is_said_in_words_without_its_password(
    tmp_path: Path, production_database: MakeDatabase, url: str, key: str
) -> None:
    with open_sandbox(tmp_path / "servers") as server:
        settings_for(tmp_path, production_database(APP), server.owner_url)
        lines = (tmp_path / "shadowdesk.toml").read_text().splitlines()
        first = next(number for number, line in enumerate(lines) if line.startswith(f"{key} ="))
        lines[first] = f'{key} = "{url}"'
        config = tmp_path / "broken.toml"
        config.write_text("\n".join(lines))
        settings = load_settings(config)
        with pytest.raises(SandboxUnavailable) as told, open_desk(settings, applier=False) as assembly:
            assembly.desk.find_tenant(REP, "1")
        wrong = [check for check in examine(settings) if not check.ok]
    assert wrong
    assert "s3cret" not in f"{told.value}{told.value.__cause__}{wrong}"


def test_the_trail_is_written_again_as_soon_as_its_server_is_back(place: Path) -> None:
    # a short path: below a long one the socket lies elsewhere, and elsewhere again after a restart
    with open_control(place / "control") as server:
        migrate(server.owner_url, "control-password", "audit-password")
        pool = audit_pool(make_conninfo(server.owner_url, user="shadowdesk_audit", password="audit-password"))
        store = AuditStore(pool)
        assert store.head().seq == 0
        os.kill(server.postmaster, signal.SIGKILL)
        time.sleep(1)
        with pytest.raises(AuditUnavailable):
            store.head()
        with open_control(place / "control"):
            assert store.head().seq == 0
        pool.close()
