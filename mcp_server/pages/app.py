"""Assembles the review pages into one Starlette app; `http.py` serves it beside `/mcp`."""

from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import RedirectResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mcp_server.control.store import ControlStore
from mcp_server.desk import Desk
from mcp_server.errors import EXPLAINED
from mcp_server.governed import Governor
from mcp_server.pages import decide, login, reviews
from mcp_server.pages.forms import posted
from mcp_server.pages.headers import KnownHosts, PageHeaders
from mcp_server.pages.outcome import Crashes, OutcomePages
from mcp_server.pages.site import NotLoggedIn, RefusedRequest, Site, page_templates
from mcp_server.settings import Settings

STATIC = Path(__file__).parent / "static"


def pages_app(desk: Desk, settings: Settings, governor: Governor, control: ControlStore) -> Starlette:
    """The pages for one desk: `/login`, `/review`, `/review/{proposal_id}` and its forms, `/logout`."""
    site = Site(desk=desk, settings=settings, governor=governor, control=control, templates=page_templates())
    outcomes = OutcomePages(site)
    one = "/review/{proposal_id}"
    return Starlette(
        routes=[
            Route("/login", partial(login.login, site), methods=["GET"]),
            Route("/logout", posted(site, login.logout), methods=["POST"]),
            Route("/review", partial(reviews.queue_page, site), methods=["GET"]),
            Route(one, partial(reviews.review_page, site), methods=["GET"]),
            Route(f"{one}/confirm", posted(site, decide.confirm), methods=["POST"]),
            Route(f"{one}/reject", posted(site, decide.reject), methods=["POST"]),
            Route(f"{one}/approve", posted(site, decide.approve), methods=["POST"]),
            Route(f"{one}/escalate", posted(site, decide.escalate), methods=["POST"]),
            Route("/", lambda _: RedirectResponse(f"{site.root}/review")),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            Middleware(PageHeaders),
            Middleware(KnownHosts, base_url=site.base_url),
            Middleware(Crashes, outcomes=outcomes),
        ],
        exception_handlers={
            **dict.fromkeys(EXPLAINED, outcomes.explained),
            RefusedRequest: outcomes.refused,
            NotLoggedIn: outcomes.not_logged_in,
            404: outcomes.not_found,
            405: outcomes.wrong_method,
        },
    )
