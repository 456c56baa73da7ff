"""One fix, end to end: the real MCP client, the real pages, real Postgres on both sides."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from mcp_server.demo.business import STORIES
from mcp_server.demo.person import Browser, PageRefused
from mcp_server.demo.stage import Claude, DemoFailed, Stage, staged
from shadow.embedded import open_sandbox
from shadow.sandbox import Sandbox, SandboxLimits

CONTRACT = STORIES.wrong_signatory


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture(scope="module")
def claude(stage: Stage) -> Iterator[Claude]:
    client = Claude(stage)
    yield client
    client.close()


@pytest.fixture(scope="module")
def rep(stage: Stage) -> Iterator[Browser]:
    browser = stage.browser("rep")
    yield browser
    browser.close()


def start(client: Claude, request: str = "please change the note on this contract") -> str:
    started = client.call("start_dry_run", tenant=str(STORIES.tenant_id), request=request, purpose="test")
    return str(started["dry_run"]["id"])


def propose(client: Claude, sql: str) -> dict[str, object]:
    dry_run = start(client)
    client.call("run_statement", dry_run_id=dry_run, sql=sql, reason="as asked")
    proposal = client.call("propose", dry_run_id=dry_run)
    return {**proposal, "path": urlsplit(proposal["review_url"]).path}


def test_a_fix_goes_all_the_way_and_only_after_a_persons_yes(stage: Stage, claude: Claude, rep: Browser) -> None:
    sql = f"UPDATE contracts SET terms = terms || '{{\"checked\": true}}' WHERE id = {CONTRACT.contract_id}"
    look = f"SELECT terms->>'checked' FROM contracts WHERE id = {CONTRACT.contract_id}"
    proposal = propose(claude, sql)
    assert stage.production(look) == [(None,)]
    rep.confirm(str(proposal["path"]), int(str(proposal["rows"])))
    assert stage.production(look) == [("true",)]
    status = claude.call("proposal_status", proposal_id=proposal["id"])
    assert status["state"] == "applied"
    assert status["receipt"]["digest"] == proposal["digest"]
    with pytest.raises(PageRefused):
        rep.confirm(str(proposal["path"]), int(str(proposal["rows"])))
    receipts = stage.production(f"SELECT count(*) FROM shadowdesk.receipts WHERE proposal_id = '{proposal['id']}'")
    assert receipts == [(1,)]


def test_a_wrong_number_of_rows_replays_nothing(stage: Stage, claude: Claude, rep: Browser) -> None:
    proposal = propose(claude, "UPDATE contracts SET terms = terms WHERE id = 1 OR terms IS NOT NULL")
    another_number = int(str(proposal["rows"])) + 1
    before = stage.production("SELECT count(*) FROM shadowdesk.receipts")
    with pytest.raises(PageRefused):
        rep.confirm(str(proposal["path"]), another_number)
    assert stage.production("SELECT count(*) FROM shadowdesk.receipts") == before


def test_nothing_a_tool_says_opens_the_page(stage: Stage, claude: Claude) -> None:
    dry_run = start(claude)
    said = [claude.call("list_dry_runs"), claude.call("describe_tables")]
    said.append(
        claude.call("run_statement", dry_run_id=dry_run, sql="UPDATE accounts SET name = name || '!'", reason="x1")
    )
    said += [claude.call("propose", dry_run_id=dry_run), claude.call("show_diff", dry_run_id=dry_run)]
    text = json.dumps(said)
    assert "token" not in text and "/login" not in text
    for secret in (*stage.keys.values(), *stage.tokens.values(), "postgresql://"):
        assert secret not in text


def test_the_intern_rehearses_everything_granted_and_confirms_nothing(stage: Stage) -> None:
    intern = Claude(stage, person="intern")
    browser = stage.browser("intern")
    try:
        assert "run_statement" in intern.tools()
        proposal = propose(intern, f"UPDATE contracts SET terms = '{{}}' WHERE id = {CONTRACT.contract_id}")
        with pytest.raises(PageRefused):
            browser.confirm(str(proposal["path"]), int(str(proposal["rows"])))
    finally:
        browser.close()
        intern.close()
    assert stage.production(f"SELECT count(*) FROM shadowdesk.receipts WHERE proposal_id = '{proposal['id']}'") == [
        (0,)
    ]


def test_the_threshold_decides_who_may_confirm(stage: Stage, claude: Claude, tmp_path: Path) -> None:
    sql = f"UPDATE line_items SET qty = 0 WHERE id = {STORIES.looks_wrong.tempting_line_ids[0]}"
    assert propose(claude, sql)["decision"] == "engineer"
    lenient = tmp_path / "lenient.toml"
    lenient.write_text(stage.config.read_text().replace('abs_delta_over = "5000"', 'abs_delta_over = "100000"'))
    other = Claude(stage, config=lenient)
    try:
        assert propose(other, sql)["decision"] == "self"
    finally:
        other.close()


def test_an_escalated_proposal_waits_for_the_engineer_and_then_opens(
    stage: Stage, claude: Claude, rep: Browser
) -> None:
    proposal = propose(
        claude, f"UPDATE contracts SET terms = terms || '{{\"q\": 1}}' WHERE id = {CONTRACT.contract_id}"
    )
    claude.call("escalate", dry_run_id=proposal["dry_run_id"], question="Is this right?")
    with pytest.raises(PageRefused):
        rep.confirm(str(proposal["path"]), int(str(proposal["rows"])))
    engineer = stage.browser("engineer")
    assert "Is this right?" in engineer.read(str(proposal["path"]))
    engineer.approve(str(proposal["path"]), "Yes, it is.")
    engineer.close()
    status = claude.call("proposal_status", proposal_id=proposal["id"])
    assert (status["state"], status["comment"], status["answered_by"]) == ("approved", "Yes, it is.", "engineer")
    rep.confirm(str(proposal["path"]), int(str(proposal["rows"])))


def test_a_dry_run_goes_on_after_its_shadow_was_lost(stage: Stage, claude: Claude) -> None:
    """The recorded statements run again on a new shadow, with the ids they had drawn."""
    dry_run = start(claude)
    claude.call(
        "run_statement",
        dry_run_id=dry_run,
        sql="INSERT INTO accounts (name, currency, plan_id) VALUES ('Kept', 'USD', 1)",
        reason="new",
    )
    before = claude.call("show_diff", dry_run_id=dry_run)["diff"]
    with open_sandbox(stage.folder / "data" / "sandbox") as server, psycopg.connect(server.owner_url) as conn:
        sandbox = Sandbox(server.owner_url, SandboxLimits())
        for (shadow_id,) in conn.execute("SELECT id FROM shadowdesk.shadows WHERE state = 'taken'").fetchall():
            sandbox.drop(shadow_id)
    after = claude.call("show_diff", dry_run_id=dry_run)["diff"]
    assert after["rows"][0]["key"] == before["rows"][0]["key"]
    assert after["total_rows"] == before["total_rows"]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("start_dry_run", {"tenant": "1"}),
        ("start_dry_run", {"tenant": "1", "request": ".", "purpose": "x"}),
        ("start_dry_run", {"tenant": "999", "request": "real words", "purpose": "x"}),
        ("run_statement", {"dry_run_id": "dr_nothing", "sql": "SELECT 1", "reason": "x"}),
        ("run_statement", {"sql": 7}),
        ("show_diff", {"dry_run_id": "dr_x", "extra": True}),
        ("propose", {"dry_run_id": None}),
        ("adjust_line_item", {"contract_id": "1; DROP TABLE contracts", "line_item_id": "1", "reason": "x"}),
    ],
)
def test_bad_input_is_a_clear_refusal(claude: Claude, tool: str, arguments: dict[str, object]) -> None:
    with pytest.raises(DemoFailed) as told:
        claude.call(tool, **arguments)
    assert len(str(told.value)) > 20
    assert "Traceback" not in str(told.value)


def test_every_call_has_intent_and_outcome_in_the_trail(stage: Stage, claude: Claude) -> None:
    with pytest.raises(DemoFailed):
        claude.call("show_diff", dry_run_id="dr_audited", extra=True)
    export = stage.folder / "trail.jsonl"
    export.unlink(missing_ok=True)
    arguments = ["--config", str(stage.config), "--person", "engineer"]
    assert stage.command("audit", "export", "-o", str(export), *arguments).returncode == 0
    assert stage.command("audit", "verify", str(export)).returncode == 0
    assert "dr_audited" in export.read_text()
