"""Reverts, comparisons and branches from outside: the MCP client, the command line, and the audit trail they leave."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from mcp import Client
from mcp_types import TextContent

from mcp_server.assembly import Assembly, open_desk
from mcp_server.identity import Caller
from mcp_server.server import build_server
from mcp_server.settings import load_settings
from tests.acceptance.cli_business import Business

pytest_plugins = ["tests.acceptance.cli_fixtures"]
pytestmark = pytest.mark.anyio
REP = Caller(name="rep", role="rep", channel="stdio", client="test")
FIX = ("DELETE FROM line_items WHERE contract_id = 1", "UPDATE contracts SET terms = '{}' WHERE id = 1")
WORDS = "sorry, that was the wrong contract"


@pytest.fixture
def assembly(business: Business) -> Iterator[Assembly]:
    with open_desk(load_settings(business.config), applier=True) as assembly:
        yield assembly


def rehearsed(assembly: Assembly, *statements: str) -> str:
    dry_run = assembly.desk.start_dry_run(REP, "1", "fix it", "a fix")
    for text in statements:
        assembly.desk.run(REP, dry_run.id, text, "as asked")
    return dry_run.id


def applied(assembly: Assembly, dry_run_id: str) -> str:
    proposal = assembly.desk.propose(REP, dry_run_id)
    assembly.desk.confirm(REP, proposal.id, proposal.digest, proposal.rows)
    return proposal.id


def lines(business: Business) -> list[Any]:
    with psycopg.connect(business.owner_url) as connection:
        look = "SELECT l::text FROM line_items l WHERE contract_id = 1 UNION SELECT terms::text FROM contracts WHERE id = 1 ORDER BY 1"
        return connection.execute(look).fetchall()


async def test_tools_revert_compare_and_branch(business: Business, assembly: Assembly) -> None:
    before = lines(business)
    dry_run_id = rehearsed(assembly, *FIX)
    server = build_server(assembly.desk, assembly.settings, assembly.governor, lambda client: REP)
    async with Client(server) as client:

        async def call(name: str, **arguments: Any) -> tuple[Any, str]:
            result = await client.call_tool(name, arguments)
            [block] = result.content
            assert isinstance(block, TextContent)
            return result.structured_content, block.text

        branched, told = await call("branch_dry_run", dry_run_id=dry_run_id, from_step=1)
        other = branched["branch"]["dry_run"]["id"]
        assert f"steps 1 to 1 of {dry_run_id}" in told
        compared, told = await call("compare_dry_runs", dry_run_id=dry_run_id, other_dry_run_id=other)
        assert compared["comparison"]["different"][0]["table"] == "contracts"
        assert "terms: was" in told and "billing_total" in told
        proposal_id = applied(assembly, dry_run_id)
        _, told = await call("revert", proposal_id=proposal_id, request=".")
        assert "The request says nothing" in told
        made, told = await call("revert", proposal_id=proposal_id, request=WORDS)
        assert f"put proposal {proposal_id} back" in told
        assert "contracts.updated_at holds the time of the change" in told
        assert made["dry_run"]["request"] == WORDS
    assert lines(business) != before
    applied(assembly, made["dry_run"]["id"])
    assert lines(business) == before
    events = [event for event in assembly.audit.tail(50) if event.tool == "revert" and event.kind == "outcome"]
    assert {(event.outcome, event.request) for event in events} >= {("ok", WORDS)}
    assert any(event.dry_run_id == made["dry_run"]["id"] for event in events)


def test_commands_revert_compare_and_branch(business: Business, assembly: Assembly) -> None:
    first, second = rehearsed(assembly, *FIX), rehearsed(assembly, FIX[1])
    assert "Only A deletes line_items" in business.done("compare", first, second)
    assert business.read("compare", first, second)["same"] == 0
    assert business.read("branch", first, "--from-step", "1")["dry_run"]["steps"] == 1
    refused = business.run("branch", first, "--from-step", "3")
    assert (refused.returncode, "has no kept step 3" in refused.stderr) == (1, True)
    proposal_id = applied(assembly, second)
    assert business.run("revert", proposal_id, "--request", "-").returncode == 1
    made = business.read("revert", proposal_id, "--request", WORDS)
    assert (made["diff"]["total_rows"], made["later_edits"]) == (1, [])
    with psycopg.connect(business.owner_url) as connection:
        connection.execute("UPDATE contracts SET terms = '[]' WHERE id = 1")
    refused = business.run("revert", proposal_id, "--request", WORDS)
    assert "contracts (id 1).terms: changed since" in refused.stderr
    told = business.done("revert", proposal_id, "--request", WORDS, "--anyway")
    assert "the inverse overrides them" in told
    assert "was `[]`" in told or "terms" in told
