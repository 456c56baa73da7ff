"""A session on production that waits for a yes while a person reads: it serves one replay, and holds nothing up."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mcp_server.expecting import MOST
from mcp_server.views import ProposalView
from shadow.embedded import EmbeddedServer
from shadow.errors import Drifted, ReplayPostponed, WallMissing
from shadow.fence import Fence, FenceRules
from shadow.replay_session import AHEAD, still_running
from tests.control import Urls
from tests.fixes import REP, Fixes, fixes_on
from tests.postgres import MakeDatabase
from tests.processes import until

SCHEMA = """
CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE notes(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants(id), body text NOT NULL);
INSERT INTO tenants VALUES (1,'Acme'),(2,'Globex');
INSERT INTO notes SELECT g, 1 + g % 2, 'n' || g FROM generate_series(1,20) g;
"""


@pytest.fixture
def fixes(urls: Urls, production_database: MakeDatabase, postgres_server: EmbeddedServer) -> Iterator[Fixes]:
    with fixes_on(production_database(SCHEMA), urls.control, postgres_server, FenceRules(root="tenants")) as made:
        yield made


def read(fixes: Fixes, body: str = "read") -> ProposalView:
    """A proposal that somebody who may confirm it has on the screen."""
    dry_run_id = fixes.rehearse([f"UPDATE notes SET body = '{body}' WHERE id = 2"])
    proposal = fixes.desk.propose(REP, dry_run_id)
    fixes.desk.expect(proposal)
    return proposal


def waiting(fixes: Fixes) -> list[tuple[Any, ...]]:
    """(pid, state, whether a transaction is open) of the sessions that wait on production."""
    return fixes.production(
        "SELECT pid, state, xact_start IS NOT NULL FROM pg_stat_activity"
        f" WHERE application_name = '{AHEAD}' AND datname = current_database() ORDER BY pid"
    )


def body_of(fixes: Fixes) -> object:
    return fixes.production("SELECT body FROM notes WHERE id = 2")[0][0]


def confirmed(fixes: Fixes, proposal: ProposalView) -> None:
    fixes.desk.confirm(REP, proposal.id, proposal.digest, proposal.rows)


def test_it_waits_without_transaction_or_lock_and_is_no_replay(fixes: Fixes) -> None:
    proposal = read(fixes)
    [(pid, state, in_transaction)] = waiting(fixes)
    assert (state, in_transaction) == ("idle", False)
    assert fixes.production(f"SELECT 1 FROM pg_locks WHERE pid = {pid}") == []
    assert not still_running(fixes.owner_url, proposal.id)


def test_the_yes_is_replayed_in_it_under_the_proposals_name_and_it_ends(fixes: Fixes) -> None:
    fixes.production(
        "ALTER TABLE shadowdesk.receipts ADD pid int DEFAULT pg_backend_pid(),"
        " ADD application text DEFAULT current_setting('application_name'),"
        " ADD idle text DEFAULT current_setting('idle_session_timeout')"
    )
    proposal = read(fixes)
    [(pid, *_)] = waiting(fixes)
    confirmed(fixes, proposal)
    receipt = fixes.production("SELECT pid, application, idle FROM shadowdesk.receipts")
    assert receipt == [(pid, f"shadowdesk replay {proposal.id}"[:63], "1min")]
    assert body_of(fixes) == "read"
    until(lambda: not fixes.production(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"))
    assert waiting(fixes) == []


def test_one_that_production_ended_is_replaced(fixes: Fixes) -> None:
    proposal = read(fixes)
    [(pid, *_)] = waiting(fixes)
    fixes.production(f"SELECT pg_terminate_backend({pid}, 5000)")
    confirmed(fixes, proposal)
    assert body_of(fixes) == "read"


def test_reading_again_keeps_one_and_many_readers_a_few(fixes: Fixes) -> None:
    proposal = read(fixes)
    fixes.desk.expect(proposal)
    until(lambda: len(waiting(fixes)) == 1)
    for n in range(MOST + 2):
        fixes.desk.expect(replace(proposal, id=f"pr_{n}"))
    until(lambda: len(waiting(fixes)) == MOST)
    confirmed(fixes, proposal)  # its own went: it was the oldest
    assert body_of(fixes) == "read"
    fixes.desk.close()
    until(lambda: not waiting(fixes))


def test_nothing_is_kept_for_what_waits_for_nobody(fixes: Fixes) -> None:
    proposal = read(fixes)
    confirmed(fixes, proposal)
    fixes.desk.expect(fixes.desk.proposal(REP, proposal.id))
    assert waiting(fixes) == []


def test_a_production_that_cannot_be_had_is_the_confirmations_to_tell(fixes: Fixes) -> None:
    dry_run_id = fixes.rehearse(["UPDATE notes SET body = 'read' WHERE id = 2"])
    proposal = fixes.desk.propose(REP, dry_run_id)
    [(name,)] = fixes.production("SELECT quote_ident(current_database())")
    fixes.production(f"REVOKE CONNECT ON DATABASE {name} FROM shadowdesk_applier")
    fixes.desk.expect(proposal)
    assert waiting(fixes) == []
    with pytest.raises(ReplayPostponed, match="could not be reached"):
        confirmed(fixes, proposal)
    fixes.production(f"GRANT CONNECT ON DATABASE {name} TO shadowdesk_applier")
    confirmed(fixes, proposal)
    assert body_of(fixes) == "read"


def test_definitions_that_change_while_a_person_reads_are_drift_in_a_session_opened_before(fixes: Fixes) -> None:
    proposal = read(fixes)
    fixes.production("ALTER TABLE notes ADD later int")
    with pytest.raises(Drifted, match="definitions changed"):
        confirmed(fixes, proposal)
    assert body_of(fixes) == "n2"
    assert waiting(fixes) == []


def test_a_page_is_not_spoilt_where_a_wall_is_missing(fixes: Fixes, monkeypatch: pytest.MonkeyPatch) -> None:
    proposal = read(fixes)
    fixes.desk.close()

    def missing() -> Fence:
        raise WallMissing("A wall is missing.", "Nothing was served.", "Run doctor.")

    monkeypatch.setattr(fixes.desk.production, "fence", missing)
    fixes.desk.expect(proposal)
    with pytest.raises(WallMissing):
        confirmed(fixes, proposal)
    assert body_of(fixes) == "n2"
