"""Limits on a shadow's growth and on waiting, shadow and production: each ends the call by its name, audited, undone."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client
from mcp.types import TextContent
from psycopg.conninfo import make_conninfo

from mcp_server.assembly import Assembly, open_desk
from mcp_server.demo.business import STORIES
from mcp_server.demo.person import PageRefused
from mcp_server.demo.stage import Stage, staged
from mcp_server.identity import stdio_caller
from mcp_server.server import build_server
from mcp_server.settings import load_settings

LIMITS = """
[limits]
lock_timeout_s = 1
idle_timeout_s = 1
replay_lock_timeout_s = 1
replay_statement_timeout_s = 2
"""
#: Sleeps where a replay runs it, and nowhere else.
SLOW = """
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF session_user = 'shadowdesk_applier' AND NEW.office = 'slow' THEN PERFORM pg_sleep(20); END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER dawdle BEFORE UPDATE ON signatories FOR EACH ROW EXECUTE FUNCTION dawdle();
"""
MINE = f"id = (SELECT min(id) FROM signatories WHERE tenant_id = {STORIES.tenant_id})"


class Desk:
    """A rep's client in this process, and what stands behind it."""

    def __init__(self, stage: Stage, assembly: Assembly, portal: BlockingPortal, client: Client) -> None:
        self.stage, self.assembly, self._portal, self._client = stage, assembly, portal, client

    def call(self, tool: str, **arguments: Any) -> tuple[bool, str, dict[str, Any]]:
        """Whether it went well, its words, its value."""
        result = self._portal.call(self._client.call_tool, tool, arguments)
        assert isinstance(result.content[0], TextContent)
        return not result.is_error, result.content[0].text, dict(result.structured_content or {})

    def run(self, sql: str) -> str:
        """A dry run with one step; its id."""
        words = {"tenant": str(STORIES.tenant_id), "request": "please", "purpose": "limits"}
        _, _, made = self.call("start_dry_run", **words)
        dry_run_id = made["dry_run"]["id"]
        good, why, _ = self.call("run_statement", dry_run_id=dry_run_id, sql=sql, reason="as asked")
        assert good, why
        return str(dry_run_id)

    def outcome(self, tool: str) -> str | None:
        """How the newest call of a tool ended, by the audit trail."""
        return next(e.outcome for e in self.assembly.audit.tail(50) if e.tool == tool and e.kind == "outcome")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("limits-time"), LIMITS) as stage:
        text = stage.config.read_text()
        stage.config.write_text(text.replace("[sandbox]\n", "[sandbox]\nmax_shadow_mb = 32\n"))
        stage.change_production(SLOW)
        yield stage


@pytest.fixture(scope="module")
def desk(stage: Stage) -> Iterator[Desk]:
    settings = load_settings(stage.config)
    with open_desk(settings, applier=False) as assembly, start_blocking_portal() as portal:
        server = build_server(assembly.desk, settings, assembly.governor, stdio_caller(settings))
        with portal.wrap_async_context_manager(Client(server)) as client:
            yield Desk(stage, assembly, portal, client)


@contextmanager
def locked(url: str, statement: str) -> Iterator[None]:
    """Somebody else's transaction that holds what `statement` locks."""
    with psycopg.connect(url) as conn:
        assert conn.execute(statement.encode()).fetchall(), "nothing was locked"
        yield


def test_a_step_that_grows_the_shadow_too_far_is_taken_back(desk: Desk) -> None:
    dry_run_id = desk.run(f"UPDATE signatories SET office = 'before' WHERE {MINE}")
    grow = (
        "UPDATE signatories SET office = (SELECT string_agg(md5((a * 100 + b)::text), '') FROM"
        " generate_series(1, 10000) AS x(a), generate_series(1, 20) AS y(b))"
        " WHERE id IN (SELECT id FROM signatories ORDER BY id LIMIT 6)"
    )
    good, why, _ = desk.call("run_statement", dry_run_id=dry_run_id, sql=grow, reason="grow")
    assert not good and "sandbox.max_shadow_mb" in why, why
    assert desk.outcome("run_statement") == "refused:QuotaExceeded"
    _, _, diff = desk.call("show_diff", dry_run_id=dry_run_id)
    assert [(row["cells"][0]["after"]) for row in diff["diff"]["rows"]] == ["before"]


def test_a_step_waits_for_a_lock_on_its_shadow_only_so_long(desk: Desk) -> None:
    dry_run_id = desk.run(f"UPDATE signatories SET office = 'before' WHERE {MINE}")
    shadow = desk.assembly.control.dry_run(dry_run_id).shadow_id
    url = make_conninfo(desk.assembly.sandbox.admin_url, dbname=f"shadow_{shadow}")
    step = {"dry_run_id": dry_run_id, "sql": "UPDATE signatories SET office = 'after'", "reason": "wait"}
    with locked(url, "SELECT FROM public.signatories FOR UPDATE"):
        good, why, _ = desk.call("run_statement", **step)
    assert not good and "limits.lock_timeout_s" in why, why
    assert desk.outcome("run_statement") == "refused:QuotaExceeded"
    good, why, _ = desk.call("run_statement", **step)
    assert good, why


def test_a_transaction_that_stands_idle_is_ended_and_the_shadow_rebuilt(desk: Desk) -> None:
    dry_run_id = desk.run(f"UPDATE signatories SET office = 'before' WHERE {MINE}")
    role = desk.assembly.shadows._open[dry_run_id].role
    role.execute("BEGIN")
    time.sleep(1.5)
    query = {"dry_run_id": dry_run_id, "sql": f"SELECT office FROM signatories WHERE {MINE}"}
    good, why, found = desk.call("query_shadow", **query)
    assert good and found["rows"] == [["before"]], why
    assert "limits.idle_timeout_s" in why and "rebuilt from 1 recorded statement" in why
    assert desk.outcome("query_shadow") == "ok"


def refused_on_production(desk: Desk, sql: str) -> tuple[int, str, str]:
    """Proposes one statement, confirms it as the rep on the page: status, words, state of the proposal after it."""
    dry_run_id = desk.run(sql)
    good, why, proposal = desk.call("propose", dry_run_id=dry_run_id)
    assert good, why
    path = f"/review/{proposal['id']}"
    with closing(desk.stage.browser("rep")) as browser, pytest.raises(PageRefused) as told:
        browser.confirm(path, proposal["rows"])
    _, _, after = desk.call("proposal_status", proposal_id=proposal["id"])
    return told.value.status, str(told.value), after["state"]


def test_a_replay_waits_for_a_lock_on_production_only_so_long(desk: Desk) -> None:
    before = desk.stage.production("SELECT office FROM signatories ORDER BY id")
    with locked(desk.stage.owner_url, f"SELECT FROM signatories WHERE {MINE} FOR UPDATE"):
        status, words, state = refused_on_production(desk, f"UPDATE signatories SET office = 'late' WHERE {MINE}")
    assert (status, state) == (503, "pending")
    assert "limits.replay_lock_timeout_s" in words and "Nothing was applied" in words
    assert desk.outcome("confirm") == "refused:ReplayPostponed"
    assert desk.stage.production("SELECT office FROM signatories ORDER BY id") == before


def test_a_statement_of_a_replay_runs_only_so_long(desk: Desk) -> None:
    before = desk.stage.production("SELECT office FROM signatories ORDER BY id")
    status, words, state = refused_on_production(desk, f"UPDATE signatories SET office = 'slow' WHERE {MINE}")
    assert (status, state) == (503, "pending")
    assert "limits.replay_statement_timeout_s" in words and "Nothing was applied" in words
    assert desk.outcome("confirm") == "refused:ReplayPostponed"
    assert desk.stage.production("SELECT office FROM signatories ORDER BY id") == before
