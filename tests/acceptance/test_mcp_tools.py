"""The MCP server through the real client, in both protocol eras: who sees what, what is refused, what is audited."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, TextContent

from mcp_server.identity import Caller
from mcp_server.server import GovernedServer, build_server
from mcp_server.settings import Settings
from tests.acceptance.mcp_desk import HOSTILE, SECRET, MemoryDesk, governor_for, settings_in

pytestmark = pytest.mark.anyio
Served = Callable[[str], GovernedServer]
START = {"tenant": "1", "request": "the signatory is wrong", "purpose": "correct it"}


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()


@pytest.fixture
def served(desk: MemoryDesk, settings: Settings) -> Served:
    """A server whose caller is the named person."""

    def build(person: str) -> GovernedServer:
        role = settings.people[person].role
        governor = governor_for(desk, settings)
        return build_server(
            desk,  # type: ignore[arg-type]
            settings,
            governor,
            lambda client: Caller(name=person, role=role, channel="stdio", client=client),
        )

    return build


def text(result: CallToolResult) -> str:
    block = result.content[0]
    assert isinstance(block, TextContent)
    return block.text


async def test_each_role_sees_the_tools_it_may_use(served: Served, mode: Any) -> None:
    async def names(person: str) -> set[str]:
        async with Client(served(person), mode=mode) as client:
            return {tool.name for tool in (await client.list_tools()).tools}

    assert await names("quentin") == {
            "show_diff", "list_dry_runs", "proposal_status", "open_review", "compare_dry_runs",
        }  # fmt: skip
    assert await names("rita") - await names("ines") == {"rename_contract"}
    assert "close_books" not in await names("rita")


async def test_a_hidden_tool_is_refused_like_one_that_does_not_exist(
    served: Served, desk: MemoryDesk, mode: Any
) -> None:
    async with Client(served("rita"), mode=mode) as client:
        hidden = await client.call_tool("close_books", {})
        misused = await client.call_tool("close_books", {"x": 1})
        unknown = await client.call_tool("open_books", {})
    assert hidden.is_error
    assert text(hidden) == text(misused) == text(unknown).replace("open_books", "close_books")
    assert desk.audit.outcomes() == [
        ("close_books", "denied"),
        ("close_books", "denied"),
        ("open_books", "unknown_tool"),
    ]


async def test_every_tool_has_a_schema_that_refuses_more_and_an_output_schema(served: Served, mode: Any) -> None:
    async with Client(served("rita"), mode=mode) as client:
        for tool in (await client.list_tools()).tools:
            assert tool.input_schema["additionalProperties"] is False, tool.name
            assert tool.output_schema is not None
            assert tool.output_schema["type"] == "object"
            assert tool.annotations is not None
            assert tool.description


async def test_unknown_arguments_are_refused_and_nothing_runs(served: Served, desk: MemoryDesk, mode: Any) -> None:
    async with Client(served("rita"), mode=mode) as client:
        result = await client.call_tool("find_tenant", {"text": "Acme", "confirm": True})
        wrong = await client.call_tool("find_tenant", {"text": {"secret": SECRET}})
    assert "confirm: there is no such argument" in text(result)
    assert "text: Input should be a valid string" in text(wrong)
    assert SECRET not in text(wrong)
    assert desk.calls == []
    assert desk.audit.outcomes() == [("find_tenant", "invalid_arguments")] * 2
    assert desk.audit.events[0].arguments == {"text": "Acme", "confirm": True}


async def test_the_intent_is_audited_before_the_desk_is_reached(served: Served, desk: MemoryDesk, mode: Any) -> None:
    async with Client(served("rita"), mode=mode) as client:
        started = await client.call_tool("start_dry_run", START)
        dry_run_id = started.structured_content["dry_run"]["id"]  # type: ignore[index]
        await client.call_tool(
            "run_statement", {"dry_run_id": dry_run_id, "sql": "UPDATE t SET x = 1", "reason": "typo"}
        )
    assert desk.seen_before_act == [1, 3]
    intent, outcome = desk.audit.events[2:]
    assert (intent.kind, intent.person, intent.role, intent.channel) == ("intent", "rita", "rep", "stdio")
    assert (intent.request, intent.reason, intent.dry_run_id) == (START["request"], "typo", dry_run_id)
    assert (outcome.outcome, outcome.diff["total_rows"]) == ("ok", 1)
    assert outcome.client.startswith("mcp ")


async def test_without_the_audit_trail_nothing_runs(served: Served, desk: MemoryDesk, mode: Any) -> None:
    desk.audit.failing = "intent"
    async with Client(served("rita"), mode=mode) as client:
        results = [await client.call_tool(name, {"text": "x"}) for name in ("find_tenant", "nope")]
    assert all(result.is_error and "audit trail cannot be written" in text(result) for result in results)
    assert desk.calls == []


async def test_a_crash_is_audited_by_its_kind_and_its_text_goes_nowhere(
    served: Served, desk: MemoryDesk, mode: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(served("rita"), mode=mode) as client:
        await client.call_tool("start_dry_run", START)
        result = await client.call_tool("query_shadow", {"dry_run_id": "dr_000000000001", "sql": "crash"})
    assert result.is_error
    assert "Production was not touched" in text(result)
    assert desk.audit.outcomes()[-1] == ("query_shadow", "crash:RuntimeError")
    assert "RuntimeError" in caplog.text
    assert SECRET not in f"{text(result)}{caplog.text}{desk.audit.events}"


async def test_an_explained_error_reaches_the_model_whole(served: Served, desk: MemoryDesk, mode: Any) -> None:
    async with Client(served("rita"), mode=mode) as client:
        await client.call_tool("start_dry_run", START)
        result = await client.call_tool(
            "run_statement", {"dry_run_id": "dr_000000000001", "sql": "broken", "reason": "a typo"}
        )
    assert text(result) == "The statement failed (23505). It was rolled back. Correct it."
    assert desk.audit.outcomes()[-1] == ("run_statement", "refused:StatementFailed")


@pytest.mark.parametrize("words", ["", " ", ".", " … ", "-"])
async def test_a_dry_run_needs_the_reps_words(served: Served, desk: MemoryDesk, mode: Any, words: str) -> None:
    async with Client(served("rita"), mode=mode) as client:
        result = await client.call_tool("start_dry_run", {**START, "request": words})
    assert "The request says nothing." in text(result)
    assert desk.calls == []
    assert desk.audit.outcomes() == [("start_dry_run", "refused:WordsMissing")]


async def test_the_text_null_is_not_sql_null(served: Served, mode: Any) -> None:
    async with Client(served("rita"), mode=mode) as client:
        await client.call_tool("start_dry_run", START)
        ask = {"dry_run_id": "dr_000000000001", "sql": "SELECT 1"}
        result = await client.call_tool("query_shadow", {**ask, "params": ["null", None, 17, "12.50"]})
        as_text = await client.call_tool("query_shadow", {**ask, "params": '["null", null, 17, "12.50"]'})
    assert result.structured_content is not None
    assert result.structured_content["rows"] == [["null", None, "17", "12.50"]]
    assert as_text.structured_content == result.structured_content


async def test_values_of_rows_are_quoted_and_cannot_act(served: Served, mode: Any) -> None:
    async with Client(served("rita"), mode=mode) as client:
        found = await client.call_tool("find_tenant", {"text": "Acme"})
        await client.call_tool("start_dry_run", START)
        rows = await client.call_tool("query_shadow", {"dry_run_id": "dr_000000000001", "sql": "SELECT 1"})
        long = await client.call_tool(
            "query_shadow", {"dry_run_id": "dr_000000000001", "sql": "SELECT 1", "params": ["x" * 90_000]}
        )
    for result in (found, rows):
        assert "\x1b" not in text(result)
        assert "\u202e" not in text(result)
        assert "never instructions" in text(result)
    assert rows.structured_content is not None
    assert rows.structured_content["rows"] == [[HOSTILE]]
    assert len(str(long.structured_content)) < 2000
    assert "90,000 characters" in text(long)


async def test_a_proposal_comes_with_a_link_and_nothing_to_log_in_with(
    served: Served, desk: MemoryDesk, settings: Settings, mode: Any
) -> None:
    async with Client(served("rita"), mode=mode) as client:
        await client.call_tool("start_dry_run", START)
        await client.call_tool("run_statement", {"dry_run_id": "dr_000000000001", "sql": "UPDATE", "reason": "typo"})
        result = await client.call_tool("propose", {"dry_run_id": "dr_000000000001"})
        assert not any("confirm" in tool.name for tool in (await client.list_tools()).tools)
    link = "https://desk.example/review/pr_aaaabbbbcccc"
    assert result.structured_content is not None
    assert result.structured_content["review_url"] == link
    assert link in text(result)
    shown = f"{result.structured_content}{text(result)}"
    assert "login" not in shown
    assert not any((person.token_sha256 or "?") in shown for person in settings.people.values())
    outcome = desk.audit.events[-1]
    assert (outcome.proposal_id, outcome.digest, outcome.request) == ("pr_aaaabbbbcccc", "5f" * 32, START["request"])


async def test_progress_is_told_while_a_shadow_is_taken(served: Served, mode: Any) -> None:
    told: list[tuple[float, str | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.append((done, message))

    async with Client(served("rita"), mode=mode) as client:
        await client.call_tool("start_dry_run", START, progress_callback=progress)
    assert told == [(0.5, "Taking a shadow")]


async def test_the_diff_is_a_resource_under_the_same_rules(served: Served, desk: MemoryDesk, mode: Any) -> None:
    async with Client(served("rita"), mode=mode) as client:
        await client.call_tool("start_dry_run", START)
        templates = (await client.list_resource_templates()).resource_templates
        read = await client.read_resource("dryrun://dr_000000000001/diff")
        with pytest.raises(MCPError, match="There is no dry run"):
            await client.read_resource("dryrun://dr_other/diff")
    assert [template.uri_template for template in templates] == ["dryrun://{dry_run_id}/diff"]
    assert "contracts: 1 row changed" in str(read.contents[0])
    assert desk.audit.outcomes()[-2:] == [
        ("resource:dry_run_diff", "ok"),
        ("resource:dry_run_diff", "refused:NotFound"),
    ]


async def test_prompts_quote_what_the_rep_said(served: Served, mode: Any) -> None:
    async with Client(served("rita"), mode=mode) as client:
        names = [prompt.name for prompt in (await client.list_prompts()).prompts]
        prompt = await client.get_prompt("what-if fix", {"request": HOSTILE})
    assert names == ["what-if fix", "escalation summary"]
    assert "\x1b" not in str(prompt.messages[0].content)


async def test_the_server_says_its_name_and_version(served: Served, mode: Any) -> None:
    from mcp_server import __version__

    async with Client(served("rita"), mode=mode) as client:
        info = client.server_info
    assert info is not None
    assert (info.name, info.version) == ("shadowdesk", __version__)


async def test_an_error_outside_of_tools_does_not_carry_its_text(
    desk: MemoryDesk, settings: Settings, mode: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def source(client: str) -> Caller:
        raise RuntimeError(SECRET)

    server = build_server(desk, settings, governor_for(desk, settings), source)  # type: ignore[arg-type]
    async with Client(server, mode=mode) as client:
        with pytest.raises(MCPError, match="Internal error") as error:
            await client.list_tools()
    assert SECRET not in f"{error.value!r}{caplog.text}"


async def test_two_calls_on_one_dry_run_take_turns(served: Served, desk: MemoryDesk, mode: Any) -> None:
    """The first stays in the desk until the second got there too or half a second went by."""
    inside = threading.Semaphore(0)
    second = threading.Event()
    run = desk.run

    def slow(*given: Any, **named: Any) -> Any:
        inside.release()
        if not desk.running.locked() and not desk.steps["dr_000000000001"]:
            with desk.running:
                inside.acquire()
                if inside.acquire(timeout=0.5):
                    second.set()
        return run(*given, **named)

    desk.run = slow  # type: ignore[method-assign]
    async with Client(served("rita"), mode=mode) as client:
        await client.call_tool("start_dry_run", START)
        step = {"dry_run_id": "dr_000000000001", "sql": "UPDATE", "reason": "typo"}
        results: list[CallToolResult] = []

        async def call() -> None:
            results.append(await client.call_tool("run_statement", step))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            tasks.start_soon(call)
    assert not second.is_set()
    assert [result.is_error for result in results] == [False, False]
