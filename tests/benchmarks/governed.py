"""One governed MCP call against a bare SDK tool: what permission and audit add, on the same client in the same run."""

import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from anyio.from_thread import start_blocking_portal
from mcp import Client
from mcp.server import MCPServer

from mcp_server.assembly import open_desk
from mcp_server.demo.stage import staged
from mcp_server.identity import stdio_caller
from mcp_server.server import build_server
from mcp_server.settings import load_settings
from tests.benchmarks.result import Result

_CALLS = 200


def governed_call(folder: Path) -> Result:
    """Median of a read that touches the control database once, beside a tool that returns a constant."""
    bare = MCPServer("bare", version="1")

    @bare.tool()
    def list_dry_runs(limit: int = 1) -> dict[str, list[str]]:
        """A tool that does nothing."""
        return {"dry_runs": []}

    with ExitStack() as stack:
        stage = stack.enter_context(staged(folder))
        settings = load_settings(stage.config)
        assembly = stack.enter_context(open_desk(settings, applier=False))
        ours = build_server(assembly.desk, settings, assembly.governor, stdio_caller(settings))
        figures = [_median(server) for server in (bare, ours)]
    return Result.of(
        "governed MCP call (permission + audit + control) / bare SDK tool", figures[1], figures[0], None, "s"
    )


def _median(server: MCPServer) -> float:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Client(server)) as client:
        seconds = []
        for _ in range(_CALLS):
            started = time.perf_counter()
            result = portal.call(client.call_tool, "list_dry_runs", {"limit": 1})
            seconds.append(time.perf_counter() - started)
            assert not result.is_error
        return median(seconds[20:])
