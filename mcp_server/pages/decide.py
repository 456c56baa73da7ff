"""What a person does with a proposal: confirm, reject, approve, escalate; all go to the desk through the governor."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mcp_server.errors import ConfirmationRefused
from mcp_server.pages.forms import Form
from mcp_server.pages.site import Person, Site

#: Digits of a typed row count; more cannot be a number of rows.
ROW_DIGITS = 9
COMMENT_CHARACTERS = 4000


def confirm(site: Site, request: Request, person: Person, form: Form) -> Response:
    """A person's yes to one digest: replays on production; a second send finds the receipt's page."""
    proposal_id, digest, typed = _proposal_id(request), form.get("digest", ""), form.get("rows", "")
    site.govern(
        person.caller,
        "confirm",
        {"proposal_id": proposal_id, "digest": digest, "typed_rows": typed},
        lambda: site.desk.confirm(person.caller, proposal_id, digest, typed_rows(typed)),
    )
    return back(site, request)


def reject(site: Site, request: Request, person: Person, form: Form) -> Response:
    """A person's no; the proposal ends."""
    proposal_id, comment = _proposal_id(request), form.get("comment", "")
    site.govern(
        person.caller,
        "reject",
        {"proposal_id": proposal_id, "comment": comment},
        lambda: site.desk.reject(person.caller, proposal_id, _words(comment, "comment")),
    )
    return back(site, request)


def approve(site: Site, request: Request, person: Person, form: Form) -> Response:
    """An engineer's yes to an escalated proposal; it still has to be confirmed."""
    proposal_id, comment = _proposal_id(request), form.get("comment", "")
    site.govern(
        person.caller,
        "approve",
        {"proposal_id": proposal_id, "comment": comment},
        lambda: site.desk.approve(person.caller, proposal_id, _words(comment, "comment")),
    )
    return back(site, request)


def escalate(site: Site, request: Request, person: Person, form: Form) -> Response:
    """The rep's question to an engineer, asked about this proposal's dry run."""
    proposal_id, question = _proposal_id(request), form.get("question", "")
    site.govern(
        person.caller,
        "escalate",
        {"proposal_id": proposal_id, "question": question},
        lambda: site.desk.escalate(person.caller, proposal_id, _words(question, "question")),
    )
    return back(site, request)


def back(site: Site, request: Request) -> Response:
    """To the review by GET, so that reloading the page sends nothing twice."""
    return RedirectResponse(f"{site.root}/review/{_proposal_id(request)}", status_code=303)


def _proposal_id(request: Request) -> str:
    return str(request.path_params["proposal_id"])


def typed_rows(text: str) -> int:
    """The number a person typed. Raises ConfirmationRefused when it is none."""
    digits = text.strip().replace(",", "")
    if not digits.isascii() or not digits.isdigit() or len(digits) > ROW_DIGITS:
        raise ConfirmationRefused(
            "The number of rows was not typed as a number.",
            "Nothing was replayed.",
            "Read the first sentence of the review again and type the number it names.",
        )
    return int(digits)


def _words(text: str, what: str) -> str:
    """A comment or question as typed, without the blank around it. Raises ConfirmationRefused when there is none."""
    words = text.strip()
    if not words.strip(" .") or len(words) > COMMENT_CHARACTERS:
        raise ConfirmationRefused(
            f"The {what} is empty or longer than {COMMENT_CHARACTERS:,} characters.",
            "Nothing was decided.",
            "Say in a sentence or two why, for the person who reads it and for the audit log.",
        )
    return words
