"""The scene's desk over HTTP with bearer tokens, in this process; for bodies that only a socket can send."""

from collections.abc import Iterator
from contextlib import contextmanager

from mcp_server.http import http_app
from mcp_server.identity import token_caller
from mcp_server.server import build_server
from mcp_server.tokens import PeopleTokens
from tests.acceptance.test_mcp_http import serving
from tests.hostile.attack import Scene


@contextmanager
def served(scene: Scene) -> Iterator[str]:
    """Its address while the block runs."""
    assembly = scene.assembly
    settings = assembly.settings
    server = build_server(
        assembly.desk, settings, assembly.governor, token_caller(settings), tokens=PeopleTokens(settings)
    )
    with serving(http_app(settings, server=server, pages=None)) as address:
        yield address
