"""Who may confirm, on the real pages and production: four eyes, nobody, a diff that changed, a rule that came later."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from mcp_server.demo.business import STORIES
from mcp_server.demo.person import Browser, PageRefused
from mcp_server.demo.stage import Claude, Stage, staged

POLICY = """
[[policy.rules]]
name = "people who sign"
tables = ["signatories"]
decision = "second"
[[policy.rules]]
name = "memberships"
tables = ["memberships"]
decision = "nobody"
[[policy.rules]]
name = "more than asked for"
cascades_over = 0
tables = ["contracts"]
deletes_over = 0
decision = "engineer"
"""
TENANT = STORIES.tenant_id


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("policy"), POLICY) as stage:
        yield stage


@pytest.fixture(scope="module")
def claude(stage: Stage) -> Iterator[Claude]:
    client = Claude(stage)
    yield client
    client.close()


@pytest.fixture(scope="module")
def people(stage: Stage) -> Iterator[dict[str, Browser]]:
    browsers = {person: stage.browser(person) for person in ("rep", "engineer", "intern")}
    yield browsers
    for browser in browsers.values():
        browser.close()


def propose(claude: Claude, sql: str, dry_run: str | None = None) -> dict[str, str]:
    if dry_run is None:
        started = claude.call("start_dry_run", tenant=str(TENANT), request="please", purpose="test")
        dry_run = str(started["dry_run"]["id"])
    claude.call("run_statement", dry_run_id=dry_run, sql=sql, reason="as asked")
    made = claude.call("propose", dry_run_id=dry_run)
    names = ("id", "rows", "decision", "digest", "dry_run_id")
    return {"path": urlsplit(made["review_url"]).path, **{name: str(made[name]) for name in names}}


def one(stage: Stage, table: str) -> str:
    return str(stage.production(f"SELECT min(id) FROM {table} WHERE tenant_id = {TENANT}")[0][0])


def forced(browser: Browser, path: str, like: str, digest: str, rows: str) -> int:
    """Sends the confirm form by hand, with a live form token of this person's: the page need not have offered it."""
    import re

    client = browser._client
    token = re.search(r'name="csrf" value="([^"]+)"', client.get(like).text)
    assert token
    fields = {"csrf": token[1], "digest": digest, "rows": rows}
    return client.post(f"{path}/confirm", data=fields, headers={"Origin": str(client.base_url).rstrip("/")}).status_code


def test_four_eyes_are_two_people(stage: Stage, claude: Claude, people: dict[str, Browser]) -> None:
    row = one(stage, "signatories")
    made = propose(claude, f"UPDATE signatories SET office = 'four eyes' WHERE id = {row}")
    assert made["decision"] == "second"
    look = f"SELECT office FROM signatories WHERE id = {row}"
    for person in ("rep", "intern"):
        with pytest.raises(PageRefused):
            people[person].confirm(made["path"], 1)
        assert forced(people[person], made["path"], "/review", made["digest"], "1") >= 400
    assert stage.production(look) != [("four eyes",)]
    # the same form in the right hands: what was refused above was refused for who sent it
    assert forced(people["engineer"], made["path"], "/review", made["digest"], "1") < 400
    assert stage.production(look) == [("four eyes",)]


def test_nobody_is_nobody(stage: Stage, claude: Claude, people: dict[str, Browser]) -> None:
    made = propose(claude, "UPDATE memberships SET role = 'reader' WHERE role = 'billing'")
    assert made["decision"] == "nobody"
    before = stage.production("SELECT * FROM memberships ORDER BY 1, 2")
    for browser in people.values():
        with pytest.raises(PageRefused):
            browser.confirm(made["path"], int(made["rows"]))
        assert forced(browser, made["path"], "/review", made["digest"], made["rows"]) >= 400
    assert stage.production("SELECT * FROM memberships ORDER BY 1, 2") == before


def test_a_changed_diff_voids_what_was_seen(stage: Stage, claude: Claude, people: dict[str, Browser]) -> None:
    row = one(stage, "accounts")
    name = f"SELECT name FROM accounts WHERE id = {row}"
    seen = propose(claude, f"UPDATE accounts SET name = 'seen' WHERE id = {row}")
    changed = propose(claude, f"UPDATE accounts SET name = 'changed' WHERE id = {row}", seen["dry_run_id"])
    assert changed["digest"] != seen["digest"]
    before = stage.production(name)
    assert forced(people["rep"], seen["path"], changed["path"], seen["digest"], "1") >= 400, "the old one is gone"
    assert forced(people["rep"], changed["path"], changed["path"], seen["digest"], "1") >= 400, "the old digest is none"
    assert forced(people["engineer"], seen["path"], "/review", seen["digest"], "1") >= 400
    assert stage.production(name) == before
    people["rep"].confirm(changed["path"], 1)
    assert stage.production(name) == [("changed",)]


def test_a_rule_that_came_later_counts_when_it_is_confirmed(
    stage: Stage, claude: Claude, people: dict[str, Browser]
) -> None:
    """The policy is judged once more at the confirmation, by the configuration and the clock of that moment."""
    from mcp_server.assembly import open_desk
    from mcp_server.errors import ConfirmationRefused
    from mcp_server.identity import Caller
    from mcp_server.settings import load_settings

    row = one(stage, "accounts")
    made = propose(claude, f"UPDATE accounts SET name = 'later' WHERE id = {row}")
    assert made["decision"] == "self"
    stricter = stage.folder / "stricter.toml"
    rule = '\n[[policy.rules]]\non_days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]\ndecision = "engineer"\n'
    stricter.write_text(stage.config.read_text() + rule)
    before = stage.production(f"SELECT name FROM accounts WHERE id = {row}")
    with open_desk(load_settings(stricter), applier=True) as assembly:
        rep = Caller(name="rep", role="rep", channel="page", client="test")
        with pytest.raises(ConfirmationRefused, match="wants an engineer"):
            assembly.desk.confirm(rep, made["id"], made["digest"], 1)
    assert stage.production(f"SELECT name FROM accounts WHERE id = {row}") == before
    people["rep"].confirm(made["path"], 1)
    assert stage.production(f"SELECT name FROM accounts WHERE id = {row}") == [("later",)]
