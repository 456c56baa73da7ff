"""The MCP App in a real browser, in a host's sandboxed frame: hostile values stay text, and one button asks for a link."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Frame, Page, expect

from differ.text import neutralise
from mcp_server.app.document import document
from mcp_server.tools.results import DiffResult, ProposalResult, diff_for_model
from tests.acceptance.pages_desk import sample_proposal
from tests.acceptance.test_pages_browser import Scheme, brief, browser  # noqa: F401 the fixture

HOST = (Path(__file__).parent / "app_host.html").read_text(encoding="utf-8")
HOME = "https://desk.example"
LINK = f"{HOME}/review/pr_aaaabbbbcccc"
RUNS = (
    "<img src=x onerror=\"parent.postMessage('ran','*');window.ran=1\">",
    "<script>window.ran=1;parent.postMessage('ran','*')</script>",
    '"><svg onload=window.ran=1>',
    "javascript:window.ran=1",
    "</script><script>window.ran=1</script>",
)
ACTS = "\x1b[31mred\x07\u202etxt\u2066\u200b\ufeff\x9b2J ⟨ESC⟩"
LONG = "x" * 100_000


def cell(column: str, before: str | None, after: str | None, **more: Any) -> dict[str, Any]:
    values = {"type": "text", "kind": "value", "paths": [], "more_paths": 0}
    return {"column": column, "before": before, "after": after, **values, **more}


def row(table: str, kind: str, key: str, *cells: dict[str, Any], origins: tuple[str, ...] = ()) -> dict[str, Any]:
    moved = {"rekeyed_to": None, "rekeyed_from": None}
    return {"table": table, "kind": kind, "key": [["id", key]], "cells": list(cells), "origins": list(origins), **moved}


def table(name: str, **counts: Any) -> dict[str, Any]:
    zero = {"inserted": 0, "updated": 0, "deleted": 0, "beyond": 0, "sink": False, "beyond_origins": [], "root": ""}
    return {"table": name, **zero, **counts}


def proposal(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A result as `propose` gives it, with the fields that the app draws."""
    tables = [
        table("contracts", updated=1),
        table("line_items", deleted=2, beyond=2, beyond_origins=["cascade"]),
    ]
    measure = {"name": "billing_total", "before": "120.00", "after": "72.00", "delta": "-48.00", "unit": "USD"}
    diff = {
        "tables": tables,
        "rows": list(rows),
        "total_rows": 3,
        "page_start": 0,
        "measures": [measure],
        "tables_root": "",
    }
    told = {
        "id": "pr_aaaabbbbcccc", "state": "pending", "tenant_label": "Acme", "rows": 3, "diff": diff,
        "beyond": ["Beyond your statements: 2 rows of line_items (cascade)."], "review_url": LINK, **more,
    }  # fmt: skip
    return {"content": [{"type": "text", "text": "In words."}], "structuredContent": told}


class Host:
    """The host page with the app in its frame."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def draw(self, theme: Scheme = "light") -> None:
        self.page.evaluate("([html, theme]) => draw(html, theme)", [document(HOME), theme])
        self.wait_for("ui/notifications/initialized")

    def wait_for(self, method: str) -> None:
        self.page.wait_for_function("(method) => seen.some((message) => message.method === method)", arg=method)

    def send(self, **message: Any) -> None:
        self.page.evaluate("(message) => send(message)", message)

    def result(self, answer: dict[str, Any]) -> None:
        self.send(method="ui/notifications/tool-input", params={"arguments": {}})
        self.send(method="ui/notifications/tool-result", params=answer)

    def seen(self, method: str | None = None) -> list[Any]:
        seen: list[Any] = self.page.evaluate("() => seen")
        return [message for message in seen if method is None or message.get("method") == method]

    @property
    def view(self) -> Frame:
        return self.page.frames[1]


@pytest.fixture
def host(browser: Browser) -> Iterator[Host]:  # noqa: F811 the fixture
    """A host's page; at its end the app has loaded nothing, run nothing of a value and complained of nothing."""
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.set_content(HOST)
    yield Host(page)
    assert [url for url in asked if not url.startswith("about:")] == []
    assert complaints == []
    context.close()


def test_the_handshake_is_the_specifications(host: Host) -> None:
    host.draw()
    (first, *_), methods = host.seen(), [message.get("method") for message in host.seen()]
    assert first == {
        "jsonrpc": "2.0", "id": 1, "method": "ui/initialize",
        "params": {
            "appInfo": {"name": "shadowdesk-diff", "version": "1"}, "protocolVersion": "2026-01-26",
            "appCapabilities": {"availableDisplayModes": ["inline"]},
        },
    }  # fmt: skip
    assert methods[:2] == ["ui/initialize", "ui/notifications/initialized"]
    host.result(proposal(row("contracts", "update", "17", cell("title", "old", "new"))))
    host.wait_for("ui/notifications/size-changed")
    host.send(id="bye", method="ui/resource-teardown", params={"reason": "over"})
    host.page.wait_for_function("() => seen.some((message) => message.id === 'bye' && message.result)")
    host.send(id="call", method="tools/call", params={"name": "confirm"})
    host.page.wait_for_function("() => seen.some((message) => message.id === 'call' && message.error)")
    assert {m["method"] for m in host.seen() if "method" in m} == {
        "ui/initialize", "ui/notifications/initialized", "ui/notifications/size-changed",
    }  # fmt: skip


def test_a_proposal_is_a_sentence_what_lies_beyond_and_its_rows(host: Host) -> None:
    host.draw()
    paths = [{"path": ["terms", 0], "kind": "changed", "before": "1", "after": "2"}]
    host.result(
        proposal(
            row("contracts", "update", "17", cell("title", "old", "new"), cell("terms", "[1]", "[2]", paths=paths),
                cell("changed_at", "a", "b", kind="clock"), origins=("statement 1",)),
            row("line_items", "delete", "4", cell("note", None, None), cell("name", "", None), origins=("cascade 1",)),
        )
    )  # fmt: skip
    view = host.view
    expect(view.get_by_role("heading", level=1)).to_have_text(
        "3 rows would change for tenant Acme. contracts: 1 row changed; line_items: 2 rows deleted"
    )
    expect(view.locator(".beyond")).to_have_text("Beyond your statements: 2 rows of line_items (cascade).")
    expect(view.get_by_text("billing_total: 120.00 → 72.00 (-48.00 USD)")).to_be_visible()
    contracts = view.get_by_role("region", name="contracts: 1 row shown")
    expect(contracts.locator("tbody tr")).to_have_count(3)
    expect(contracts.get_by_role("rowheader")).to_have_text("17changed")
    expect(contracts.locator("tbody tr").first).to_have_text("17changedtitleoldnewstatement 1")
    expect(contracts.locator("li")).to_have_text("terms.0 changed12")
    expect(contracts.get_by_text("the clock: set anew at replay")).to_be_visible()
    items = view.get_by_role("region", name="line_items: 1 row shown")
    expect(items.locator("del")).to_have_text(["NULL", "(empty text)"])
    expect(items.locator("ins")).to_have_count(0)
    expect(view.get_by_text("Rows 1 to 2 of 3 are shown here.")).to_be_visible()
    expect(view.get_by_role("button")).to_have_count(1)


def test_what_the_tools_answer_is_what_it_draws(host: Host) -> None:
    view = sample_proposal()
    host.draw()
    answer = ProposalResult.of(view, HOME + view.review_path).model_dump(mode="json")
    host.result({"content": [], "structuredContent": answer})
    expect(host.view.get_by_role("heading")).to_have_text(
        re.compile(r"^7 rows would change for tenant Acme\. contracts: ")
    )
    for sentence in view.beyond:
        expect(host.view.locator(".beyond li", has_text=sentence)).to_be_visible()
    drawn = host.view.locator("td > del, td > ins").all_text_contents()
    cells = [cell for row in answer["diff"]["rows"] for cell in row["cells"]]
    sides = [side for cell in cells for side in (cell["before"], cell["after"]) if side]
    assert {neutralise(side, 1000) for side in sides} <= set(drawn)
    expect(host.view.get_by_role("button", name="Open the review page")).to_be_visible()
    page = DiffResult(dry_run_id="dr_1", step=None, diff=diff_for_model(view.diff, 50)).model_dump(mode="json")
    host.result({"content": [], "structuredContent": page})
    expect(host.view.get_by_role("button")).to_have_count(0)
    expect(host.view.get_by_role("heading")).to_have_text(re.compile(r"^7 rows would change\. contracts: "))
    assert host.view.locator("td > del, td > ins").all_text_contents() == drawn


def test_hostile_values_are_text_wherever_they_stand(host: Host) -> None:
    host.draw()
    everywhere = [
        row(value, "update", value, cell(value, value, value, paths=[
            {"path": [value], "kind": "changed", "before": value, "after": value},
        ]), origins=(value,))
        for value in (*RUNS, ACTS)
    ]  # fmt: skip
    answer = proposal(*everywhere, beyond=list(RUNS), tenant_label=RUNS[0], state=RUNS[1], id=RUNS[2])
    answer["structuredContent"]["diff"]["measures"][0]["name"] = RUNS[0]
    answer["structuredContent"]["diff"]["tables"][0]["table"] = RUNS[4]
    host.result(answer)
    view = host.view
    expect(view.get_by_role("region")).to_have_count(len(everywhere))
    for value in (*RUNS, ACTS):
        expect(view.locator("td > del", has_text=neutralise(value, 1000)).first).to_be_visible()
    assert (
        view.evaluate("() => document.querySelectorAll('img, svg, a, iframe, object, embed, form, link').length") == 0
    )
    assert view.evaluate("() => document.scripts.length") == 1
    assert view.evaluate("() => typeof window.ran") == "undefined"
    assert "ran" not in host.seen()
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]", shown(view))
    assert "⟨ESC⟩[31mred⟨BEL⟩⟨U+202E⟩txt⟨U+2066⟩⟨U+200B⟩⟨U+FEFF⟩⟨U+009B⟩2J ⟨U+27E8⟩ESC⟨U+27E9⟩" in shown(view)


def shown(view: Frame) -> str:
    return view.locator("#shown").text_content() or ""


def test_a_very_long_value_wraps(host: Host) -> None:
    host.draw()
    host.result(proposal(row("contracts", "update", "17", cell("title", LONG, "new"))))
    expect(host.view.locator("td > del")).to_have_text(LONG)
    assert host.view.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")


def test_characters_are_named_as_everywhere_else(host: Host) -> None:
    host.draw()
    values = [
        chr(code) for code in (*range(0x300), *range(0x2000, 0x20A0), 0x034F, 0x180B, 0x3164, 0xFE0F, 0xFFA0, 0xE0100)
    ]
    host.result(
        proposal(*[row("contracts", "update", str(at), cell("title", f"a{v}z", "")) for at, v in enumerate(values)])
    )
    expect(host.view.locator("td > del")).to_have_count(len(values))
    assert host.view.locator("td > del").all_text_contents() == [neutralise(f"a{value}z", 100) for value in values]


def test_the_button_asks_for_the_review_page_and_says_when_it_does_not_open(host: Host) -> None:
    host.draw()
    host.result(proposal())
    button = host.view.get_by_role("button", name="Open the review page")
    button.focus()
    expect(button).to_be_focused()
    host.page.keyboard.press("Enter")
    host.wait_for("ui/open-link")
    (asked,) = host.seen("ui/open-link")
    assert asked["params"] == {"url": LINK}
    expect(host.view.get_by_text(LINK)).to_be_visible()
    host.page.evaluate("() => { answers.opens = false }")
    button.click()
    expect(host.view.get_by_role("status")).to_have_text(
        "The host did not open it. Copy the address into your browser."
    )


FOREIGN = (
    "https://evil.example/review/pr_aaaabbbbcccc", "https://desk.example.evil.example/review/pr_aaaabbbbcccc",
    "https://desk.example@evil.example/review/pr_a", "javascript:alert(1)//https://desk.example/review/pr_a",
    "data:text/html,x", "http://desk.example/review/pr_a", "https://desk.example/review/../login", "file:///etc/passwd",
    "https://desk.example/review/pr_a?next=https://evil.example", "https://desk.example/review/pr_a#x",
    "https://desk.example/review/", "https://desk.example/login", "//desk.example/review/pr_a", " " + LINK, LINK + "\n",
    "https://desk.example/review/pr_a%2f..", None, 7, ["https://desk.example/review/pr_a"], {},
)  # fmt: skip


def test_an_address_that_is_no_review_page_of_ours_is_not_offered(host: Host) -> None:
    host.draw()
    for address in FOREIGN:
        host.result(proposal(review_url=address, rows=3, tenant_label=f"of {address}"))
        expect(
            host.view.get_by_text("The address of this result is not one of this server's review pages")
        ).to_be_visible()
        expect(host.view.get_by_role("button")).to_have_count(0)
    assert host.seen("ui/open-link") == []


def test_a_diff_without_a_proposal_has_no_button(host: Host) -> None:
    host.draw()
    diff = proposal()["structuredContent"]["diff"]
    diff["tables"].append(table("history", inserted=4, beyond=4, sink=True, beyond_origins=["trigger log"]))
    host.result({"content": [], "structuredContent": {"dry_run_id": "dr_1", "step": None, "diff": diff}})
    expect(host.view.get_by_role("heading")).to_have_text(
        re.compile("^3 rows would change. contracts: 1 row changed; ")
    )
    expect(host.view.locator(".beyond li")).to_have_text([
        "Beyond your statements: 2 rows of line_items (cascade).",
        "Side effects: 4 rows in history (trigger log); counted, their values are not compared.",
    ])  # fmt: skip
    expect(host.view.get_by_role("button")).to_have_count(0)


def test_what_is_no_diff_is_told_in_words(host: Host) -> None:
    host.draw()
    refusal = {"isError": True, "content": [{"type": "text", "text": f"Nothing ran. {RUNS[0]}\x1b[0m"}]}
    host.result(refusal)
    expect(host.view.locator("pre")).to_have_text(f"Nothing ran. {RUNS[0]}⟨ESC⟩[0m")
    for odd in ({"diff": {"tables": [None]}}, {"diff": {"rows": [3]}}, {"diff": {"rows": [{"key": 1, "cells": [{}]}]}}):
        host.result({"content": [], "structuredContent": odd})
        expect(host.view.get_by_role("button")).to_have_count(0)
    host.result(proposal())
    expect(host.view.get_by_role("button")).to_have_count(1)
    host.send(method="ui/notifications/tool-cancelled", params={"reason": "because"})
    expect(host.view.get_by_role("heading")).to_have_text("The call was cancelled")


def test_a_frame_that_is_not_the_host_is_not_heard(host: Host) -> None:
    host.draw()
    host.result(proposal())
    expect(host.view.get_by_role("heading")).to_have_text(re.compile("^3 rows would change for tenant Acme"))
    forged = proposal(tenant_label="Forged")
    host.page.evaluate("() => addEventListener('message', (event) => event.data === 'sent' && (window.sent = true))")
    host.page.evaluate(
        "(message) => stranger(message)",
        {"jsonrpc": "2.0", "method": "ui/notifications/tool-result", "params": forged},
    )
    host.page.wait_for_function("() => window.sent")
    host.send(id="after", method="ping")
    host.page.wait_for_function("() => seen.some((message) => message.id === 'after')")
    assert "Forged" not in shown(host.view)
    host.result(forged)
    expect(host.view.get_by_role("heading")).to_have_text(re.compile("Forged"))  # the host itself is heard


def test_nothing_is_drawn_before_the_handshake(host: Host) -> None:
    host.page.evaluate("(html) => { answers.silent = true; draw(html, 'light') }", document(HOME))
    host.wait_for("ui/initialize")
    host.result(proposal())
    host.send(id="after", method="ping")
    host.page.wait_for_function("() => seen.some((message) => message.id === 'after')")
    expect(host.view.get_by_role("status")).to_have_text("Waiting for the result.")


def test_outside_of_a_frame_it_hears_nobody(host: Host) -> None:
    alone = host.page.context.new_page()
    alone.set_content(document(HOME))
    message = {"jsonrpc": "2.0", "method": "ui/notifications/tool-result", "params": proposal()}
    heard = (
        "(message) => new Promise((done) => { addEventListener('message', () => done(1)); postMessage(message, '*') })"
    )
    assert alone.evaluate(heard, message) == 1
    expect(alone.get_by_role("status")).to_have_text("Waiting for the result.")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_hosts_theme_is_taken_and_axe_finds_no_violation(host: Host, theme: Scheme) -> None:
    host.page.emulate_media(color_scheme="dark" if theme == "light" else "light")
    host.draw(theme)
    host.result(proposal(row("contracts", "update", "17", cell("title", "old", "new", kind="clock"))))
    expect(host.view.get_by_role("button")).to_be_visible()
    grounds = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}
    expect(host.view.locator("body")).to_have_css("background-color", grounds[theme])
    host.view.evaluate(Axe().axe_script)
    found = host.view.evaluate("() => axe.run(document)")
    assert [brief(violation) for violation in found["violations"]] == []
    assert found["passes"], "axe ran no rule"
    other: Scheme = "light" if theme == "dark" else "dark"
    host.send(method="ui/notifications/host-context-changed", params={"theme": other})
    expect(host.view.locator("body")).to_have_css("background-color", grounds[other])
