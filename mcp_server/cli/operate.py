"""`reap`: what an operator, or cron, does to keep the sandbox clean; servers do the same by themselves."""

import typer

from mcp_server.cli.options import DEFAULT_CONFIG, Config, Json, Person, caller_of, opened, settings_from
from mcp_server.cli.output import say, say_json


def register(app: typer.Typer) -> None:
    """Adds this file's command."""
    app.command("reap")(reap)


def reap(config: Config = DEFAULT_CONFIG, person: Person = None, json: Json = False) -> None:
    """Drop expired shadows and what crashed servers left; a sandbox container that nobody uses is removed."""
    settings = settings_from(config)
    caller = caller_of(settings, person)
    with opened(settings) as assembly:
        dropped = assembly.governor.run(caller, "reap", {}, assembly.reap)
    if json:
        say_json(dropped)
    else:
        say(f"dropped {len(dropped)}{': ' + ', '.join(dropped) if dropped else ''}")
