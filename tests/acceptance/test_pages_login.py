"""Logging in to the pages: one link, one use, one person; and what those see who are not logged in."""

import re
import threading
from datetime import timedelta

import pytest

from tests.acceptance.pages_desk import PROPOSAL_ID
from tests.acceptance.pages_server import REVIEW, PagesServer, fields, send

pytest_plugins = ["tests.acceptance.pages_fixtures"]


def test_a_link_logs_its_person_in_and_its_cookie_is_out_of_reach(pages: PagesServer) -> None:
    with pages.browser() as client:
        answer = client.get(pages.login_path("rita"))
        assert (answer.status_code, answer.headers["location"]) == (303, "/review")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "secure" not in cookie, "the base address is http here"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "rita, rep" in client.get("/review").text


def test_a_link_works_once_also_for_two_at_the_same_moment(pages: PagesServer) -> None:
    path = pages.login_path("rita")
    statuses: list[int] = []

    def use() -> None:
        with pages.browser() as client:
            statuses.append(client.get(path).status_code)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [303, 401, 401, 401]


def test_a_program_that_previews_a_link_does_not_use_it_up(pages: PagesServer) -> None:
    path = pages.login_path("rita")
    with pages.browser() as client:
        assert client.head(path).status_code == 405
        assert client.get(path).status_code == 303


@pytest.mark.parametrize("path", ["/login", "/login?token=", "/login?token=made-up"])
def test_a_made_up_link_logs_nobody_in(pages: PagesServer, path: str) -> None:
    with pages.browser() as client:
        answer = client.get(path)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers


def test_a_link_that_is_over_logs_nobody_in(pages: PagesServer) -> None:
    with pages.browser() as client:
        assert client.get(pages.login_path("rita", timedelta(seconds=-1))).status_code == 401


def test_a_link_of_somebody_who_left_logs_nobody_in(pages: PagesServer) -> None:
    with pages.browser() as client:
        assert client.get(pages.login_path("nobody")).status_code == 401


@pytest.mark.parametrize("path", ["/review", REVIEW, f"{REVIEW}?page=2"])
def test_without_a_session_every_page_is_a_401_that_names_the_command_and_holds_no_link(
    pages: PagesServer, path: str
) -> None:
    with pages.browser() as client:
        answer = client.get(path)
        assert answer.status_code == 401
        assert "shadowdesk login" in answer.text
        assert "token" not in answer.text
        assert not re.findall(r"<a (?!class=\"skip\")", answer.text)
        assert "Acme" not in answer.text


def test_a_forged_cookie_is_no_session(pages: PagesServer) -> None:
    with pages.browser() as client:
        client.cookies.set("shadowdesk", "made-up")
        assert client.get("/review").status_code == 401


def test_logging_out_ends_the_session_in_the_store(pages: PagesServer) -> None:
    with pages.logged_in("rita") as client:
        cookie = client.cookies["shadowdesk"]
        csrf = fields(client.get("/review").text, "/logout")
        assert client.post("/logout", data=csrf).status_code == 200
    with pages.browser() as client:
        client.cookies.set("shadowdesk", cookie)
        assert client.get("/review").status_code == 401


def test_a_proposal_one_may_not_see_looks_like_one_that_is_not_there(pages: PagesServer) -> None:
    with pages.logged_in("ines") as client:
        hidden, missing = client.get(REVIEW), client.get("/review/pr_zzzzzzzzzzzz")
        assert (hidden.status_code, missing.status_code) == (404, 404)
        assert hidden.text == missing.text
        assert PROPOSAL_ID not in client.get("/review").text


def test_reads_and_refused_reads_are_audited_with_their_person(pages: PagesServer) -> None:
    with pages.logged_in("rita") as client:
        client.get(REVIEW)
    with pages.logged_in("ines") as client:
        client.get(REVIEW)
    told = [(e.person, e.tool, e.channel, e.outcome) for e in pages.audit.tail(20) if e.kind == "outcome"]
    assert ("rita", "proposal_status", "page", "ok") in told
    assert ("ines", "proposal_status", "page", "refused:NotFound") in told
    assert ("rita", "login", "page", "ok") in told


@pytest.mark.parametrize("path", ["/review", "/login?token=x", "/static/style.css", "/no-such-page", "/"])
def test_every_answer_carries_the_security_headers(pages: PagesServer, path: str) -> None:
    with pages.browser() as client:
        headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'; img-src 'self' data:;")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] in ("same-origin", "no-referrer")


def test_a_session_of_one_person_cannot_send_the_form_of_another(pages: PagesServer) -> None:
    with pages.logged_in("rita") as rita, pages.logged_in("erik") as erik:
        stolen = fields(rita.get(REVIEW).text, f"{REVIEW}/confirm")
        answer = erik.post(f"{REVIEW}/confirm", data=stolen | {"rows": "7"})
        assert answer.status_code == 403
        assert send(rita, "confirm", rows="7").status_code == 303
