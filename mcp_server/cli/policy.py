"""`policy explain`, `policy version`: which rule decides, and which policy proposals are judged by."""

from typing import Annotated

import typer

from mcp_server.cli.options import DEFAULT_CONFIG, Config, Json, settings_from
from mcp_server.cli.output import OK, REFUSED, say, say_json

app = typer.Typer(no_args_is_help=True, help="What roles may do, and why.")


@app.command("explain")
def explain(
    role: Annotated[str, typer.Option("--as", help="The role.", metavar="ROLE")],
    config: Config = DEFAULT_CONFIG,
    tool: Annotated[str | None, typer.Option("--tool", help="A tool, a verb or a permission.", metavar="TOOL")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="A tenant's key.", metavar="KEY")] = None,
    table: Annotated[str | None, typer.Option("--table", help="A table that free SQL would change.")] = None,
    column: Annotated[str | None, typer.Option("--column", help="Its column; whole rows by default.")] = None,
    json: Json = False,
) -> None:
    """Say which rule decides. Exit code 1 when the answer to any part is no."""
    from mcp_server.explaining import explain as explained

    if tool is None and tenant is None and table is None:
        raise typer.BadParameter("name a --tool, a --tenant or a --table to ask about")
    found = explained(settings_from(config), role, tool, tenant, table, column)
    if json:
        say_json(found)
    else:
        for one in found:
            say(f"{'yes' if one.allowed else 'no '}  {role} may {'' if one.allowed else 'not '}{one.question}")
            say(f"     {one.rule}")
    raise typer.Exit(OK if all(one.allowed for one in found) else REFUSED)


@app.command("version")
def version(config: Config = DEFAULT_CONFIG) -> None:
    """Print the hash of the policy part of the configuration, which every proposal keeps."""
    from mcp_server.policy import policy_version

    say(policy_version(settings_from(config)))
