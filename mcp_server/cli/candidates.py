"""`shadowdesk revert`, `compare`, `branch`: whole fixes put back, side by side, and begun anew from a step."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcp_server.cli.options import DEFAULT_CONFIG, Config, Json, Person, caller_of, opened, settings_from
from mcp_server.cli.output import say, say_json

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server.desk import Desk
    from mcp_server.identity import Caller

DryRunArgument = Annotated[str, typer.Argument(metavar="DRY_RUN")]


def register(app: typer.Typer) -> None:
    """Adds this file's commands."""
    app.command("revert")(revert)
    app.command("compare")(compare)
    app.command("branch")(branch)


def revert(
    proposal_id: Annotated[str, typer.Argument(metavar="PROPOSAL")],
    request: Annotated[str, typer.Option("--request", help="Who asked for it and why, in their words.")],
    config: Config = DEFAULT_CONFIG,
    person: Person = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also when its rows were edited since.")] = False,
    json: Json = False,
) -> None:
    """Make a dry run that puts an applied proposal back; propose and confirm it like any other."""
    from mcp_server.tools.candidate_words import revert as told
    from mcp_server.tools.spec import said

    said(request, "request", "Say who asked for it and why.")
    arguments = {"proposal_id": proposal_id, "request": request, "anyway": anyway}
    _do(
        config, person, "revert", arguments, json, told,
        lambda desk, caller: desk.revert(caller, proposal_id, request, anyway=anyway),
    )  # fmt: skip


def compare(
    dry_run_id: DryRunArgument,
    other_dry_run_id: Annotated[str, typer.Argument(metavar="OTHER")],
    config: Config = DEFAULT_CONFIG,
    person: Person = None,
    rows: Annotated[int, typer.Option("--rows", help="Rows of each list.", min=1)] = 20,
    json: Json = False,
) -> None:
    """Show two candidate fixes of one tenant side by side."""
    from mcp_server.tools.candidate_words import comparison

    arguments = {"dry_run_id": dry_run_id, "other_dry_run_id": other_dry_run_id}
    _do(
        config, person, "compare_dry_runs", arguments, json, lambda found: comparison(found, rows),
        lambda desk, caller: desk.compare_dry_runs(caller, dry_run_id, other_dry_run_id),
    )  # fmt: skip


def branch(
    dry_run_id: DryRunArgument,
    from_step: Annotated[int, typer.Option("--from-step", help="The last step to share.", min=1)],
    config: Config = DEFAULT_CONFIG,
    person: Person = None,
    json: Json = False,
) -> None:
    """Make a dry run with the first steps of another; the original stays."""
    from mcp_server.tools.candidate_words import branch as told

    arguments = {"dry_run_id": dry_run_id, "from_step": from_step}
    _do(
        config, person, "branch_dry_run", arguments, json, told,
        lambda desk, caller: desk.branch_dry_run(caller, dry_run_id, from_step),
    )  # fmt: skip


def _do(
    config: "Path", person: str | None, verb: str, arguments: dict[str, Any], json: bool, told: Callable[[Any], str],
    act: "Callable[[Desk, Caller], Any]",
) -> None:  # fmt: skip
    """One governed call, printed as text or as JSON."""
    settings = settings_from(config)
    caller = caller_of(settings, person)
    with opened(settings) as assembly:
        done = assembly.governor.run(caller, verb, arguments, lambda: act(assembly.desk, caller))
    if json:
        say_json(done)
    else:
        say(told(done))
