"""An engineer's tool through the real client: rehearsed whole or not at all, and never a write without a rehearsal."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp_types import CallToolResult

from mcp_server.identity import stdio_caller
from mcp_server.server import build_server
from tests.acceptance.mcp_desk import SECRET, MemoryDesk, governor_for, settings_in

pytestmark = pytest.mark.anyio
CALL = {"contract_id": "17", "title": "better", "reason": "the rep asked"}
REQUEST = {"request": "please rename contract 17"}
FIRST = "dr_000000000001"


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()


@pytest.fixture(params=["auto", "legacy"])
async def client(request: pytest.FixtureRequest, desk: MemoryDesk, tmp_path: Path) -> AsyncIterator[Client]:
    settings = settings_in(tmp_path)
    server = build_server(desk, settings, governor_for(desk, settings), stdio_caller(settings))  # type: ignore[arg-type]
    async with Client(server, mode=request.param) as client:
        yield client


def text(result: CallToolResult) -> str:
    return getattr(result.content[0], "text", "")


def content(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, text(result)
    assert result.structured_content is not None
    return result.structured_content


async def test_a_call_starts_its_own_dry_run_and_shows_what_changed(client: Client, desk: MemoryDesk) -> None:
    made = content(await client.call_tool("rename_contract", {**CALL, **REQUEST}))
    assert made["dry_run_id"] == FIRST
    assert made["result"] == {"old": "17", "new": "better"}
    assert [step["step"] for step in made["steps"]] == [1, 2]
    assert made["steps"][0]["diff"]["total_rows"] == 1
    view = desk.views[FIRST]
    assert (view.tenant_key, view.request) == ("1", REQUEST["request"])
    assert [step.reason for step in desk.steps[FIRST]] == ["the rep asked", "they follow"]
    assert {step.tool for step in desk.steps[FIRST]} == {"rename_contract"}
    outcome = desk.audit.events[-1]
    assert (outcome.outcome, outcome.dry_run_id, outcome.request) == ("ok", FIRST, REQUEST["request"])
    assert [summary["total_rows"] for summary in outcome.diff] == [1, 1]


@pytest.mark.parametrize("request_", [{}, {"request": "."}, {"request": " "}])
async def test_a_call_that_must_start_a_dry_run_needs_the_reps_words(
    client: Client, desk: MemoryDesk, request_: dict[str, str]
) -> None:
    result = await client.call_tool("rename_contract", {**CALL, **request_})
    assert "The request says nothing." in text(result)
    assert desk.calls == []


async def test_a_call_continues_an_open_dry_run(client: Client, desk: MemoryDesk) -> None:
    await client.call_tool("rename_contract", {**CALL, **REQUEST})
    made = content(await client.call_tool("rename_contract", {**CALL, "title": "best", "dry_run_id": FIRST}))
    assert [step["step"] for step in made["steps"]] == [3, 4]
    assert desk.calls.count("start_dry_run") == 1
    assert desk.audit.events[-1].request == REQUEST["request"]


async def test_an_unknown_contract_starts_nothing(client: Client, desk: MemoryDesk) -> None:
    result = await client.call_tool("rename_contract", {**CALL, **REQUEST, "contract_id": "18"})
    assert "No tenant has that contract." in text(result)
    assert desk.views == {}


async def test_a_rule_that_refuses_half_way_takes_back_the_calls_own_steps(client: Client, desk: MemoryDesk) -> None:
    await client.call_tool("rename_contract", {**CALL, **REQUEST})
    result = await client.call_tool("rename_contract", {**CALL, "title": "forbidden", "dry_run_id": FIRST})
    assert text(result).startswith("This title is not allowed. Nothing of this call was kept.")
    assert [step.step for step in desk.steps[FIRST]] == [1, 2]
    assert desk.audit.outcomes()[-1] == ("rename_contract", "refused:EditRefused")


async def test_a_tool_that_crashes_half_way_leaves_no_step_and_no_text(client: Client, desk: MemoryDesk) -> None:
    await client.call_tool("rename_contract", {**CALL, **REQUEST})
    result = await client.call_tool("rename_contract", {**CALL, "title": "crash", "dry_run_id": FIRST})
    assert result.is_error
    assert SECRET not in text(result)
    assert [step.step for step in desk.steps[FIRST]] == [1, 2]


async def test_a_refused_call_discards_the_dry_run_it_started(client: Client, desk: MemoryDesk) -> None:
    await client.call_tool("rename_contract", {**CALL, **REQUEST, "title": "forbidden"})
    assert desk.views == {}


@pytest.mark.parametrize(
    "changed",
    [{"title": "other"}, {"reason": "another"}, {"dry_run_id": None}],
    ids=["other arguments", "other reason", "no dry run"],
)
async def test_a_live_call_without_the_same_rehearsal_is_refused_and_nothing_runs(
    client: Client, desk: MemoryDesk, changed: dict[str, Any]
) -> None:
    await client.call_tool("rename_contract", {**CALL, **REQUEST})
    desk.calls.clear()
    live = {**CALL, "dry_run": False, "dry_run_id": FIRST, **changed}
    result = await client.call_tool("rename_contract", live)
    assert "Call it with dry_run=true" in text(result)
    assert desk.calls == []
    assert desk.audit.outcomes()[-1] == ("rename_contract", "refused:DryRunFirst")


async def test_a_live_call_after_another_step_is_refused(client: Client, desk: MemoryDesk) -> None:
    await client.call_tool("rename_contract", {**CALL, **REQUEST})
    await client.call_tool("run_statement", {"dry_run_id": FIRST, "sql": "UPDATE", "reason": "one more"})
    result = await client.call_tool("rename_contract", {**CALL, "dry_run": False, "dry_run_id": FIRST})
    assert desk.audit.outcomes()[-1] == ("rename_contract", "refused:DryRunFirst")
    assert "propose" not in desk.calls
    assert result.is_error


async def test_a_live_call_proposes_what_was_rehearsed_and_runs_nothing(client: Client, desk: MemoryDesk) -> None:
    await client.call_tool("rename_contract", {**CALL, **REQUEST})
    desk.calls.clear()
    made = content(await client.call_tool("rename_contract", {**CALL, "dry_run": False, "dry_run_id": FIRST}))
    assert made["proposal"]["review_url"] == "https://desk.example/review/pr_aaaabbbbcccc"
    assert (made["result"], made["steps"]) == (None, [])
    assert desk.calls == ["propose"]
    assert desk.audit.events[-1].digest == "5f" * 32


async def test_undo_does_not_cut_a_call_in_two(client: Client, desk: MemoryDesk) -> None:
    await client.call_tool("rename_contract", {**CALL, **REQUEST})
    cut = await client.call_tool("undo_statement", {"dry_run_id": FIRST, "to_step": 1})
    assert "Steps 1 and 2 are one call of rename_contract." in text(cut)
    assert len(desk.steps[FIRST]) == 2
    content(await client.call_tool("undo_statement", {"dry_run_id": FIRST, "to_step": 0}))
    assert desk.steps[FIRST] == []
