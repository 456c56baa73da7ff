"""The bridge between a client on standard input and output and a server elsewhere, with and without the server."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp.types import TextContent

from mcp_server.bridge import BridgeRefused, address_of, token_of
from mcp_server.bundle import lay_out
from mcp_server.http import FrontDoor
from mcp_server.settings import Settings
from tests.acceptance.mcp_desk import TOKENS, MemoryDesk, settings_in
from tests.acceptance.test_mcp_http import START, an_app

ERAS = ("auto", "legacy")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@contextmanager
def serving(app: FrontDoor | Any, port: int, lifespan: Any = "on") -> Iterator[None]:
    """The server on a port of our choice, so that it can go away and come back."""
    listener = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, lifespan=lifespan))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server under test")
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive()


@asynccontextmanager
async def bridged(
    port: int, mode: Any, token: str = TOKENS["rita"], command: list[str] | None = None
) -> AsyncIterator[Client]:
    environment = {
        "SHADOWDESK_URL": f"http://127.0.0.1:{port}", "SHADOWDESK_TOKEN": token, "HOME": os.environ["HOME"],
    }  # fmt: skip
    program = command or [sys.executable, "-m", "mcp_server", "bridge"]
    server = StdioServerParameters(command=program[0], args=program[1:], env=environment)
    async with Client(server, mode=mode) as client:
        yield client


async def text_of(client: Client, tool: str, arguments: dict[str, Any]) -> tuple[bool, str]:
    answer = await client.call_tool(tool, arguments)
    assert isinstance(answer.content[0], TextContent)
    return not answer.is_error, answer.content[0].text


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ERAS)
async def test_everything_goes_through_as_the_person_of_the_token(
    desk: MemoryDesk, settings: Settings, port: int, mode: str
) -> None:
    told: list[str | None] = []

    async def listen(done: float, total: float | None, message: str | None) -> None:
        told.append(message)

    with serving(an_app(desk, settings), port):
        async with bridged(port, mode) as client:
            assert "rename_contract" in {tool.name for tool in (await client.list_tools()).tools}
            started = await client.call_tool("start_dry_run", START, progress_callback=listen)
            assert started.structured_content is not None
            dry_run = started.structured_content["dry_run"]["id"]
            good, why = await text_of(client, "run_statement", {"dry_run_id": dry_run, "sql": "broken", "reason": "so"})
            assert not good and "23505" in why
            found = await client.read_resource(f"dryrun://{dry_run}/diff")
            assert "contracts" in found.model_dump_json()
            assert (await client.list_prompts()).prompts
    assert "Taking a shadow" in told
    assert {(event.person, event.channel) for event in desk.audit.events} == {("rita", "http")}


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ERAS)
async def test_a_server_that_goes_away_is_told_and_one_that_comes_back_is_used(
    desk: MemoryDesk, settings: Settings, port: int, mode: str
) -> None:
    with serving(an_app(desk, settings), port):
        client = await (context := bridged(port, mode)).__aenter__()
        assert (await text_of(client, "list_dry_runs", {}))[0]
    try:
        for _ in range(2):
            good, why = await text_of(client, "list_dry_runs", {})
            assert not good
            assert "cannot be reached. Nothing ran. Check the network or the VPN" in why
        with pytest.raises(MCPError, match="Check the network or the VPN"):
            await client.read_resource("dryrun://dr_000000000001/diff")
        with serving(an_app(desk, settings), port):
            assert (await text_of(client, "list_dry_runs", {}))[0]
    finally:
        await context.__aexit__(None, None, None)


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ERAS)
async def test_a_client_that_begins_before_the_server_waits_for_it(
    desk: MemoryDesk, settings: Settings, port: int, mode: str
) -> None:
    app, ready = an_app(desk, settings), threading.Event()

    def later() -> None:
        ready.wait(3)
        with serving(app, port):
            done.wait(60)

    done = threading.Event()
    thread = threading.Thread(target=later, name="server that is late")
    thread.start()
    try:
        async with bridged(port, mode) as client:
            assert (await text_of(client, "list_dry_runs", {}))[0]
    finally:
        done.set()
        thread.join(timeout=30)


def one_line(port: int, message: dict[str, Any]) -> dict[str, Any]:
    """What the bridge answers to one message of a client that then closes its input when it was answered."""
    environment = {**os.environ, "SHADOWDESK_URL": f"http://127.0.0.1:{port}", "SHADOWDESK_TOKEN": "wrong"}
    command = [sys.executable, "-m", "mcp_server", "bridge"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 7, **message}) + "\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(process.stdout.readline())
            process.stdin.close()
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
    return answer


CALL = {"method": "tools/call", "params": {"name": "list_dry_runs", "arguments": {}}}


def test_a_token_that_is_not_good_is_told_in_words(desk: MemoryDesk, settings: Settings, port: int) -> None:
    with serving(an_app(desk, settings), port):
        answer = one_line(port, CALL)
    assert answer["id"] == 7
    assert answer["result"]["isError"] is True
    assert "does not accept your personal token" in answer["result"]["content"][0]["text"]
    assert "wrong" not in json.dumps(answer)
    assert desk.audit.events == []


@pytest.mark.parametrize(("status", "words"), [(502, "not ready (502)"), (404, "is not ShadowDesk"), (302, "")])
def test_a_proxy_in_between_is_told_in_words(port: int, status: int, words: str) -> None:
    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/html"), (b"location", b"https://login.example/?next=x")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"<html>secret page</html>"})

    with serving(proxy, port, lifespan="off"):
        answer = one_line(port, CALL)
    assert words in json.dumps(answer)
    assert "secret page" not in json.dumps(answer)


def test_a_connection_that_breaks_off_is_told_in_words(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port))

    def half() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.sendall(head + b"10\r\nevent: message\nd\r\n")
        connection.close()

    thread = threading.Thread(target=half, name="server that breaks off")
    thread.start()
    try:
        answer = one_line(port, CALL)
    finally:
        thread.join(timeout=30)
        listener.close()
    assert "was lost before it answered. Production was not touched" in answer["result"]["content"][0]["text"]


@pytest.mark.parametrize(
    "url",
    ["", "desk.example", "http://desk.example", "ftp://desk.example", "https://u:p@desk.example", "https://x/?a=b"],
)
def test_an_address_that_would_give_the_token_away_is_refused(url: str) -> None:
    with pytest.raises(BridgeRefused):
        address_of({"SHADOWDESK_URL": url})


def test_addresses_and_tokens_that_are_taken() -> None:
    assert address_of({"SHADOWDESK_URL": "https://desk.example/"}) == "https://desk.example/mcp"
    assert address_of({"SHADOWDESK_URL": "https://x.example/desk/mcp"}) == "https://x.example/desk/mcp"
    assert token_of({"SHADOWDESK_TOKEN": " sdp_x\n"}) == "sdp_x"
    for bad in ({}, {"SHADOWDESK_TOKEN": " "}, {"SHADOWDESK_TOKEN": "a\nb"}, {"SHADOWDESK_TOKEN": "ä"}):
        with pytest.raises(BridgeRefused):
            token_of(bad)


def test_the_bridge_refuses_to_hold_the_personal_key(port: int) -> None:
    environment = {
        **os.environ,
        "SHADOWDESK_URL": f"http://127.0.0.1:{port}",
        "SHADOWDESK_TOKEN": "x",
        "SHADOWDESK_KEY": "k",
    }
    done = subprocess.run(
        [sys.executable, "-m", "mcp_server", "bridge"],
        env=environment,
        input="",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "SHADOWDESK_KEY" in done.stderr


@pytest.mark.anyio
async def test_the_bundle_is_the_whole_program(desk: MemoryDesk, settings: Settings, port: int, tmp_path: Path) -> None:
    lay_out(tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["manifest_version"] == "0.4"
    assert manifest["server"]["type"] == "uv"
    assert manifest["user_config"]["token"]["sensitive"] is True
    assert set(manifest["server"]["mcp_config"]["env"]) == {"SHADOWDESK_URL", "SHADOWDESK_TOKEN"}
    entry = tmp_path / "bundle" / manifest["server"]["entry_point"]
    # isolated: nothing of the working folder, so nothing of ours but the bundle's own file
    command = [sys.executable, "-I", str(entry)]
    assert "mcp_server" not in entry.read_text().replace("mcp.server", "")
    with serving(an_app(desk, settings), port):
        async with bridged(port, "auto", command=command) as client:
            assert (await text_of(client, "list_dry_runs", {}))[0]
