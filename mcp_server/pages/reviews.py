"""The pages a person reads: the queue and one proposal; both through the governor, like every other read."""

from dataclasses import replace

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from differ.model import Diff
from mcp_server.errors import NotFound, WrongState
from mcp_server.identity import Caller
from mcp_server.pages.actions import actions
from mcp_server.pages.present import ROWS_PER_PAGE, entries, review
from mcp_server.pages.sessions import person_of
from mcp_server.pages.site import Site
from mcp_server.views import ProposalView

#: Dry runs the queue looks through, newest first.
QUEUE_LENGTH = 200


def queue_page(site: Site, request: Request) -> Response:
    """Every proposal the person may see."""
    person = person_of(site, request)
    dry_runs = site.govern(
        person.caller, "list_dry_runs", {}, lambda: site.desk.list_dry_runs(person.caller, None, QUEUE_LENGTH)
    )
    return site.page("queue.html", person, entries=entries(dry_runs, site.now()))


def review_page(site: Site, request: Request) -> Response:
    """One proposal with one page of its rows (`?page=`, from 1)."""
    person = person_of(site, request)
    proposal_id = str(request.path_params["proposal_id"])
    asked = request.query_params.get("page", "1")

    def read() -> tuple[ProposalView, Diff, int]:
        page = _page_number(asked)
        proposal = site.desk.proposal(person.caller, proposal_id)
        return proposal, rows_of(site, person.caller, proposal, page), page

    arguments = {"proposal_id": proposal_id, "page": asked}
    proposal, diff, page = site.govern(person.caller, "proposal_status", arguments, read)
    offered = actions(person.caller, site.confirm_rights(person.caller), proposal)
    response = site.page("review.html", person, r=review(proposal, diff, page, offered, site.now()))
    if "confirm" in offered:  # when the page is sent: nobody reads and types faster than a session opens
        response.background = BackgroundTask(site.desk.expect, proposal)
    return response


def rows_of(site: Site, caller: Caller, proposal: ProposalView, page: int) -> Diff:
    """The diff with the rows of one page.

    The proposal freezes its first rows; those after them are read from the dry run's shadow, and only while that
    still holds exactly the proposed rows.
    """
    start = (page - 1) * ROWS_PER_PAGE
    frozen = proposal.diff
    if start == 0 or start < len(frozen.rows):
        return replace(frozen, rows=frozen.rows[start : start + ROWS_PER_PAGE], page_start=start)
    if start >= frozen.total_rows:
        raise NotFound("The diff has no such page.", "Nothing was shown.", "Go back to the first page of the review.")
    live = site.desk.diff(caller, proposal.dry_run_id, None, start, ROWS_PER_PAGE)
    if live.tables_root != frozen.tables_root:
        raise WrongState(
            "The dry run no longer holds the rows that were proposed.",
            "These further rows are not shown.",
            "Read the first pages, which are frozen with the proposal, or propose the dry run again.",
        )
    return live


def _page_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) and len(text) <= 9):
        raise NotFound("The diff has no such page.", "Nothing was shown.", "Go back to the first page of the review.")
    return int(text)
