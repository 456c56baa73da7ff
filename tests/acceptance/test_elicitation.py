"""Elicitation leads to the page and nowhere else: clients that accept for the person, hang, lie, or cannot ask."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psycopg
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ElicitResult, InputRequiredResult

from mcp_server.demo.business import STORIES
from mcp_server.demo.stage import Stage, staged
from mcp_server.http import http_app
from mcp_server.identity import Caller, token_caller
from mcp_server.server import GovernedServer, build_server
from mcp_server.settings import Settings
from mcp_server.tokens import PeopleTokens
from tests.acceptance.mcp_desk import TOKENS, MemoryDesk, governor_for, settings_in
from tests.acceptance.test_mcp_http import post, serving

START = {"tenant": "1", "request": "the signatory is wrong", "purpose": "correct it"}
FORGED: dict[str, Any] = {"opened": True, "confirm": True, "rows": 1, "typed_rows": 1, "digest": "5f" * 32}
URL = "https://desk.example/review/pr_aaaabbbbcccc"


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    given = settings_in(tmp_path)
    return given.model_copy(update={"pages": given.pages.model_copy(update={"elicit": True, "elicit_s": 1})})


def served(desk: MemoryDesk, settings: Settings) -> GovernedServer:
    return build_server(
        desk,  # type: ignore[arg-type]
        settings,
        governor_for(desk, settings),
        lambda client: Caller(name="rita", role="rep", channel="stdio", client=client),
    )


async def proposed(client: Client) -> None:
    await client.call_tool("start_dry_run", START)
    step = {"dry_run_id": "dr_000000000001", "sql": "UPDATE t SET x = 1", "reason": "typo"}
    await client.call_tool("run_statement", step)
    await client.call_tool("propose", {"dry_run_id": "dr_000000000001"})


def decided_nothing(desk: MemoryDesk, answer: CallToolResult) -> None:
    """The proposal waits as before, the link is there, and no verb but reading reached the desk."""
    assert not answer.is_error
    assert answer.structured_content is not None
    assert (answer.structured_content["state"], answer.structured_content["review_url"]) == ("pending", URL)
    assert {verb for verb in desk.calls} <= {"start_dry_run", "run", "propose"}
    assert "confirm" not in {event.tool for event in desk.audit.events}


@pytest.mark.anyio
@pytest.mark.parametrize("action", ["accept", "decline", "cancel"])
async def test_whatever_a_client_answers_the_proposal_waits(
    desk: MemoryDesk, settings: Settings, mode: Any, action: Any
) -> None:
    asked: list[Any] = []

    async def answer(context: Any, params: Any) -> ElicitResult:
        asked.append(params)
        return ElicitResult(action=action, content=FORGED if action == "accept" and params.mode == "form" else None)

    async with Client(served(desk, settings), mode=mode, elicitation_callback=answer) as client:
        await proposed(client)
        decided_nothing(desk, await client.call_tool("open_review", {"proposal_id": "pr_aaaabbbbcccc"}))
    assert [(params.mode, params.url) for params in asked] == [("url", URL)]
    assert "Nothing you answer here confirms anything" in asked[0].message
    assert "token" not in asked[0].url


@pytest.mark.anyio
async def test_a_client_that_cannot_ask_gets_the_link(desk: MemoryDesk, settings: Settings, mode: Any) -> None:
    async with Client(served(desk, settings), mode=mode) as client:
        await proposed(client)
        decided_nothing(desk, await client.call_tool("open_review", {"proposal_id": "pr_aaaabbbbcccc"}))


@pytest.mark.anyio
async def test_nobody_is_asked_unless_it_is_switched_on(desk: MemoryDesk, tmp_path: Path, mode: Any) -> None:
    async def never(context: Any, params: Any) -> ElicitResult:
        raise AssertionError("asked")

    async with Client(served(desk, settings_in(tmp_path)), mode=mode, elicitation_callback=never) as client:
        await proposed(client)
        decided_nothing(desk, await client.call_tool("open_review", {"proposal_id": "pr_aaaabbbbcccc"}))


@pytest.mark.anyio
async def test_an_older_client_that_hangs_is_not_waited_for(desk: MemoryDesk, settings: Settings) -> None:
    async def hang(context: Any, params: Any) -> ElicitResult:
        await anyio.sleep(3600)
        raise AssertionError

    async with Client(served(desk, settings), mode="legacy", elicitation_callback=hang) as client:
        await proposed(client)
        decided_nothing(desk, await client.call_tool("open_review", {"proposal_id": "pr_aaaabbbbcccc"}))


@pytest.mark.anyio
async def test_forged_and_replayed_answers_decide_nothing(desk: MemoryDesk, settings: Settings) -> None:
    async def answer(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept")

    forged = {"review": ElicitResult(action="accept", content=FORGED), "confirm": ElicitResult(action="accept")}
    arguments = {"proposal_id": "pr_aaaabbbbcccc"}
    async with Client(served(desk, settings), elicitation_callback=answer) as client:
        await proposed(client)
        first = await client.session.call_tool("open_review", arguments, allow_input_required=True)
        assert isinstance(first, InputRequiredResult)
        for _ in range(2):
            again = await client.session.call_tool(
                "open_review", arguments, input_responses=forged, request_state=first.request_state
            )
            assert isinstance(again, CallToolResult)
            decided_nothing(desk, again)
        unasked = await client.session.call_tool("open_review", arguments, input_responses=forged)
        assert isinstance(unasked, CallToolResult)
        decided_nothing(desk, unasked)
        with pytest.raises(Exception, match="requestState"):
            await client.session.call_tool("open_review", arguments, input_responses=forged, request_state="forged")
        for tool in ("propose", "proposal_status", "run_statement"):
            await client.session.call_tool(tool, arguments, input_responses=forged, allow_input_required=True)
    assert "confirm" not in {event.tool for event in desk.audit.events}


@pytest.mark.anyio
async def test_an_older_client_over_http_is_not_asked(desk: MemoryDesk, settings: Settings, mode: Any) -> None:
    asked: list[str] = []

    async def answer(context: Any, params: Any) -> ElicitResult:
        asked.append(params.mode)
        return ElicitResult(action="accept")

    server = build_server(
        desk, settings, governor_for(desk, settings), token_caller(settings),  # type: ignore[arg-type]
        tokens=PeopleTokens(settings),
    )  # fmt: skip
    header = {"authorization": f"Bearer {TOKENS['rita']}"}
    with serving(http_app(settings, server=server, pages=None)) as address:
        async with (
            httpx2.AsyncClient(headers=header, timeout=30) as http,
            Client(
                streamable_http_client(f"{address}/mcp", http_client=http), mode=mode, elicitation_callback=answer
            ) as client,
        ):
            await proposed(client)
            decided_nothing(desk, await client.call_tool("open_review", {"proposal_id": "pr_aaaabbbbcccc"}))
    assert asked == ([] if mode == "legacy" else ["url"]), "/mcp keeps no session to ask an older client in"


def test_a_client_that_draws_only_forms_gets_the_link_in_one(desk: MemoryDesk, settings: Settings) -> None:
    server = build_server(
        desk, settings, governor_for(desk, settings), token_caller(settings),  # type: ignore[arg-type]
        tokens=PeopleTokens(settings),
    )  # fmt: skip
    names = "io.modelcontextprotocol/"
    meta = {
        f"{names}protocolVersion": "2026-07-28", f"{names}clientCapabilities": {"elicitation": {"form": {}}},
        f"{names}clientInfo": {"name": "forms only", "version": "1"},
    }  # fmt: skip
    headers = {
        "authorization": f"Bearer {TOKENS['rita']}",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
    }

    def call(address: str, tool: str, arguments: dict[str, Any], **more: Any) -> Any:
        params = {"name": tool, "arguments": arguments, "_meta": meta, **more}
        answer = post(address, {"method": "tools/call", "params": params}, **headers, **{"mcp-name": tool})
        return json.loads(answer.text.partition("data: ")[2].partition("\n")[0] or answer.text)["result"]

    with serving(http_app(settings, server=server, pages=None)) as address:
        call(address, "start_dry_run", START)
        call(address, "run_statement", {"dry_run_id": "dr_000000000001", "sql": "UPDATE t SET x = 1", "reason": "typo"})
        asked = call(address, "open_review", {"proposal_id": "pr_x"})
        assert asked["resultType"] == "input_required"
        question = asked["inputRequests"]["review"]["params"]
        assert question["mode"] == "form" and URL in question["message"]
        answers = {"review": {"action": "accept", "content": FORGED}}
        done = call(
            address, "open_review", {"proposal_id": "pr_x"}, inputResponses=answers, requestState=asked["requestState"]
        )
    assert done["structuredContent"]["state"] == "pending"
    assert "confirm" not in {event.tool for event in desk.audit.events}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("elicitation")) as stage:
        yield stage


@pytest.mark.anyio
async def test_a_host_that_accepts_everything_leaves_production_alone(stage: Stage, mode: Any) -> None:
    import os
    import sys

    async def accept(context: Any, params: Any) -> ElicitResult:
        content = FORGED if params.mode == "form" else None
        return ElicitResult(action="accept", content=content)

    def names() -> list[Any]:
        with psycopg.connect(stage.owner_url) as conn:
            return conn.execute("SELECT id, name FROM accounts ORDER BY id").fetchall()

    before = names()
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "mcp_server", "stdio", "--no-pages", "--config", str(stage.config)],
        env={"SHADOWDESK_PAGES__ELICIT": "true", "HOME": os.environ["HOME"]}, cwd=stage.folder,
    )  # fmt: skip
    async with Client(server, mode=mode, elicitation_callback=accept) as client:
        words = {"tenant": str(STORIES.tenant_id), "request": "please", "purpose": "test"}
        started = (await client.call_tool("start_dry_run", words)).structured_content or {}
        dry_run = started["dry_run"]["id"]
        step = {"dry_run_id": dry_run, "sql": "UPDATE accounts SET name = name || '.'", "reason": "so"}
        await client.call_tool("run_statement", step)
        proposal = (await client.call_tool("propose", {"dry_run_id": dry_run})).structured_content or {}
        for _ in range(3):
            answer = await client.call_tool("open_review", {"proposal_id": proposal["id"]})
            assert (answer.structured_content or {})["state"] == "pending"
            assert "/login" not in json.dumps(answer.structured_content)
    assert names() == before
