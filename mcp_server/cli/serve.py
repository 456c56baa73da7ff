"""`serve`, `stdio`, `demo`: the processes that meet people and models."""

from typing import Annotated

import typer

from mcp_server.cli.keys import refuse_key_in_environment
from mcp_server.cli.options import DEFAULT_CONFIG, Config
