"""A person's commands on a real business: the log-in link, and deciding on a terminal with the personal key."""

import re
import socket
from pathlib import Path

import httpx2
import psycopg
import pytest

from mcp_server.assembly import open_desk
from mcp_server.pages import pages_app
from mcp_server.settings import load_settings
from tests.acceptance.cli_business import KEYS, Business
from tests.acceptance.pages_server import serving
from tests.acceptance.terminal import at_a_terminal

pytest_plugins = ["tests.acceptance.cli_fixtures"]
ROWS = "Number of rows to replay on production for tenant"


def proposed(business: Business, statement: str = "UPDATE contracts SET status = 'ended' WHERE id = 1") -> str:
    """A proposal of the rep's."""
    arguments = ("dry-run", "--tenant", "1", "--file", business.steps(statement), "--propose")
    proposal_id = business.read(*arguments)["proposal"]["id"]
    assert isinstance(proposal_id, str)
    return proposal_id


def key_file(business: Business, person: str) -> Path:
    """The person's key in a file of their own."""
    file = business.folder / f"{person}.key"
    file.touch(mode=0o600)
    file.write_text(KEYS[person], encoding="utf-8")
    return file


def confirm(business: Business, proposal_id: str, answers: dict[str, str], *more: str) -> tuple[int, str]:
    """`shadowdesk confirm` with a person at the terminal."""
    command = [*business.command, "confirm", proposal_id, "--config", str(business.config), *more]
    return at_a_terminal(command, answers, cwd=Path.cwd())


def status(business: Business) -> str:
    """The contract's status on production."""
    with psycopg.connect(business.owner_url) as connection:
        row = connection.execute("SELECT status FROM contracts WHERE id = 1").fetchone()
    assert row
    return str(row[0])


def test_a_person_reads_types_key_and_rows_and_production_changes_once(business: Business) -> None:
    proposal_id = proposed(business)
    assert [entry["proposal_id"] for entry in business.read("proposals")] == [proposal_id]
    answers = {"Personal key:": KEYS["rep"], ROWS: "1"}
    code, screen = confirm(business, proposal_id, answers)
    assert code == 0, screen
    assert "status: was `active`, now `ended`" in screen
    assert re.search(r"Applied: 1 rows? in transaction \d+", screen)
    assert KEYS["rep"] not in screen
    assert status(business) == "ended"
    code, screen = confirm(business, proposal_id, answers)
    assert code == 1
    assert "is applied" in screen


@pytest.mark.parametrize("typed", ["2", "0"])
def test_another_number_of_rows_changes_nothing(business: Business, typed: str) -> None:
    proposal_id = proposed(business)
    code, screen = confirm(business, proposal_id, {ROWS: typed}, "--key-file", str(key_file(business, "rep")))
    assert code == 1, screen
    assert status(business) == "active"


def test_the_key_of_somebody_else_changes_nothing(business: Business) -> None:
    proposal_id = proposed(business)
    code, screen = confirm(business, proposal_id, {ROWS: "1"}, "--key-file", str(key_file(business, "engineer")))
    assert code == 1
    assert "do not belong together" in screen
    assert status(business) == "active"


def test_without_a_terminal_the_right_key_changes_nothing(business: Business) -> None:
    proposal_id = proposed(business)
    ended = business.run("confirm", proposal_id, "--key-file", str(key_file(business, "rep")))
    assert ended.returncode == 1
    assert "needs a terminal" in ended.stderr
    assert status(business) == "active"


def test_a_rejection_ends_the_proposal_with_its_comment(business: Business) -> None:
    proposal_id = proposed(business)
    done = business.done(
        "reject", proposal_id, "--comment", "Wrong contract.", "--person", "engineer", SHADOWDESK_KEY=KEYS["engineer"]
    )
    assert f"{proposal_id} is rejected." in done
    code, _ = confirm(business, proposal_id, {ROWS: "1"}, "--key-file", str(key_file(business, "rep")))
    assert code == 1
    assert status(business) == "active"


def test_the_printed_link_logs_in_on_the_pages_and_the_audit_holds_no_token(business: Business) -> None:
    proposal_id = proposed(business)
    settings = load_settings(business.config)
    listener = socket.create_server(("127.0.0.1", 0))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    pages = settings.pages.model_copy(update={"base_url": base_url})
    settings = settings.model_copy(update={"pages": pages})
    with open_desk(settings, applier=True) as assembly:
        app = pages_app(assembly.desk, settings, assembly.governor, assembly.control)
        with serving(app, listener), httpx2.Client(base_url=base_url, headers={"Origin": base_url}) as client:
            printed = business.done("login", SHADOWDESK_KEY=KEYS["rep"])
            [token] = re.findall(r"/login\?token=(\S+)", printed)
            assert client.get("/login", params={"token": token}).status_code == 303
            page = client.get(f"/review/{proposal_id}").text
            hidden = dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page))
            assert client.post(f"/review/{proposal_id}/confirm", data=hidden | {"rows": "1"}).status_code == 303
            assert "Applied on production" in client.get(f"/review/{proposal_id}").text
        trail = [event.to_bytes().decode() for event in assembly.audit.tail(200)]
    assert status(business) == "ended"
    assert trail
    assert not any(token in line or KEYS["rep"] in line for line in trail)
