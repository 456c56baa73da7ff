"""The MCP App over the protocol: who is told of it, what is served, and that a client which plays it decides nothing."""

import base64
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client import advertise
from mcp.client.streamable_http import streamable_http_client
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from mcp.shared.exceptions import MCPError
from mcp_types import TextResourceContents, Tool

from mcp_server.app.document import document
from mcp_server.app.offering import APP_URI
from mcp_server.http import http_app
from mcp_server.identity import Caller, token_caller
from mcp_server.server import GovernedServer, build_server
from mcp_server.settings import Settings
from mcp_server.tokens import PeopleTokens
from tests.acceptance.mcp_desk import TOKENS, MemoryDesk, governor_for, settings_in
from tests.acceptance.test_mcp_http import serving

ROOT = Path(__file__).parents[2]
APPS = [advertise(EXTENSION_ID, {"mimeTypes": [APP_MIME_TYPE]})]
DRAWN = {"show_diff", "propose", "proposal_status", "open_review", "escalate"}
START = {"tenant": "1", "request": "the signatory is wrong", "purpose": "correct it"}
Served = Callable[[str], GovernedServer]


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
    def build(person: str) -> GovernedServer:
        role = settings.people[person].role
        return build_server(
            desk, settings, governor_for(desk, settings),  # type: ignore[arg-type]
            lambda client: Caller(name=person, role=role, channel="stdio", client=client),
        )  # fmt: skip

    return build


@pytest.fixture
def address(desk: MemoryDesk, settings: Settings) -> Iterator[str]:
    server = build_server(
        desk, settings, governor_for(desk, settings), token_caller(settings),  # type: ignore[arg-type]
        tokens=PeopleTokens(settings),
    )  # fmt: skip
    with serving(http_app(settings, server=server, pages=None)) as address:
        yield address


def announced(tools: list[Tool]) -> set[str]:
    """Tools that name the app; it is for the model's calls alone and stands in `_meta` as the specification has it."""
    told = {tool.name: tool.meta for tool in tools if tool.meta}
    assert all(meta == {"ui": {"resourceUri": APP_URI, "visibility": ["model"]}} for meta in told.values())
    return set(told)


async def app_of(client: Client) -> TextResourceContents:
    read = await client.read_resource(APP_URI)
    (contents,) = read.contents
    assert isinstance(contents, TextResourceContents)
    return contents


@pytest.mark.anyio
async def test_a_host_with_apps_is_told_and_reads_one_file_without_network(
    served: Served, desk: MemoryDesk, mode: Any
) -> None:
    async with Client(served("rita"), mode=mode, extensions=APPS) as client:
        assert announced((await client.list_tools()).tools) == DRAWN
        (resource,) = (await client.list_resources()).resources
        contents = await app_of(client)
    assert (resource.uri, resource.mime_type) == (APP_URI, APP_MIME_TYPE)
    assert (contents.uri, contents.mime_type) == (APP_URI, APP_MIME_TYPE)
    closed: dict[str, Any] = {f"{kind}Domains": [] for kind in ("connect", "resource", "frame", "baseUri")}
    assert contents.meta == resource.meta == {"ui": {"csp": closed, "prefersBorder": True}}
    assert contents.text == document("https://desk.example")
    assert desk.audit.outcomes() == [("resource:diff_view", "ok")]
    assert [event.kind for event in desk.audit.events] == ["intent", "outcome"]
    assert desk.audit.events[0].person == "rita"


@pytest.mark.anyio
async def test_a_host_without_apps_gets_the_list_it_always_got(served: Served, mode: Any) -> None:
    async with Client(served("rita"), mode=mode) as plain, Client(served("rita"), mode=mode, extensions=APPS) as host:
        without, told = (await plain.list_tools()).tools, (await host.list_tools()).tools
    assert announced(without) == set()
    assert without == [tool.model_copy(update={"meta": None}) for tool in told]


@pytest.mark.anyio
async def test_results_are_the_same_with_and_without_apps(served: Served, desk: MemoryDesk, mode: Any) -> None:
    async def told(extensions: Any) -> list[Any]:
        desk.views.clear()
        async with Client(served("rita"), mode=mode, extensions=extensions) as client:
            await proposed(client)
            results = [await client.call_tool("show_diff", {"dry_run_id": "dr_000000000001"}), *await looked(client)]
        assert all(result.meta is None or "ui" not in result.meta for result in results)
        texts = [(result.content[0].text, result.structured_content) for result in results]  # type: ignore[union-attr]
        return [re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+", "T", json.dumps(text)) for text in texts]

    assert await told(APPS) == await told(None)


@pytest.mark.anyio
async def test_who_may_not_read_diffs_is_told_of_no_app_and_reads_none(
    served: Served, desk: MemoryDesk, settings: Settings, mode: Any
) -> None:
    proposes = settings.roles["intern"].model_copy(update={"permissions": ("dry_run.propose", "dry_run.list")})
    settings.roles["intern"] = proposes
    async with Client(served("ines"), mode=mode, extensions=APPS) as client:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} >= {"propose", "list_dry_runs"}
        assert announced(tools) == set()
        assert (await client.list_resources()).resources == []
        with pytest.raises(MCPError):
            await client.read_resource(APP_URI)
    assert desk.audit.outcomes() == [("resource:diff_view", "denied")]


@pytest.mark.anyio
async def test_without_the_audit_trail_the_app_is_not_read(served: Served, desk: MemoryDesk, mode: Any) -> None:
    desk.audit.failing = "intent"
    async with Client(served("rita"), mode=mode, extensions=APPS) as client:
        with pytest.raises(MCPError, match="audit trail cannot be written"):
            await client.read_resource(APP_URI)


async def proposed(client: Client) -> None:
    await client.call_tool("start_dry_run", START)
    step = {"dry_run_id": "dr_000000000001", "sql": "UPDATE t SET x = 1", "reason": "typo"}
    await client.call_tool("run_statement", step)
    await client.call_tool("propose", {"dry_run_id": "dr_000000000001"})


async def looked(client: Client) -> list[Any]:
    return [
        await client.call_tool(tool, {"proposal_id": "pr_aaaabbbbcccc"}) for tool in ("proposal_status", "open_review")
    ]


@pytest.mark.anyio
async def test_a_client_that_plays_the_app_confirms_nothing(served: Served, desk: MemoryDesk, mode: Any) -> None:
    forged = {"confirm": True, "rows": 1, "typed_rows": 1, "digest": "5f" * 32, "proposal_id": "pr_aaaabbbbcccc"}
    async with Client(served("rita"), mode=mode, extensions=APPS) as client:
        await proposed(client)
        before = list(desk.calls)
        for name in ("confirm", "confirm_proposal", "approve", "replay", "ui/open-link", "resource:diff_view"):
            answer = await client.call_tool(name, forged, meta={"ui": {"visibility": ["app"], "confirmed": True}})
            assert answer.is_error, name
        for name in sorted(DRAWN):
            refused = await client.call_tool(name, forged, meta={"ui": {"confirmed": True}})
            assert refused.is_error, "what a tool does not know is refused"
        assert desk.calls == before
        states = [(result.structured_content or {})["state"] for result in await looked(client)]
    assert states == ["pending", "pending"]
    assert {event.tool for event in desk.audit.events if event.outcome == "ok"} <= {
        "start_dry_run", "run_statement", "propose", "proposal_status", "open_review",
    }  # fmt: skip


@pytest.mark.anyio
async def test_messages_of_the_frame_are_no_methods_of_the_server(served: Served, desk: MemoryDesk) -> None:
    """A host that hands an app's own messages on to the server gets an error for each."""
    from mcp_types import Request

    class Forged(Request[dict[str, Any], str]):
        params: dict[str, Any]

    async with Client(served("rita"), mode="legacy", extensions=APPS) as client:
        for method in ("ui/open-link", "ui/message", "ui/initialize", "ui/update-model-context", "ui/confirm"):
            with pytest.raises(MCPError):
                await client.session.send_request(  # type: ignore[call-overload]
                    Forged(method=method, params={"url": "https://desk.example/review/pr_aaaabbbbcccc"}), dict
                )
    assert desk.calls == []


@pytest.mark.anyio
async def test_over_http_an_older_host_is_told_too(address: str, desk: MemoryDesk, mode: Any) -> None:
    """`/mcp` keeps no session: what an older client said at its start is not known later, so it is told anyway."""
    header = {"authorization": f"Bearer {TOKENS['rita']}"}

    async def told(extensions: Any) -> set[str]:
        async with (
            httpx2.AsyncClient(headers=header, timeout=30) as http,
            Client(streamable_http_client(f"{address}/mcp", http_client=http), mode=mode, extensions=extensions) as c,
        ):
            assert (await app_of(c)).mime_type == APP_MIME_TYPE
            return announced((await c.list_tools()).tools)

    assert await told(APPS) == DRAWN
    assert await told(None) == (DRAWN if mode == "legacy" else set())
    assert desk.audit.outcomes() == [("resource:diff_view", "ok")] * 2


@pytest.mark.anyio
async def test_on_stdio_as_a_host_starts_it(tmp_path: Path, mode: Any) -> None:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "tests.acceptance.mcp_stdio_server", str(tmp_path)], cwd=str(ROOT)
    )
    async with Client(server, mode=mode, extensions=APPS) as client:
        assert announced((await client.list_tools()).tools) == DRAWN
        contents = await app_of(client)
    assert contents.mime_type == APP_MIME_TYPE
    assert 'content="https://desk.example/review/"' in contents.text


def test_the_file_holds_all_it_needs_and_nothing_that_acts_on_markup() -> None:
    text = document("https://desk.example/support/")
    assert '<meta name="shadowdesk-review" content="https://desk.example/support/review/">' in text
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    for part in (script, style):
        assert base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() in text.partition("</title>")[0]
    assert "unsafe" not in text
    assert not re.search(r"src=|href=|url\(|@import|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
    assert not re.search(
        r"fetch|XMLHttp|WebSocket|tools/call|ui/message|update-model-context|localStorage|cookie", text
    )


def test_an_address_cannot_leave_its_attribute() -> None:
    assert 'content="https://desk.example/&quot;&gt;&lt;script&gt;/review/"' in document(
        'https://desk.example/"><script>'
    )
