"""A rep's client while the sandbox is killed and production's schema changes: what the tools say, and that it goes on."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult, TextContent

from mcp_server.assembly import Assembly, open_desk
from mcp_server.identity import Caller
from mcp_server.server import build_server
from mcp_server.settings import load_settings
from shadow.embedded import open_sandbox
from shadow.sandbox_server import EmbeddedSandbox
from tests.control import execute
from tests.integration.test_assembly import APP, settings_for
from tests.postgres import MakeDatabase

pytestmark = pytest.mark.anyio


@pytest.fixture
def app(production_database: MakeDatabase) -> str:
    return production_database(APP)


@pytest.fixture
def assembly(tmp_path: Path, app: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Assembly]:
    monkeypatch.setattr("mcp_server.shadows._SCHEMA_S", 0.0)
    with open_sandbox(tmp_path / "servers") as servers:
        settings_for(tmp_path, app, servers.owner_url)
        config = tmp_path / "embedded.toml"
        text = (tmp_path / "shadowdesk.toml").read_text()
        config.write_text(text.replace(f'url = "{servers.owner_url}"\npool', 'url = "embedded"\npool'))
        with open_desk(load_settings(config), applier=False) as assembly:
            yield assembly


def text(result: CallToolResult) -> str:
    assert not result.is_error, result.content
    block = result.content[0]
    assert isinstance(block, TextContent)
    return block.text


async def test_a_rep_is_told_what_became_of_the_shadow_and_goes_on(assembly: Assembly, app: str) -> None:
    server = build_server(
        assembly.desk, assembly.settings, assembly.governor,
        lambda client: Caller(name="rep", role="rep", channel="stdio", client=client),
    )  # fmt: skip
    async with Client(server) as client:
        begun = await client.call_tool("start_dry_run", {"tenant": "1", "request": "fix my note", "purpose": "fix it"})
        assert begun.structured_content is not None
        about = {"dry_run_id": begun.structured_content["dry_run"]["id"]}

        async def run(sql: str) -> str:
            return text(await client.call_tool("run_statement", {**about, "sql": sql, "reason": "as asked"}))

        assert "rebuilt" not in await run("UPDATE notes SET body = 'fixed' WHERE body = 'n2'")
        sandbox = assembly.sandbox_server
        assert isinstance(sandbox, EmbeddedSandbox)
        os.kill(sandbox._server.postmaster, signal.SIGKILL)
        for _ in range(400):  # the server's sessions end a moment after it
            listed = text(await client.call_tool("list_dry_runs", {}))
            if "Its shadow is lost" in listed:
                break
            await anyio.sleep(0.05)
        assert "Its shadow is lost" in listed
        read = text(await client.call_tool("query_shadow", {**about, "sql": "SELECT body FROM notes ORDER BY id"}))
        assert "shadow is lost" in read and "rebuilt from 1 recorded statement" in read and "fixed" in read
        execute(app, "ALTER TABLE notes ADD COLUMN rating int")
        said = await run("UPDATE notes SET rating = 5 WHERE body = 'fixed'")
        assert "schema changed" in said and "rebuilt from 1 recorded statement" in said
        assert "rebuilt" not in await run("UPDATE notes SET rating = 6 WHERE body = 'fixed'")
        proposed = text(await client.call_tool("propose", about))
        assert "schema changed" in proposed
