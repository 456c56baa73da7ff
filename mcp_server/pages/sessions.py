"""Who is behind a request: session cookies and the form token; used by every handler.

A cookie is 256 random bits; the control store keeps only its SHA-256. The form token is derived from the cookie, so
it needs no place of its own and ends with it.
"""

import hashlib
import hmac

from starlette.requests import Request

from mcp_server.identity import Caller, shown_client
from mcp_server.pages.site import NotLoggedIn, Person, Site

#: Separates the form token from any other use of the cookie's value.
FORM_TOKEN_PURPOSE = b"shadowdesk form token"


def digest_of(token: str) -> str:
    """SHA-256 in hex: what the control store keeps of a link's or a cookie's token."""
    return hashlib.sha256(token.encode()).hexdigest()


def form_token(session_token: str) -> str:
    """The token that each form of this session carries."""
    return hmac.new(session_token.encode(), FORM_TOKEN_PURPOSE, hashlib.sha256).hexdigest()


def cookie_name(site: Site) -> str:
    """`__Host-` binds the cookie to https, this host and the path /; a plain http base (a laptop) cannot have it."""
    return "__Host-shadowdesk" if secure(site) else "shadowdesk"


def secure(site: Site) -> bool:
    """Whether the pages are reached by https."""
    return site.base_url.lower().startswith("https://")


def person_of(site: Site, request: Request) -> Person:
    """The person whose live session the request carries. Raises NotLoggedIn.

    The role is read from today's configuration: who was removed from it, or changed roles, is so at once.
    """
    token = request.cookies.get(cookie_name(site), "")
    name = site.control.page_session(digest_of(token)) if token else None
    if name is None or name not in site.settings.people:
        raise NotLoggedIn
    return Person(caller=caller_of(site, request, name), csrf=form_token(token))


def caller_of(site: Site, request: Request, name: str) -> Caller:
    """A person of the configuration as the caller of this request."""
    client = shown_client(request.headers.get("user-agent", ""))
    return Caller(name=name, role=site.settings.people[name].role, channel="page", client=client)
