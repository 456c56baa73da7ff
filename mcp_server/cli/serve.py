"""`serve`, `stdio`, `bridge`, `demo`: the processes that meet people and models."""

from enum import StrEnum
from typing import Annotated

import typer

from mcp_server.cli.keys import refuse_key_in_environment
from mcp_server.cli.options import DEFAULT_CONFIG, Config, settings_from


class Part(StrEnum):
    """What one process serves when it does not serve everything."""

    MCP = "mcp"
    PAGES = "pages"


def register(app: typer.Typer) -> None:
    """Adds this file's commands."""
    app.command("serve")(serve)
    app.command("stdio")(stdio)
    app.command("bridge")(bridge)
    app.command("demo")(demo)


def serve(
    config: Config = DEFAULT_CONFIG,
    only: Annotated[Part | None, typer.Option("--only", help="Serve one part; the other runs elsewhere.")] = None,
) -> None:
    """Serve /mcp for models and /review for people over HTTP, on the host and port of the pages section."""
    from mcp_server.cli.running import serve_http

    refuse_key_in_environment()
    serve_http(settings_from(config), mcp=only != Part.PAGES, pages=only != Part.MCP)


def stdio(
    config: Config = DEFAULT_CONFIG,
    pages: Annotated[
        bool, typer.Option("--pages/--no-pages", help="Serve the review pages too, unless something does already.")
    ] = True,
) -> None:
    """Serve one person's MCP client on standard input and output, and the review pages beside it."""
    from mcp_server.cli.running import serve_stdio

    refuse_key_in_environment()
    serve_stdio(settings_from(config), pages=pages)


def bridge() -> None:
    """Connect one MCP client on standard input and output with a ShadowDesk server elsewhere.

    SHADOWDESK_URL says where the server is, SHADOWDESK_TOKEN holds your personal token; nothing else is needed.
    """
    import os

    from mcp_server.bridge import BridgeRefused
    from mcp_server.bridge import bridge as carry
    from mcp_server.errors import ConfigurationInvalid

    refuse_key_in_environment()
    try:
        carry(os.environ)
    except BridgeRefused as refused:
        raise ConfigurationInvalid(str(refused), "The bridge was not started.", "Correct it and start again.") from None


def demo(
    serve: Annotated[
        bool, typer.Option("--serve", help="Leave everything up afterwards, and say how to log in.")
    ] = False,
) -> None:
    """Play real fixes from an MCP client's calls to production, and wrong ones being stopped."""
    from mcp_server.demo.story import main

    refuse_key_in_environment()
    raise typer.Exit(main(serve=serve))
