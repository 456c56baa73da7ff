"""Requests that no page of ours sends, and what the audit trail says of them."""

import httpx2
import pytest

from tests.acceptance.pages_server import REVIEW, PagesServer, fields

pytest_plugins = ["tests.acceptance.pages_fixtures"]
FORM = {"content-type": "application/x-www-form-urlencoded"}


def told(pages: PagesServer) -> list[tuple[str, str, str | None]]:
    """Who did what with which outcome, oldest first."""
    events = reversed(pages.audit.tail(50))
    return [(event.person, event.tool, event.outcome) for event in events if event.kind == "outcome"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"csrf=x", {"content-type": "text/plain"}, 415),
        (b"\xff=\xff", FORM, 400),
        (b"rows=1&rows=2", FORM, 400),
        (b"a=" + b"x" * 70_000, FORM, 413),
    ],
)
def test_a_form_that_cannot_be_read_is_audited(
    pages: PagesServer, body: bytes, headers: dict[str, str], status: int
) -> None:
    with pages.logged_in("rita") as client:
        assert client.post(f"{REVIEW}/confirm", content=body, headers=headers).status_code == status
    assert told(pages)[-1] == ("rita", "confirm", "invalid_arguments")
    with pages.browser() as stranger:
        assert stranger.post(f"{REVIEW}/confirm", content=body, headers=headers).status_code == 401


def test_logging_out_is_audited_and_ends_the_session(pages: PagesServer) -> None:
    with pages.logged_in("rita") as client:
        cookies = dict(client.cookies)
        hidden = fields(client.get("/review").text, "/logout")
        assert client.post("/logout", data=hidden).status_code == 200
        assert told(pages)[-1] == ("rita", "logout", "ok")
        with httpx2.Client(base_url=pages.base_url, cookies=cookies) as replayed:
            assert replayed.get("/review").status_code == 401


@pytest.mark.parametrize("page", ["0", "-1", "1e3", "٣", "9" * 12, "%00"])
def test_a_page_that_is_no_number_is_audited(pages: PagesServer, page: str) -> None:
    with pages.logged_in("rita") as client:
        assert client.get(f"{REVIEW}?page={page}").status_code == 404
    assert told(pages)[-1] == ("rita", "proposal_status", "refused:NotFound")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[", "a@b"])
def test_no_other_name_reaches_the_pages(pages: PagesServer, host: str) -> None:
    with pages.logged_in("rita") as client:
        for path in ("/review", REVIEW, "/login?token=x", "/static/style.css"):
            assert client.get(path, headers={"Host": host}).status_code in (400, 421), path
        assert client.get("/review", headers={"Host": "localhost:1"}).status_code == 200


def test_an_address_with_a_nul_is_refused_and_audited(pages: PagesServer) -> None:
    with pages.logged_in("rita") as client:
        assert client.get("/review/pr_%00").status_code == 404
    assert told(pages)[-1][:2] == ("rita", "proposal_status")
