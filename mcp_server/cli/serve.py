"""`serve`, `stdio`, `demo`: the processes that meet people and models."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from mcp_server.cli.keys import refuse_key_in_environment
from mcp_server.cli.options import DEFAULT_CONFIG, Config, opened


class Part(StrEnum):
    """What one process serves when it does not serve everything."""

    MCP = "mcp"
    PAGES = "pages"


def register(app: typer.Typer) -> None:
    """Adds this file's commands."""
    app.command("serve")(serve)
    app.command("stdio")(stdio)
    app.command("demo")(demo)
