"""Deciding on a page: what a form must carry, that each decision reaches the desk once, and how outcomes are shown."""

import threading
from collections.abc import Callable
from dataclasses import replace

import httpx2
import pytest

from audit.errors import AuditUnavailable
from mcp_server.errors import ConfirmationRefused, WrongState
from shadow.errors import Diverged, Drifted, OutcomeUnknown, ReplayPostponed
from tests.acceptance.pages_desk import DIGEST, MemoryDesk, sample_proposal
from tests.acceptance.pages_server import REVIEW, PagesServer, fields, send

pytest_plugins = ["tests.acceptance.pages_fixtures"]
StartPages = Callable[[MemoryDesk], PagesServer]
SENTENCES = ("This happened to it.", "That did not happen.", "Do this next.")


def outcomes(pages: PagesServer, tool: str) -> list[str | None]:
    return [event.outcome for event in pages.audit.tail(50) if event.tool == tool and event.kind == "outcome"]


def test_typing_the_rows_confirms_once_and_shows_the_receipt(pages: PagesServer) -> None:
    with pages.logged_in("rita") as client:
        answer = send(client, "confirm", rows="7")
        assert (answer.status_code, answer.headers["location"]) == (303, REVIEW)
        page = client.get(REVIEW).text
    assert pages.desk.calls == [("confirm", "rita", (DIGEST, 7))]
    assert "Applied on production" in page
    assert "4711" in page
    assert f'action="{REVIEW}/confirm"' not in page
    assert outcomes(pages, "confirm") == ["ok"]


@pytest.mark.parametrize("typed", ["", "x", "-7", "7.0", "٧", "7 rows", "1234567890"])
def test_what_is_no_number_of_rows_never_reaches_the_desk(pages: PagesServer, typed: str) -> None:
    with pages.logged_in("rita") as client:
        answer = send(client, "confirm", rows=typed)
    assert answer.status_code == 409
    assert "Nothing was replayed." in answer.text
    assert pages.desk.calls == []
    assert outcomes(pages, "confirm") == ["refused:ConfirmationRefused"]


def test_another_digest_is_refused_and_said_so(pages: PagesServer) -> None:
    with pages.logged_in("rita") as client:
        answer = send(client, "confirm", rows="7", digest="00" * 32)
    assert answer.status_code == 409
    assert "The digest or the number is not this proposal" in answer.text


def forged(client: httpx2.Client, headers: dict[str, str], **changes: str) -> httpx2.Response:
    hidden = fields(client.get(REVIEW).text, f"{REVIEW}/confirm")
    return client.post(f"{REVIEW}/confirm", data=hidden | {"rows": "7"} | changes, headers=headers)


@pytest.mark.parametrize("csrf", ["", "made-up", "é"])
def test_a_form_without_the_session_s_token_does_nothing_and_is_audited(pages: PagesServer, csrf: str) -> None:
    with pages.logged_in("rita") as client:
        assert forged(client, {}, csrf=csrf).status_code == 403
    assert pages.desk.calls == []
    assert outcomes(pages, "confirm") == ["denied"]


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", "https://127.0.0.1", "http://127.0.0.1:1", "http://127.0.0.1.evil.example", ""],
)
def test_a_form_from_another_origin_does_nothing(pages: PagesServer, origin: str) -> None:
    with pages.logged_in("rita") as client:
        assert forged(client, {"Origin": origin}).status_code == 403
    assert pages.desk.calls == []


def test_without_an_origin_the_referer_must_be_ours(pages: PagesServer) -> None:
    with pages.logged_in("rita") as client:
        del client.headers["Origin"]
        assert forged(client, {}).status_code == 403
        assert forged(client, {"Referer": "http://evil.example/review"}).status_code == 403
        assert pages.desk.calls == []
        assert forged(client, {"Referer": f"{pages.base_url}{REVIEW}"}).status_code == 303


def test_without_a_session_a_form_does_nothing(pages: PagesServer) -> None:
    with pages.browser() as client:
        answer = client.post(f"{REVIEW}/confirm", data={"csrf": "x", "digest": DIGEST, "rows": "7"})
    assert answer.status_code == 401
    assert pages.desk.calls == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"csrf=a&csrf=b", "application/x-www-form-urlencoded", 400),
        (b"csrf=%ff", "application/x-www-form-urlencoded", 400),
        (b"x=1&" * 30 + b"y=1", "application/x-www-form-urlencoded", 400),
        (b"x=" + b"a" * 70_000, "application/x-www-form-urlencoded", 413),
    ],
)
def test_a_body_that_no_form_of_ours_sends_is_refused(pages: PagesServer, body: bytes, kind: str, status: int) -> None:
    with pages.logged_in("rita") as client:
        answer = client.post(f"{REVIEW}/confirm", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert pages.desk.calls == []


@pytest.mark.parametrize("verb", ["confirm", "reject", "approve", "escalate"])
def test_a_decision_cannot_be_made_by_a_get(pages: PagesServer, verb: str) -> None:
    with pages.logged_in("rita") as client:
        assert client.get(f"{REVIEW}/{verb}").status_code == 405
    assert pages.desk.calls == []


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Drifted(*SENTENCES), 409),
        (Diverged(*SENTENCES), 409),
        (ConfirmationRefused(*SENTENCES), 409),
        (WrongState(*SENTENCES), 409),
        (OutcomeUnknown(*SENTENCES), 504),
        (ReplayPostponed(*SENTENCES), 503),
        (AuditUnavailable(*SENTENCES), 503),
    ],
)
def test_an_outcome_is_a_page_with_its_three_sentences_and_status(
    pages: PagesServer, failure: Exception, status: int
) -> None:
    pages.desk.failure = failure
    with pages.logged_in("rita") as client:
        answer = send(client, "confirm", rows="7")
    assert answer.status_code == status
    assert all(sentence in answer.text for sentence in SENTENCES)
    assert f'href="{REVIEW}"' in answer.text


def test_a_crash_shows_nothing_of_its_text_and_logs_none_of_it(
    pages: PagesServer, caplog: pytest.LogCaptureFixture
) -> None:
    pages.desk.failure = RuntimeError("DETAIL: Key (email)=(ann@example.com)")
    with pages.logged_in("rita") as client:
        answer = send(client, "confirm", rows="7")
    assert answer.status_code == 500
    assert answer.headers["content-security-policy"]
    assert "ann@example.com" not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text
    assert outcomes(pages, "confirm") == ["crash:RuntimeError"]


def test_an_intern_may_read_nothing_of_it_and_confirm_nothing(pages: PagesServer) -> None:
    with pages.logged_in("ines") as client:
        csrf = fields(client.get("/review").text, "/logout")["csrf"]
        answer = client.post(f"{REVIEW}/confirm", data={"csrf": csrf, "digest": DIGEST, "rows": "7"})
    assert answer.status_code == 403
    assert pages.desk.calls == []
    assert outcomes(pages, "confirm") == ["denied"]


def test_a_rep_asks_an_engineer_answers_and_the_rep_sees_it(pages_on: StartPages) -> None:
    pages = pages_on(MemoryDesk(view=replace(sample_proposal(), decision="engineer")))
    with pages.logged_in("rita") as rita, pages.logged_in("erik") as erik:
        assert send(rita, "escalate", question="Is the amount right?").status_code == 303
        assert "Is the amount right?" in erik.get(REVIEW).text
        assert send(erik, "approve", comment="It is, I checked the invoice.").status_code == 303
        page = rita.get(REVIEW).text
    assert "erik approved:" in page
    assert "It is, I checked the invoice." in page
    assert [(verb, who) for verb, who, _ in pages.desk.calls] == [("escalate", "rita"), ("approve", "erik")]


def test_a_rejection_ends_it_and_shows_why(pages: PagesServer) -> None:
    with pages.logged_in("erik") as client:
        assert send(client, "reject", comment="Wrong contract.").status_code == 303
        page = client.get(REVIEW).text
    assert "Wrong contract." in page
    assert f'action="{REVIEW}/confirm"' not in page


@pytest.mark.parametrize("comment", ["", "  ", " . ", "x" * 4001])
def test_a_rejection_needs_words(pages: PagesServer, comment: str) -> None:
    with pages.logged_in("erik") as client:
        assert send(client, "reject", comment=comment).status_code == 409
    assert pages.desk.calls == []


def test_a_client_that_goes_away_does_not_interrupt_a_replay(pages_on: StartPages) -> None:
    desk = MemoryDesk(gate=threading.Event())
    pages = pages_on(desk)
    with pages.logged_in("rita") as client:
        hidden = fields(client.get(REVIEW).text, f"{REVIEW}/confirm")
        with pytest.raises(httpx2.ReadTimeout):
            client.post(f"{REVIEW}/confirm", data=hidden | {"rows": "7"}, timeout=0.5)
        assert desk.entered.wait(10)
    assert desk.gate is not None
    desk.gate.set()
    with pages.logged_in("rita") as client:
        deadline = threading.Event()
        for _ in range(100):
            if outcomes(pages, "confirm") == ["ok"]:
                break
            deadline.wait(0.1)
        assert outcomes(pages, "confirm") == ["ok"]
        assert "Applied on production" in client.get(REVIEW).text
