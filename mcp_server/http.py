"""The ASGI app of `shadowdesk serve`: `/mcp` with bearer tokens, everything else to the review pages.

All state is in the databases, so any replica serves anyone.
"""

from urllib.parse import urlsplit

from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_server.errors import ConfigurationInvalid
from mcp_server.server import GovernedServer
from mcp_server.settings import Settings

MCP_PATH = "/mcp"
#: Where clients look up which authorization server guards `/mcp` (RFC 9728).
METADATA_PATH = "/.well-known/oauth-protected-resource"
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


class FrontDoor:
    """Sends each request to the MCP app or to the pages; the two share nothing, no cookie opens `/mcp`."""

    def __init__(self, mcp: ASGIApp | None, pages: ASGIApp | None) -> None:
        self._mcp = mcp
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; start and stop of the server concern the MCP app, where there is one."""
        if scope["type"] == "lifespan":
            await (self._mcp or self._pages or _nothing)(scope, receive, send)
            return
        path = scope["path"]
        for_mcp = path == MCP_PATH or path.startswith((f"{MCP_PATH}/", METADATA_PATH))
        app = self._mcp if for_mcp else self._pages
        await (app or _nothing)(scope, receive, send)


def http_app(settings: Settings, *, server: GovernedServer | None, pages: ASGIApp | None) -> FrontDoor:
    """The app for `server` (built with `PeopleTokens`), for the pages (`pages_app(...)`), or for both.

    Raises ConfigurationInvalid when there is nothing to serve, or the server would not ask for a token.
    """
    if server is None and pages is None:
        raise ConfigurationInvalid("There is nothing to serve.", "Nothing was started.", "Serve mcp, pages, or both.")
    if server is not None and server.settings.auth is None:
        raise ConfigurationInvalid(
            "The MCP server was built without bearer tokens.",
            "It was not served over HTTP.",
            "Build it with tokens=PeopleTokens(…).",
        )
    mcp = (
        server.streamable_http_app(
            streamable_http_path=MCP_PATH,
            stateless_http=True,
            max_request_body_size=settings.limits.request_kb << 10,
            transport_security=transport_security(settings),
        )
        if server is not None
        else None
    )
    return FrontDoor(mcp, pages)


def transport_security(settings: Settings) -> TransportSecuritySettings:
    """Only the configured name and this machine's own names may be asked for: no rebound DNS name gets in."""
    base = urlsplit(settings.pages.base_url)
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[base.netloc, *(f"{host}:*" for host in LOCAL_HOSTS)],
        allowed_origins=[f"{base.scheme}://{base.netloc}", *(f"http://{host}:*" for host in LOCAL_HOSTS)],
    )


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("Not found", status_code=404)(scope, receive, send)
