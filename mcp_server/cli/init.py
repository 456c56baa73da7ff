"""`init`: looks at a database as the reader and writes a first, commented shadowdesk.toml."""

from pathlib import Path
from typing import Annotated

import typer

from mcp_server.cli.options import DEFAULT_CONFIG
from mcp_server.cli.output import complain, say

ReaderUrl = Annotated[
    str,
    typer.Option(
        "--reader-url", envvar="SHADOWDESK_PRODUCTION__READER_URL", metavar="URL",
        help="URL of production as a role that may read every app table; it is not written to the file.",
    ),
]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Adds this file's command."""
    app.command("init")(init)


def init(
    reader_url: ReaderUrl,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write.")] = DEFAULT_CONFIG,
    schema: Annotated[list[str] | None, typer.Option("--schema", help="An app schema; may be given again.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Look at a database and write a commented first shadowdesk.toml; guesses are marked as such, with the reason."""
    from mcp_server.errors import ConfigurationInvalid
    from mcp_server.first_settings import guessed_settings

    if output.exists() and not force:
        raise ConfigurationInvalid(
            f"{output} exists already.", "Nothing was written.", "Give another --output, or --force to overwrite it."
        )
    text, guesses = guessed_settings(reader_url, tuple(schema or ["public"]))
    with output.open("w" if force else "x", encoding="utf-8") as file:
        file.write(text)
    root = guesses.roots[0]
    say(f"Wrote {output}: {root.table} is taken for the tenant's table ({root.reason}).")
    for link in guesses.links:
        complain(f"guess: {link.table}: {link.reason}{'' if link.sure else ' (left as a comment)'}")
    say("Check the lines marked GUESS, then run `shadowdesk install`, `shadowdesk doctor`, `shadowdesk fence --count`.")
