"""A person with a real browser and no JavaScript: log in, read the diff, type the rows, confirm; and an axe check."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.acceptance.pages_desk import DIGEST, MemoryDesk, sample_proposal
from tests.acceptance.pages_server import REVIEW, PagesServer

pytest_plugins = ["tests.acceptance.pages_fixtures"]
CHROMIUM = os.environ.get("SHADOWDESK_TEST_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-quic", "--disable-background-networking", "--no-first-run",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
Scheme = Literal["light", "dark"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).is_file():
        pytest.skip(f"NO CHROMIUM at {CHROMIUM}: the pages were tried by no browser (apt-get install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def person(browser: Browser, pages: PagesServer) -> Iterator[Page]:
    """The rep's browser, JavaScript off."""
    context = browser.new_context(java_script_enabled=False, base_url=pages.base_url)
    page = context.new_page()
    page.goto(pages.login_path("rita"))
    yield page
    context.close()


def test_a_person_logs_in_reads_types_the_rows_and_confirms(person: Page, pages: PagesServer) -> None:
    expect(person).to_have_url(re.compile("/review$"))
    person.get_by_role("link", name="pr_").click()
    expect(person.get_by_role("heading", level=1)).to_contain_text("Fix for tenant Acme")
    expect(person.locator("#summary")).to_contain_text("7 rows would change for tenant Acme.")
    table = person.get_by_role("region", name="contracts: 2 rows changed on this page")
    expect(table.get_by_role("rowheader", name="17")).to_be_visible()
    expect(table.locator("del").first).to_have_text(re.compile(r"^was\s+−\s+3$"))
    person.get_by_label("Number of rows that change").fill("7")
    person.get_by_role("button", name="Replay on production for tenant Acme").click()
    expect(person.get_by_role("heading", name="Applied on production")).to_be_visible()
    assert pages.desk.calls == [("confirm", "rita", (DIGEST, 7))]


def test_a_wrong_number_of_rows_is_explained_and_leads_back(person: Page) -> None:
    person.goto(REVIEW)
    person.get_by_label("Number of rows that change").fill("8")
    person.get_by_role("button", name="Replay on production for tenant Acme").click()
    expect(person.get_by_role("heading", level=1)).to_have_text("Not confirmed")
    expect(person.locator("main")).to_contain_text("Nothing was replayed.")
    person.get_by_role("link", name="Back to the review").click()
    expect(person.get_by_label("Number of rows that change")).to_be_visible()


def test_a_hostile_value_runs_nothing_even_with_scripts_on(browser: Browser, pages: PagesServer) -> None:
    context = browser.new_context(base_url=pages.base_url)
    page = context.new_page()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(pages.login_path("rita"))
    page.goto(REVIEW)
    expect(page.get_by_text("<script>alert(1)</script>⟨U+202E⟩")).to_be_visible()
    assert dialogs == []
    context.close()


def test_nothing_reaches_beyond_our_origin_and_nothing_is_blocked(browser: Browser, pages: PagesServer) -> None:
    context = browser.new_context(base_url=pages.base_url)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(pages.login_path("rita"))
    page.goto(REVIEW)
    assert any(url.endswith("/static/style.css") for url in asked)
    assert all(url.startswith((pages.base_url, "data:")) for url in asked)
    assert complaints == []
    context.close()


def test_the_keyboard_reaches_every_control_and_shows_where_it_is(person: Page) -> None:
    person.goto(REVIEW)
    person.keyboard.press("Tab")
    expect(person.get_by_role("link", name="Skip to the content")).to_be_focused()
    field = person.get_by_label("Number of rows that change")
    field.focus()
    person.keyboard.press("Tab")
    button = person.get_by_role("button", name="Replay on production for tenant Acme")
    expect(button).to_be_focused()
    expect(button).to_have_css("outline-style", "solid")


PAGES: tuple[tuple[str, str], ...] = (
    ("rita", "/review"), ("rita", REVIEW), ("erik", REVIEW), ("rita", "/review/pr_none"), ("", "/review"),
)  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(
    browser: Browser, pages_on: Callable[[MemoryDesk], PagesServer], scheme: Scheme
) -> None:
    view = replace(sample_proposal(), state="escalated", question="May I?", rehearsal_notes=("One row more.",))
    pages = pages_on(MemoryDesk(view=view))
    for person, path in PAGES:
        context = browser.new_context(color_scheme=scheme, base_url=pages.base_url)
        page = context.new_page()
        if person:
            page.goto(pages.login_path(person))
        page.goto(path)
        results = Axe().run(page)
        assert [brief(violation) for violation in results.response["violations"]] == [], f"{person} {path} {scheme}"
        assert results.response["passes"], "axe ran no rule"
        context.close()


def brief(violation: dict[str, Any]) -> tuple[str, list[str]]:
    """A violation's rule and the elements it is about."""
    return violation["id"], [node["html"] for node in violation["nodes"]]
