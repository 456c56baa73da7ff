"""The MCP server over HTTP: who may connect, from where, and that any replica serves anyone."""

import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mcp_server.errors import ConfigurationInvalid
from mcp_server.http import FrontDoor, http_app
from mcp_server.identity import stdio_caller, token_caller
from mcp_server.server import build_server
from mcp_server.settings import Settings
from mcp_server.tokens import PeopleTokens
from tests.acceptance.mcp_desk import TOKENS, MemoryDesk, governor_for, settings_in

pytestmark = pytest.mark.anyio
START = {"tenant": "1", "request": "the signatory is wrong", "purpose": "correct it"}


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def an_app(desk: MemoryDesk, settings: Settings) -> FrontDoor:
    """`/mcp` of one replica, and a page that says so in place of the pages."""
    governor = governor_for(desk, settings)
    server = build_server(
        desk,  # type: ignore[arg-type]
        settings,
        governor,
        token_caller(settings),
        tokens=PeopleTokens(settings),
    )
    pages = Starlette(routes=[Route("/review", lambda request: PlainTextResponse("the pages"))])
    return http_app(settings, server=server, pages=pages)


@contextmanager
def serving(app: FrontDoor) -> Iterator[str]:
    """Runs the app on a free port; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="mcp under test")
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive()


@pytest.fixture
def address(desk: MemoryDesk, settings: Settings) -> Iterator[str]:
    with serving(an_app(desk, settings)) as address:
        yield address


@asynccontextmanager
async def connected(address: str, person: str, mode: Any) -> AsyncIterator[Client]:
    """The real client with that person's token."""
    headers = {"authorization": f"Bearer {TOKENS[person]}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        Client(streamable_http_client(f"{address}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def post(address: str, message: dict[str, Any], **headers: str) -> httpx2.Response:
    """One raw message, as an older client sends it."""
    usual = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    return httpx2.post(
        f"{address}/mcp", json={"jsonrpc": "2.0", "id": 1, **message}, headers=usual | headers, timeout=30
    )


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_token_says_who_calls(address: str, desk: MemoryDesk, mode: Any) -> None:
    async with connected(address, "rita", mode) as rita, connected(address, "ines", mode) as ines:
        tools = [{tool.name for tool in (await one.list_tools()).tools} for one in (rita, ines)]
        await rita.call_tool("start_dry_run", START)
        await ines.call_tool("start_dry_run", START)
    assert tools[0] - tools[1] == {"rename_contract"}
    intents = [event for event in desk.audit.events if event.kind == "intent"]
    assert [(event.person, event.role, event.channel) for event in intents] == [
        ("rita", "rep", "http"),
        ("ines", "intern", "http"),
    ]


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", "Basic cml0YQ==", "Bearer " + "0" * 64])
def test_without_a_known_token_there_is_401_and_nothing_else(
    address: str, desk: MemoryDesk, header: str | None
) -> None:
    answer = post(address, {"method": "tools/list", "params": {}}, **({"authorization": header} if header else {}))
    assert answer.status_code == 401
    assert "rename_contract" not in answer.text
    assert desk.audit.events == []


def test_the_hash_of_a_token_is_not_a_token(address: str, settings: Settings) -> None:
    header = f"Bearer {settings.people['rita'].token_sha256}"
    assert post(address, {"method": "tools/list", "params": {}}, authorization=header).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"), [({"host": "evil.example"}, 421), ({"origin": "https://evil.example"}, 403)]
)
def test_other_names_and_origins_are_turned_away(address: str, headers: dict[str, str], status: int) -> None:
    token = {"authorization": f"Bearer {TOKENS['rita']}"}
    assert post(address, {"method": "tools/list", "params": {}}, **token, **headers).status_code == status
    allowed = {"host": "desk.example", "origin": "https://desk.example"}
    assert post(address, {"method": "tools/list", "params": {}}, **token, **allowed).status_code == 200


def test_a_malformed_call_is_audited(address: str, desk: MemoryDesk) -> None:
    token = {"authorization": f"Bearer {TOKENS['rita']}"}
    answer = post(address, {"method": "tools/call", "params": {"arguments": {"text": "x"}}}, **token)
    body = json.loads(answer.text.partition("data: ")[2] or answer.text)
    assert "error" in body
    assert desk.audit.outcomes() == [("?", "invalid_arguments")]
    assert desk.audit.events[0].person == "rita"
    assert desk.audit.events[0].arguments == {"text": "x"}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_any_replica_continues_a_dry_run(desk: MemoryDesk, settings: Settings, mode: Any) -> None:
    with ExitStack() as stack:
        one, other = (stack.enter_context(serving(an_app(desk, settings))) for _ in range(2))
        async with connected(one, "rita", mode) as client:
            await client.call_tool("start_dry_run", START)
        async with connected(other, "rita", mode) as client:
            step = {"dry_run_id": "dr_000000000001", "sql": "UPDATE t SET x = 1", "reason": "typo"}
            result = await client.call_tool("run_statement", step)
    assert not result.is_error


def test_the_pages_are_beside_mcp_and_ask_no_token(address: str) -> None:
    answer = httpx2.get(f"{address}/review")
    assert (answer.status_code, answer.text) == (200, "the pages")


def test_each_half_can_be_served_alone(desk: MemoryDesk, settings: Settings) -> None:
    pages = Starlette(routes=[Route("/review", lambda request: PlainTextResponse("the pages"))])
    with serving(http_app(settings, server=None, pages=pages)) as address:
        assert httpx2.get(f"{address}/review").status_code == 200
        assert post(address, {"method": "tools/list"}).status_code == 404
    with pytest.raises(ConfigurationInvalid, match="nothing to serve"):
        http_app(settings, server=None, pages=None)


def test_a_server_without_tokens_is_never_put_on_http(desk: MemoryDesk, settings: Settings) -> None:
    server = build_server(desk, settings, governor_for(desk, settings), stdio_caller(settings))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationInvalid, match="without bearer tokens"):
        http_app(settings, server=server, pages=None)
