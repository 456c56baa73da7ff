"""Options that many commands share, and the one way they open the desk; used by each command file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mcp_server.assembly import Assembly
    from mcp_server.identity import Caller
    from mcp_server.settings import Settings

Config = Annotated[
    Path, typer.Option("--config", envvar="SHADOWDESK_CONFIG", help="The configuration file.", metavar="FILE")
]
Person = Annotated[
    str | None, typer.Option("--person", help="Who you are among the people of the configuration.", metavar="NAME")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
KeyFile = Annotated[
    Path | None, typer.Option("--key-file", help="File with your personal key, readable by you alone.", metavar="FILE")
]
#: As in `mcp_server.settings`, which is too heavy to import for it.
DEFAULT_CONFIG = Path("shadowdesk.toml")


def settings_from(config: Path) -> "Settings":
    """The settings of a TOML file. Raises ConfigurationInvalid."""
    from mcp_server.settings import load_settings

    return load_settings(config)


@contextmanager
def opened(settings: "Settings", *, applier: bool = False) -> "Iterator[Assembly]":
    """The desk with everything it needs, closed at the end; `applier` only where something is confirmed."""
    from mcp_server.assembly import open_desk

    with open_desk(settings, applier=applier) as assembly:
        yield assembly


def caller_of(settings: "Settings", person: str | None) -> "Caller":
    """Who runs the command: a person of [people], taken at the word of whoever can read the configuration.

    It is enough to rehearse and to read; confirming asks for the personal key (`keys.py`).
    """
    from mcp_server.errors import NotFound
    from mcp_server.identity import Caller

    name = person or settings.stdio.person
    known = settings.people.get(name) if name else None
    if not name or known is None:
        raise NotFound(
            f"There is no person {name!r} in [people].",
            "Nothing ran.",
            "Name one with --person, or add them to the TOML.",
        )
    return Caller(name=name, role=known.role, channel="cli", client="shadowdesk")
