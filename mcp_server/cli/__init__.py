"""The command `shadowdesk`: engineers, operators and QA on a terminal; one file per group of commands.

Heavy libraries are imported inside the commands that need them, so that `shadowdesk --version` starts at once.
"""

import sys
import traceback
from typing import Annotated

import typer

from mcp_server import __version__
from mcp_server.cli import (
    audit,
    candidates,
    dry_run,
    init,
    operate,
    people,
    policy,
    production,
    recording,
    serve,
    tokens,
)
from mcp_server.cli.output import FAULT, complain, exit_code, say
from mcp_server.errors import EXPLAINED

app = typer.Typer(
    name="shadowdesk",
    help="Rehearse a support fix on a shadow of one tenant's rows; replay exactly the confirmed effect.",
    epilog="Exit codes: 0 done, 1 refused or different, 2 wrong usage, 3 a server could not be reached, 4 a fault.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for group in (people, dry_run, candidates, init, production, operate, serve):
    group.register(app)
app.add_typer(audit.app, name="audit")
app.add_typer(recording.app, name="recording")
app.add_typer(policy.app, name="policy")
app.add_typer(tokens.app, name="token")


def _version(wanted: bool) -> None:
    if wanted:
        say(f"shadowdesk {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options that stand before a command."""


def main() -> None:
    """The console script: runs one command and ends the process with its exit code."""
    try:
        app()
    except EXPLAINED as error:
        complain(str(error))
        sys.exit(exit_code(error))
    except Exception as error:
        # A driver's text may hold row values or a URL: where and what kind, and no more.
        complain("".join(traceback.format_tb(error.__traceback__)))
        complain(f"shadowdesk failed with {type(error).__name__}; this is a fault, please report the lines above.")
        sys.exit(FAULT)
