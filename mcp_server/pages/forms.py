"""POSTs of people: from our own page, by a live session, with its form token, and small; used by `decide.py`."""

import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

from anyio import CancelScope
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from mcp_server.pages.headers import from_our_pages
from mcp_server.pages.sessions import person_of
from mcp_server.pages.site import Person, RefusedRequest, Site

#: Bytes of a form's body; the longest honest one is a comment of 4,000 characters, percent-encoded.
FORM_BYTES = 64 * 1024
FORM_TYPE = "application/x-www-form-urlencoded"

Form = dict[str, str]
Act = Callable[[Site, Request, Person, Form], Response]


def posted(site: Site, act: Act) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that checks a POST and then runs `act` in a worker thread.

    What has begun is not interrupted: neither by a client that goes away nor by a cancelled request, because a
    replay whose answer nobody reads must still end in a known outcome.
    """

    async def endpoint(request: Request) -> Response:
        try:
            form = await read_form(request)
        except RefusedRequest as refused:
            await run_in_threadpool(_record_malformed, site, request, refused)
            raise
        scope = CancelScope(shield=True)
        with scope:
            answer = await run_in_threadpool(_checked, site, request, form, act)
        return answer

    return endpoint


def _checked(site: Site, request: Request, form: Form, act: Act) -> Response:
    person = person_of(site, request)
    if not from_our_pages(request.headers, site.base_url):
        raise forged(site, request, person, "This request does not come from a page of ShadowDesk.")
    if not hmac.compare_digest(form.get("csrf", "").encode(), person.csrf.encode()):
        raise forged(site, request, person, "The form does not belong to this log-in.")
    return act(site, request, person, form)


def _record_malformed(site: Site, request: Request, refused: RefusedRequest) -> None:
    """Audits a form that could not be read; raises NotLoggedIn where nobody's session came with it."""
    person = person_of(site, request)
    verb, sentence = request.url.path.rsplit("/", 1)[-1], refused.sentences[0]
    site.governor.record(person.caller, verb, dict(request.path_params), "invalid_arguments", sentence)


def forged(site: Site, request: Request, person: Person, happened: str) -> RefusedRequest:
    """The refusal of a POST that no form of this person sent; it is audited, for somebody may be trying something."""
    verb = request.url.path.rsplit("/", 1)[-1]
    site.governor.record(person.caller, verb, dict(request.path_params), "denied", happened)
    return RefusedRequest(403, happened, "Nothing was done.", "Open the page yourself and use the form there.")


async def read_form(request: Request) -> Form:
    """The fields of a urlencoded form; each name once. Raises RefusedRequest for anything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM_TYPE:
        raise malformed(415)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES:
            raise malformed(413)
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=20, errors="strict"
        )
    except ValueError:
        raise malformed(400) from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise malformed(400)
    return dict(pairs)


def malformed(status: int) -> RefusedRequest:
    """The refusal of a form that no page of ours sends."""
    return RefusedRequest(
        status, "The form could not be read.", "Nothing was done.", "Open the page again and use its own form."
    )
