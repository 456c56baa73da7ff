"""Limits through a real MCP client on a staged business: each refuses by name, is audited, and leaves the rest alone."""

from collections.abc import Iterator
from typing import Any

import pytest
from mcp import Client
from mcp.types import TextContent

from mcp_server.assembly import Assembly, open_desk
from mcp_server.demo.business import STORIES
from mcp_server.demo.stage import staged
from mcp_server.identity import stdio_caller
from mcp_server.server import GovernedServer, build_server
from mcp_server.settings import load_settings

pytestmark = pytest.mark.anyio
START = {"tenant": str(STORIES.tenant_id), "request": "the request", "purpose": "the purpose"}
LIMITS = """
[limits]
open_dry_runs = 2
nesting = 4
request_kb = 64
returned_kb = 1
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Assembly, GovernedServer]]:
    with staged(tmp_path_factory.mktemp("limits")) as stage:
        text = stage.config.read_text()
        assert "[limits]" not in text
        stage.config.write_text(text + LIMITS)
        settings = load_settings(stage.config)
        with open_desk(settings, applier=False) as assembly:
            yield assembly, build_server(assembly.desk, settings, assembly.governor, stdio_caller(settings))


async def refused(client: Client, assembly: Assembly, tool: str, arguments: dict[str, Any]) -> tuple[str, str | None]:
    """The words of a refusal and its outcome in the audit trail."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert isinstance(result.content[0], TextContent)
    event = assembly.audit.tail(1)[0]
    assert (event.tool, event.kind) == (tool, "outcome")
    return result.content[0].text, event.outcome


async def test_each_limit_is_named_and_audited(desk: tuple[Assembly, GovernedServer]) -> None:
    assembly, server = desk
    async with Client(server) as client:
        runs = []
        for _ in range(2):
            started = await client.call_tool("start_dry_run", START)
            assert started.structured_content is not None, started
            runs.append(started.structured_content["dry_run"]["id"])
        words, outcome = await refused(client, assembly, "start_dry_run", START)
        assert "limits.open_dry_runs" in words
        assert outcome == "refused:LimitReached"
        await client.call_tool("discard_dry_run", {"dry_run_id": runs[1]})
        assert not (await client.call_tool("start_dry_run", START)).is_error

        words, outcome = await refused(client, assembly, "find_tenant", {"text": [[[["deep"]]]]})
        assert ("limits.nesting" in words, outcome) == (True, "refused:LimitReached")
        words, outcome = await refused(client, assembly, "find_tenant", {"text": "x" * 70_000})
        assert ("limits.request_kb" in words, outcome) == (True, "refused:LimitReached")


async def test_calls_of_a_minute_are_counted_over_two_replicas(desk: tuple[Assembly, GovernedServer]) -> None:
    first, _ = desk
    settings = first.settings.model_copy(
        update={"limits": first.settings.limits.model_copy(update={"calls_per_minute": 40})}
    )
    with open_desk(settings, applier=False) as one, open_desk(settings, applier=False) as other:
        servers = [build_server(a.desk, settings, a.governor, stdio_caller(settings)) for a in (one, other)]
        async with Client(servers[0]) as mine, Client(servers[1]) as yours:
            answers = [await client.call_tool("find_tenant", {"text": "x"}) for client in (mine, yours) * 40]
            late = [answer for answer in answers if answer.is_error]
            # calls of the tests before count as well: it is one person
            assert 40 <= len(late) <= 80
            assert all(answer.is_error for answer in answers[-20:])
            for client, assembly in ((mine, one), (yours, other)):
                words, outcome = await refused(client, assembly, "find_tenant", {"text": "x"})
                assert ("limits.calls_per_minute" in words, outcome) == (True, "refused:LimitReached")


async def test_a_query_stops_at_the_bytes_it_may_return(desk: tuple[Assembly, GovernedServer]) -> None:
    _, server = desk
    async with Client(server) as client:
        run = (await client.call_tool("list_dry_runs", {"state": "open"})).structured_content
        assert run is not None
        sql = "SELECT repeat('x', 300) FROM generate_series(1, 10)"
        answer = await client.call_tool("query_shadow", {"dry_run_id": run["dry_runs"][0]["id"], "sql": sql})
        assert answer.structured_content is not None, answer
        assert answer.structured_content["truncated"] is True
        assert len(answer.structured_content["rows"]) == 3
