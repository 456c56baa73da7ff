"""Logging in by the one-time link of `shadowdesk login`, and logging out."""

import secrets
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mcp_server.pages.forms import Form
from mcp_server.pages.sessions import caller_of, cookie_name, digest_of, secure
from mcp_server.pages.site import Person, RefusedRequest, Site


def login(site: Site, request: Request) -> Response:
    """Takes the link's token, once, and answers with a session cookie and the way to the queue.

    A HEAD request (a program that previews links) must not use the link up.
    """
    token = request.query_params.get("token", "")
    if request.method != "GET":
        raise unusable(405)
    name = site.control.use_login_link(digest_of(token)) if token else None
    if name is None or name not in site.settings.people:
        raise unusable(401)
    session = secrets.token_urlsafe(32)
    lifetime = timedelta(seconds=site.settings.pages.session_ttl_s)
    site.govern(
        caller_of(site, request, name),
        "login",
        {},
        lambda: site.control.create_page_session(digest_of(session), name, lifetime),
    )
    answer = RedirectResponse(f"{site.root}/review", status_code=303)
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.set_cookie(
        cookie_name(site),
        session,
        max_age=int(lifetime.total_seconds()),
        path="/",
        secure=secure(site),
        httponly=True,
        samesite="strict",
    )
    return answer


def logout(site: Site, request: Request, person: Person, form: Form) -> Response:
    """Ends the session in the store, not in the browser alone."""
    session = digest_of(request.cookies[cookie_name(site)])
    site.govern(person.caller, "logout", {}, lambda: site.control.end_page_session(session))
    answer = site.page(
        "message.html",
        None,
        heading="Logged out",
        tone="good",
        happened="You are logged out.",
        not_happened="Your proposals stay as they are.",
        next_step="Run `shadowdesk login` on your own terminal to come back.",
        back="",
        back_label="",
    )
    answer.delete_cookie(cookie_name(site), path="/", secure=secure(site), httponly=True, samesite="strict")
    return answer


def unusable(status: int) -> RefusedRequest:
    """One answer for a link that is used, over or made up: it tells nothing about which."""
    return RefusedRequest(
        status,
        "This log-in link was used already, or its time is over.",
        "You are not logged in.",
        "Run `shadowdesk login` on your own terminal and open the address it prints.",
    )
