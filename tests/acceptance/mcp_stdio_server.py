"""The MCP server on stdio over the memory desk, as a process of its own: `python -m tests.acceptance.mcp_stdio_server`."""

import sys
from pathlib import Path

from mcp_server.identity import stdio_caller
from mcp_server.server import build_server
from tests.acceptance.mcp_desk import MemoryDesk, governor_for, settings_in

if __name__ == "__main__":
    settings = settings_in(Path(sys.argv[1]))
    desk = MemoryDesk()
    governor = governor_for(desk, settings)
    build_server(desk, settings, governor, stdio_caller(settings)).run("stdio")  # type: ignore[arg-type]
