"""The same desk over streamable HTTP: bearer tokens, both protocol eras, no sessions; and stdio in the older era."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from mcp_server.demo.business import STORIES
from mcp_server.demo.stage import Stage, staged

ERAS = ("auto", "legacy")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("http")) as stage:
        yield stage


@pytest.fixture(scope="module")
def mcp_url(stage: Stage) -> Iterator[str]:
    """A process that serves `/mcp` only: it never learns the applier's URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "SHADOWDESK_PAGES__PORT": str(port),
        "SHADOWDESK_PAGES__BASE_URL": f"http://127.0.0.1:{port}",
    }
    command = [sys.executable, "-m", "mcp_server", "serve", "--only", "mcp", "--config", str(stage.config)]
    process = subprocess.Popen(command, env=environment)
    url = f"http://127.0.0.1:{port}/mcp"
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(httpx2.TransportError):
                httpx2.get(url, timeout=2)
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ERAS)
async def test_a_rehearsal_over_http_in_both_eras(stage: Stage, mcp_url: str, mode: str) -> None:
    headers = {"authorization": f"Bearer {stage.tokens['rep']}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(mcp_url, http_client=http), mode=mode) as client,  # type: ignore[arg-type]
    ):
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"start_dry_run", "correct_signatory_on_contract"} <= tools
        assert not tools & {"confirm", "replay", "approve"}
        started = await client.call_tool(
            "start_dry_run", {"tenant": str(STORIES.tenant_id), "request": "over the wire", "purpose": "test"}
        )
        assert started.structured_content is not None
        dry_run = started.structured_content["dry_run"]["id"]
        made = await client.call_tool(
            "run_statement",
            {"dry_run_id": dry_run, "sql": "UPDATE accounts SET name = name || '.'", "reason": "test run"},
        )
        assert not made.is_error
        refused = await client.call_tool(
            "run_statement", {"dry_run_id": dry_run, "sql": "DROP TABLE x", "reason": "no way"}
        )
        assert refused.is_error
        proposed = await client.call_tool("propose", {"dry_run_id": dry_run})
        assert proposed.structured_content is not None
        assert proposed.structured_content["state"] == "pending"


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic eDp5"}])
def test_no_token_no_answer(mcp_url: str, header: dict[str, str]) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"accept": "application/json, text/event-stream"}
    assert httpx2.post(mcp_url, json=request, headers={**header, **accept}).status_code == 401


def test_a_process_without_pages_answers_no_review(mcp_url: str) -> None:
    assert httpx2.get(mcp_url.replace("/mcp", "/review")).status_code == 404


@pytest.mark.anyio
async def test_stdio_in_the_older_era(stage: Stage) -> None:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "mcp_server", "stdio", "--config", str(stage.config)], cwd=stage.folder
    )
    async with Client(server, mode="legacy") as client:
        found = await client.call_tool("find_tenant", {"text": STORIES.tenant})
        assert found.structured_content is not None
        assert found.structured_content["tenants"][0]["key"] == str(STORIES.tenant_id)


@pytest.mark.anyio
async def test_cloning_tells_its_progress(stage: Stage) -> None:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "mcp_server", "stdio", "--config", str(stage.config)], cwd=stage.folder
    )
    told: list[str | None] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    async with Client(server) as client:
        words = {"tenant": str(STORIES.tenant_id), "request": "how far is it", "purpose": "test"}
        started = await client.call_tool("start_dry_run", words)
        assert started.structured_content is not None
        step = {"dry_run_id": started.structured_content["dry_run"]["id"], "reason": "as asked"}
        sql = "UPDATE accounts SET name = name || '.'"
        await client.call_tool("run_statement", {**step, "sql": sql}, progress_callback=listen)
    assert "Cloning accounts" in told
