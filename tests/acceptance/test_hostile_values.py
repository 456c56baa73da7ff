"""Hostile values of rows stay values on every way out: to models fenced and capped, to terminals and pages inert."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from playwright.sync_api import Browser

from mcp_server.demo.stage import Stage, staged
from shadow.fenced import fenced, fenced_key
from tests.acceptance.test_pages_browser import browser  # noqa: F401 the fixture
from tests.hostile.outputs import Shown, Story, store
from tests.hostile.values import NASTY, PAYLOADS, Nasty

#: What moves a cursor, ends a line, reorders, hides or draws nothing; \n is the words' own.
ACTING = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u034f\u115f\u1160\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff"
    "\ufff0-\uffff\ud800-\udfff\U000e0000-\U000e01ef]"
)
MARK = re.compile(r"zq\d\d[az]")
#: Ways out to a model that must have shown every value, so that nothing passes by showing nothing.
WHOLE = (
    "find_tenant", "query_shadow", "error of a query", "error of a trigger", "show_diff", "resource", "prompts",
)  # fmt: skip
WORDS = (
    *WHOLE, "run_statement", "start_dry_run", "a step that deletes", "compare_dry_runs", "branch_dry_run",
    "list_dry_runs", "propose", "proposal_status", "progress", "error of resource",
)  # fmt: skip
TERMINAL = (
    "dry-run", "dry-run --json", "proposals", "compare", "inspect", "audit tail", "audit tail --json", "confirm",
)  # fmt: skip
#: Characters kept of one value anywhere; the longest cut is the pages'.
LONGEST = 620


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(
        tmp_path_factory.mktemp("hostile-values"), "\n[limits]\ncalls_per_minute = 100000\nreturned_kb = 4096\n"
    ) as stage:
        store(stage)
        yield stage


@pytest.fixture(scope="module")
def shown(stage: Stage) -> Shown:
    return Story(stage).tell()


def unfenced(words: str) -> list[str]:
    """Lines with a mark that is not between backticks: the value, or a part of it, got out."""
    return [line[:300] for line in words.split("\n") if any(MARK.search(outside) for outside in line.split("`")[::2])]


def inert(text: str, longest: int = LONGEST) -> None:
    """Nothing in the text acts on a terminal, and no value is longer than it may be."""
    assert [f"U+{ord(found[0]):04X} in {text[max(0, found.start() - 60) : found.end() + 20]!r}"
            for found in ACTING.finditer(text)] == []  # fmt: skip
    assert "A" * (longest + 1) not in text


@pytest.mark.parametrize("path", WORDS)
def test_models_are_told_values_fenced_and_capped(shown: Shown, path: str) -> None:
    words = shown.words[path]
    inert(words, 4000 if path == "prompts" else LONGEST)
    if path != "error of resource":  # which repeats the address it was asked for
        assert unfenced(words) == []
    if path in WHOLE:
        assert [one.name for one in NASTY if one.mark not in words] == []


def test_no_way_out_to_a_model_is_left_out(shown: Shown) -> None:
    assert set(shown.words) == set(WORDS)
    assert set(shown.terminal) == set(TERMINAL)


def test_structured_values_are_the_rows_own_as_json_and_cut(shown: Shown) -> None:
    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for name, item in value.items():
                yield name
                yield from texts(item)
        elif isinstance(value, list):
            for item in value:
                yield from texts(item)
        elif isinstance(value, str):
            yield value

    everything = [text for value in shown.structured for text in texts(value)]
    assert any(text == NASTY[0].text for text in everything), "structured content holds raw values: documented"
    assert max(map(len, everything)) < LONGEST


@pytest.mark.parametrize("path", TERMINAL)
def test_terminals_are_shown_nothing_that_acts(shown: Shown, path: str) -> None:
    text = shown.terminal[path]
    assert text
    if path.endswith("--json"):
        assert text.isascii()
        assert not ACTING.search(text)
        return
    inert(text)
    assert "Traceback" not in text


def test_the_terminal_showed_the_values_at_all(shown: Shown) -> None:
    for path, least in (("dry-run", 20), ("confirm", 30)):
        assert len({found for found in MARK.findall(shown.terminal[path]) if found.endswith("a")}) >= least, path
    assert unfenced(shown.terminal["dry-run"].split("statement 2:")[1]) == []
    assert "zq06a" in shown.terminal["dry-run"].split("statement 2:")[1]
    assert "Production changed since the dry run: notes (`zq" in shown.terminal["confirm"]
    assert unfenced(shown.terminal["confirm"].split("Production changed")[1]) == []


@pytest.mark.parametrize("log", ["stdio.log", "pages.log"])
def test_logs_hold_no_value(shown: Shown, log: str) -> None:
    assert MARK.findall(shown.logs[log]) == []
    assert not ACTING.search(shown.logs[log])


class Skeleton(HTMLParser):
    """A page without its texts: elements in order, each with the names of its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        assert not any(MARK.search(value or "") for _, value in attrs), attrs

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data[:80]}")


def test_a_page_of_hostile_rows_has_the_elements_of_a_harmless_one(shown: Shown) -> None:
    hostile, harmless = Skeleton(shown.pages["review"]), Skeleton(shown.pages["harmless"])
    assert hostile.elements == harmless.elements
    assert [one.name for one in NASTY if one.mark not in hostile.text] == []
    for page in (hostile, Skeleton(shown.pages["queue"])):
        inert(page.text.replace("\t", " "))


def test_in_a_browser_no_value_runs_loads_or_leads_anywhere(stage: Stage, shown: Shown, browser: Browser) -> None:  # noqa: F811
    page = browser.new_context(base_url=stage.base_url).new_page()
    happened: list[str] = []
    page.on("dialog", lambda dialog: (happened.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda message: happened.append(message.text))
    page.on("request", lambda asked: happened.append(asked.url) if not asked.url.startswith(stage.base_url) else None)
    page.goto(stage.login_link("rep"))
    page.goto(shown.review)
    assert [one for one in happened if not one.startswith("data:")] == []
    assert page.locator("script, img, svg, iframe, meta[http-equiv], style, h1 ~ h1").count() == 0
    assert page.get_by_text(PAYLOADS["script"]).count() > 0
    assert all(link.startswith(("/", "#")) for link in page.locator("a").evaluate_all(
        "all => all.map(one => one.getAttribute('href'))"))  # fmt: skip
    page.context.close()


@pytest.mark.parametrize("one", NASTY, ids=lambda one: one.name)
def test_a_value_in_a_sentence_of_ours_stays_between_its_backticks(one: Nasty) -> None:
    for sentence in (f"It says {fenced(one.text)}.", f"notes ({fenced_key([one.text, None, '17'])}): gone"):
        assert sentence.count("`") == 2
        assert "\n" not in sentence
        assert len(sentence) < 2500
        assert unfenced(sentence) == []
    assert json.dumps(fenced_key(["dr_1", "a.b-c:17"])) == '"dr_1, a.b-c:17"'
