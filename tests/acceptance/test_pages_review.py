"""What the review page tells: the sentence first, hostile values made harmless, pages of rows, and the right forms."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from mcp_server.pages.present import ROWS_PER_PAGE
from tests.acceptance.pages_desk import DRY_RUN_ID, MemoryDesk, cell, sample_proposal, sample_rows
from tests.acceptance.pages_server import REVIEW, PagesServer

pytest_plugins = ["tests.acceptance.pages_fixtures"]
StartPages = Callable[[MemoryDesk], PagesServer]


def review_of(pages: PagesServer, person: str = "rita", query: str = "") -> str:
    with pages.logged_in(person) as client:
        answer = client.get(REVIEW + query)
        assert answer.status_code == 200
        return answer.text


def offered(page: str) -> set[str]:
    return set(re.findall(rf'action="{REVIEW}/([a-z]+)"', page))


def test_the_first_sentence_says_how_many_rows_of_which_tables_change_for_whom(pages: PagesServer) -> None:
    page = review_of(pages)
    said = re.search(r'id="summary">([^<]*)<', page)
    assert said
    assert said[1].startswith(
        "7 rows would change for tenant Acme. contracts: 2 rows changed; line_items: 3 rows added"
    )
    assert page.index('id="summary"') < page.index('id="beyond"') < page.index('id="rows-heading"')


def test_it_shows_measures_what_happened_beyond_the_statements_and_the_rep_s_words(pages: PagesServer) -> None:
    page = review_of(pages)
    for shown in (
        "120000.00", "119990.00", "−10.00", "2 rows of line_items (cascade)", "signed by the wrong person",
        "No rule asks for more.", "Rehearsed 4 min ago by rita", "The new director signs", "now() = 2026-02-03",
    ):  # fmt: skip
        assert shown in page


def test_old_and_new_stand_in_del_and_ins_with_signs_and_hidden_words(pages: PagesServer) -> None:
    page = review_of(pages)
    assert re.search(
        r'<del><span class="hidden">was </span><span aria-hidden="true">− </span>\s*<span class="value">3<', page
    )
    assert re.search(
        r'<ins><span class="hidden">now </span><span aria-hidden="true">\+ </span>\s*<span class="value">8<', page
    )
    assert re.search(r'<th scope="row">\s*<span class="value">17<', page)
    assert '<span class="mark">NULL</span>' in page
    assert '<span class="mark">empty text</span>' in page
    assert re.search(r"<code>net</code>.*?changed.*?30.*?45", page, re.DOTALL)
    assert "the clock: set anew at replay" in page


def test_a_hostile_value_is_text_with_its_hidden_characters_visible(pages: PagesServer) -> None:
    page = review_of(pages)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;⟨U+202E⟩⟨ESC⟩[31m&#34;&#39; onload=x" in page


def test_a_long_value_is_cut_and_says_its_length(pages: PagesServer) -> None:
    page = review_of(pages)
    assert "x" * 601 not in page
    assert "(900 characters" in page


def test_hostile_words_of_people_and_names_are_text_too(pages_on: StartPages) -> None:
    bad = '"><img src=x onerror=alert(1)>\u202e'
    view = replace(
        sample_proposal(), tenant_label=bad, request=bad, purpose=bad, question=bad, comment=bad, reasons=(bad,),
        rehearsal_notes=(bad,), outcome_message=bad,
    )  # fmt: skip
    page = review_of(pages_on(MemoryDesk(view=view)))
    assert "<img" not in page
    assert "\u202e" not in page


def test_more_rows_than_a_page_are_turned_and_each_is_shown_once(pages_on: StartPages) -> None:
    many = ROWS_PER_PAGE + 3
    rows = tuple(replace(sample_rows()[0], key=(("id", str(100000 + n)),)) for n in range(many))
    view = sample_proposal()
    view = replace(view, diff=replace(view.diff, rows=rows, total_rows=many))
    pages = pages_on(MemoryDesk(view=view))
    first, second = review_of(pages), review_of(pages, query="?page=2")
    keys = [set(re.findall(r"\b1000\d\d\b", page)) for page in (first, second)]
    assert (len(keys[0]), len(keys[1])) == (ROWS_PER_PAGE, 3)
    assert not keys[0] & keys[1]
    assert f"Rows 1 to {ROWS_PER_PAGE} of {many}" in first


@pytest.mark.parametrize("query", ["?page=0", "?page=-1", "?page=9", "?page=x", "?page=99999999999"])
def test_a_page_of_rows_that_is_not_there_is_a_404(pages: PagesServer, query: str) -> None:
    with pages.logged_in("rita") as client:
        assert client.get(REVIEW + query).status_code == 404


def test_rows_beyond_the_frozen_ones_come_from_the_shadow_only_while_it_holds_the_proposed_rows(
    pages_on: StartPages,
) -> None:
    view = sample_proposal()
    frozen = replace(view, diff=replace(view.diff, total_rows=ROWS_PER_PAGE + 1))
    desk = MemoryDesk(view=frozen)
    pages = pages_on(desk)
    assert "Rows 51 to 51 of 51" in review_of(pages, query="?page=2")
    assert desk.calls == [("diff", "rita", (ROWS_PER_PAGE, ROWS_PER_PAGE))]
    desk.live_root = "cd" * 32
    with pages.logged_in("rita") as client:
        answer = client.get(f"{REVIEW}?page=2")
    assert answer.status_code == 409
    assert "no longer holds the rows that were proposed" in answer.text


def test_a_key_change_is_a_pair_that_names_its_other_half(pages_on: StartPages) -> None:
    gone = replace(sample_rows()[3], key=(("id", "5"),), rekeyed_to=(("id", "6"),), cells=(cell("qty", "1", None),))
    view = sample_proposal()
    page = review_of(pages_on(MemoryDesk(view=replace(view, diff=replace(view.diff, rows=(gone,))))))
    assert "its key becomes 6" in page


@pytest.mark.parametrize(
    ("person", "state", "decision", "verdict", "forms"),
    [
        ("rita", "pending", "self", None, {"confirm", "reject", "escalate"}),
        ("rita", "pending", "engineer", None, {"reject", "escalate"}),
        ("rita", "pending", "second", None, {"reject", "escalate"}),
        ("rita", "pending", "nobody", None, {"reject", "escalate"}),
        ("rita", "escalated", "engineer", None, {"reject"}),
        ("rita", "approved", "engineer", "approved", {"confirm", "reject"}),
        ("rita", "applied", "self", None, set()),
        ("rita", "rejected", "self", None, set()),
        ("rita", "unknown", "self", None, {"confirm"}),
        ("erik", "pending", "engineer", None, {"confirm", "reject"}),
        ("erik", "escalated", "engineer", None, {"confirm", "approve", "reject"}),
        ("erik", "pending", "nobody", None, {"reject"}),
    ],
)
def test_a_person_is_offered_the_forms_that_are_open_to_them(
    pages_on: StartPages, person: str, state: str, decision: str, verdict: str | None, forms: set[str]
) -> None:
    question = "May I?" if state in ("escalated", "approved") else None
    view = replace(sample_proposal(), state=state, decision=decision, verdict=verdict, question=question)
    desk = MemoryDesk(view=view)
    assert offered(review_of(pages_on(desk), person)) == forms
    assert desk.expected == ([view.id] if "confirm" in forms else [])


def test_the_confirm_button_names_the_target(pages: PagesServer) -> None:
    assert "Replay on production for tenant Acme</button>" in review_of(pages)


def test_the_queue_lists_what_its_reader_may_see(pages: PagesServer) -> None:
    with pages.logged_in("rita") as rita, pages.logged_in("ines") as ines:
        assert f'href="{REVIEW}"' in rita.get("/review").text
        assert "No proposal is waiting" in ines.get("/review").text
    assert DRY_RUN_ID not in review_of(pages).split('id="rows-heading"')[1]
