"""Errors as pages: three sentences and the status code that belongs to the outcome; registered by `app.py`."""

import logging
import traceback

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit.errors import AuditError, AuditUnavailable
from differ.text import neutralise
from mcp_server.errors import (
    ConfigurationInvalid,
    ConfirmationRefused,
    DeskError,
    NotFound,
    PermissionDenied,
    WrongState,
)
from mcp_server.limits import LimitReached
from mcp_server.pages.site import RefusedRequest, Site
from shadow.errors import (
    Diverged,
    Drifted,
    OutcomeUnknown,
    QuotaExceeded,
    ReplayPostponed,
    SandboxUnavailable,
    ShadowError,
    ShadowExpired,
)

logger = logging.getLogger(__name__)
#: Characters of one sentence; those of an error may name keys of rows.
SENTENCE_CHARACTERS = 4000

#: Outcome → status code and heading; the first class that fits is taken.
OUTCOMES: tuple[tuple[type[Exception], int, str], ...] = (
    (NotFound, 404, "Not found"),
    (PermissionDenied, 403, "Not allowed"),
    (ConfirmationRefused, 409, "Not confirmed"),
    (WrongState, 409, "Not possible now"),
    (Drifted, 409, "Production has changed"),
    (Diverged, 409, "Production would have ended differently"),
    (ReplayPostponed, 503, "Production is busy"),
    (OutcomeUnknown, 504, "The outcome is not known yet"),
    (ShadowExpired, 410, "The shadow is gone"),
    (LimitReached, 429, "A limit was reached"),
    (QuotaExceeded, 429, "A limit was reached"),
    (SandboxUnavailable, 503, "The sandbox cannot be reached"),
    (AuditUnavailable, 503, "The audit log cannot be written"),
    (ConfigurationInvalid, 500, "The configuration is wrong"),
    (DeskError, 422, "Refused"),
    (ShadowError, 422, "Refused"),
    (AuditError, 500, "The audit log is broken"),
)

NOT_FOUND = (
    "There is no such page for you.",
    "Nothing was done.",
    "Look at your list of proposals, or ask the rep for the address of the review.",
)
NOT_LOGGED_IN = (
    "You are not logged in.",
    "Nothing was shown and nothing was done.",
    "Run `shadowdesk login` on your own terminal and open the address it prints.",
)


class OutcomePages:
    """Exception handlers bound to one site."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def explained(self, request: Request, error: Exception) -> Response:
        """An error of ours, already worded for people."""
        status, heading = next(
            ((code, words) for kind, code, words in OUTCOMES if isinstance(error, kind)), (422, "Refused")
        )
        happened, not_happened, next_step = error.args
        sentences = (str(happened), str(not_happened), str(next_step))
        # Reading what one may not see must look like reading what is not there.
        if request.method == "GET" and status in (403, 404):
            status, heading, sentences = 404, "Not found", NOT_FOUND
        return self._message(request, status, heading, sentences)

    def refused(self, request: Request, error: Exception) -> Response:
        """A request refused by the pages themselves (origin, token of the form, size)."""
        if not isinstance(error, RefusedRequest):
            raise TypeError("this handler is registered for RefusedRequest alone") from error
        return self._message(request, error.status, "Refused", error.sentences)

    def not_logged_in(self, request: Request, error: Exception) -> Response:
        """The 401 page: it names the command and holds no link."""
        return self._message(request, 401, "Log in first", NOT_LOGGED_IN)

    def not_found(self, request: Request, error: Exception) -> Response:
        """An address that is none of ours."""
        return self._message(request, 404, "Not found", NOT_FOUND)

    def wrong_method(self, request: Request, error: Exception) -> Response:
        """A known address with a method it does not take."""
        sentences = ("This address does not take that kind of request.", NOT_FOUND[1], NOT_FOUND[2])
        return self._message(request, 405, "Refused", sentences)

    def crashed(self, request: Request) -> Response:
        """A fault of ours: nothing of the error's text is shown, it may hold row values."""
        sentences = (
            "Something failed inside ShadowDesk.",
            "Whether the step was done is not known from this page.",
            "Open the review again to see its state; tell the operator the time of this page.",
        )
        return self._message(request, 500, "Failed", sentences)

    def _message(self, request: Request, status: int, heading: str, sentences: tuple[str, str, str]) -> Response:
        proposal_id = request.path_params.get("proposal_id")
        happened, not_happened, next_step = (neutralise(one, SENTENCE_CHARACTERS) for one in sentences)
        return self.site.page(
            "message.html",
            None,
            status,
            heading=heading,
            tone="bad",
            happened=happened,
            not_happened=not_happened,
            next_step=next_step,
            back=f"/review/{proposal_id}" if proposal_id and status not in (401, 404) else "",
            back_label="Back to the review",
        )


class Crashes:
    """Answers an unexpected error with the 500 page and logs its place and kind, never its text.

    Starlette's own handler would raise it again for the server to log, and a driver's text holds row values.
    """

    def __init__(self, app: ASGIApp, outcomes: OutcomePages) -> None:
        self.app = app
        self.outcomes = outcomes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            places = "".join(traceback.format_tb(error.__traceback__))
            logger.error("a page failed with %s at\n%s", type(error).__name__, places)
            if not started:
                answer = self.outcomes.crashed(Request(scope, receive))
                await answer(scope, receive, send)
