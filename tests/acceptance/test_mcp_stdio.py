"""The MCP server as a host starts it: a subprocess on stdio, in both protocol eras."""

import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_fix_is_rehearsed_and_proposed_over_stdio_as_the_configured_person(tmp_path: Path, mode: Any) -> None:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "tests.acceptance.mcp_stdio_server", str(tmp_path)], cwd=str(ROOT)
    )
    call = {"contract_id": "17", "title": "better", "reason": "the rep asked"}
    async with Client(server, mode=mode) as client:
        assert "rename_contract" in {tool.name for tool in (await client.list_tools()).tools}
        made = await client.call_tool("rename_contract", {**call, "request": "please rename it"})
        assert made.structured_content is not None
        dry_run_id = made.structured_content["dry_run_id"]
        live = await client.call_tool("rename_contract", {**call, "dry_run": False, "dry_run_id": dry_run_id})
        runs = await client.call_tool("list_dry_runs", {})
    assert live.structured_content is not None
    assert live.structured_content["proposal"]["review_url"].endswith("/review/pr_aaaabbbbcccc")
    assert runs.structured_content is not None
    assert [run["rep"] for run in runs.structured_content["dry_runs"]] == ["rita"]
