"""Who calls: a person of [people] with a role, by the bearer token on HTTP and by [stdio] person on stdio.

What a client says about itself (its name, its headers) is noted and never believed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mcp_server.errors import ConfigurationInvalid, PermissionDenied
from mcp_server.settings import Settings

Channel = Literal["stdio", "http", "page", "cli"]
#: Characters kept of what a client calls itself.
CLIENT_CHARACTERS = 100


@dataclass(frozen=True, kw_only=True)
class Caller:
    """One person on one channel; `client` is what the program says it is."""

    name: str
    role: str
    channel: Channel
    client: str


#: Gives the caller of the present request; the argument is what the client calls itself.
CallerSource = Callable[[str], Caller]


def stdio_caller(settings: Settings) -> CallerSource:
    """The one person of [stdio]. Raises ConfigurationInvalid when nobody is named."""
    name = settings.stdio.person
    if name is None:
        raise ConfigurationInvalid(
            "[stdio] names no person.",
            "The server was not started.",
            'Add person = "…" to [stdio]; it must be one of [people].',
        )
    role = settings.people[name].role
    return lambda client: Caller(name=name, role=role, channel="stdio", client=shown_client(client))


def token_caller(settings: Settings) -> CallerSource:
    """The person whose token the present HTTP request carried; the role is today's."""
    # The SDK's import takes longer than most commands, which know people too.
    from mcp.server.auth.middleware.auth_context import get_access_token

    def source(client: str) -> Caller:
        token = get_access_token()
        known = settings.people.get(token.subject or "") if token else None
        if token is None or known is None:
            raise PermissionDenied(
                "The request carries no token of a known person.", "Nothing ran.", "Connect with your personal token."
            )
        return Caller(name=str(token.subject), role=known.role, channel="http", client=shown_client(client))

    return source


def mcp_resource(settings: Settings) -> str:
    """The address of `/mcp` as clients know it: what a token is valid for (RFC 8707)."""
    return f"{settings.pages.base_url.rstrip('/')}/mcp"


def shown_client(name: str) -> str:
    """What a client calls itself, printable and short; 'unknown' when it says nothing."""
    kept = "".join(character for character in name if character.isprintable())
    return kept[:CLIENT_CHARACTERS].strip() or "unknown"
