"""`shadowdesk recording export|run`: a dry run as a document, and its re-execution by QA."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.options import DEFAULT_CONFIG, Json, Person, caller_of, opened, settings_from
from mcp_server.cli.output import OK, REFUSED, USAGE, complain, say, say_json

if TYPE_CHECKING:
    from mcp_server.recording_run import Difference

app = typer.Typer(no_args_is_help=True, help="Dry runs as documents that re-execute.", pretty_exceptions_enable=False)


@app.command()
def export(
    dry_run_id: Annotated[str, typer.Argument(metavar="DRY_RUN")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to; must not exist yet.")],
    config: Annotated[Path, typer.Option("--config", envvar="SHADOWDESK_CONFIG", metavar="FILE")] = DEFAULT_CONFIG,
    with_rows: Annotated[
        bool, typer.Option("--with-rows", help="Include the tenant's rows it needs: production data from then on.")
    ] = False,
    person: Person = None,
) -> None:
    """Write a dry run as a recording."""
    from mcp_server import recording

    if output.exists():
        raise typer.BadParameter(f"{output} exists already")
    settings = settings_from(config)
    caller = caller_of(settings, person)
    with opened(settings) as assembly:
        document = assembly.governor.run(
            caller,
            "recording_export",
            {"dry_run_id": dry_run_id, "with_rows": with_rows},
            lambda: recording.export(assembly.desk, caller, dry_run_id, with_rows=with_rows),
        )
    # A recording holds row values: the file is its owner's alone from the first byte.
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(recording.write(document))
    say(f"{output}: {len(document['statements'])} statements, {document['expected']['total_rows']:,} changed rows")


@app.command()
def run(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, metavar="FILE")],
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Run on this configuration's production instead.")
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option("--schema", exists=True, dir_okay=False, metavar="FILE", help="A schema dump to run it on."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="The recording is as trusted as a program: its schema may run code as you.")
    ] = False,
    person: Person = None,
    json: Json = False,
) -> None:
    """Execute a recording again: on an empty embedded Postgres with the recorded rows, or with --config there.

    Exit code 0 when the diff is the recorded one, 1 when it differs; each difference by table, key and column.
    """
    differences = _differences(file, config, schema, person, trust)
    if json:
        say_json({"equal": not differences, "differences": differences})
    else:
        for difference in differences:
            complain(str(difference))
        say("equal" if not differences else f"different in {len(differences)} places")
    raise typer.Exit(REFUSED if differences else OK)


def _differences(
    file: Path, config: Path | None, schema: Path | None, person: str | None, trust: bool
) -> "list[Difference]":
    from mcp_server import recording, recording_run

    document = recording.read(file.read_text(encoding="utf-8"))
    if config is None:
        if "rows" not in document:
            complain("This recording carries no rows: name a database with --config, or export it --with-rows.")
            raise typer.Exit(USAGE)
        definitions = schema.read_text(encoding="utf-8") if schema else None
        return recording_run.run_with_rows(document, definitions=definitions, trusted=trust)
    if schema is not None:
        raise typer.BadParameter("--schema goes with the recorded rows, not with --config.")
    settings = settings_from(config)
    caller = caller_of(settings, person)
    with opened(settings) as assembly:
        desk = assembly.desk
        found: list[Difference] = assembly.governor.run(
            caller,
            "recording_run",
            {"file": file.name},
            lambda: recording_run.run_on(document, desk.production, desk.shadows, desk.settings.measures),
        )
    return found
