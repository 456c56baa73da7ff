"""What the database itself refuses, whoever asks: illegal moves, changed records, a yes used twice."""

import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from mcp_server.control.states import DryRunState, ProposalState
from mcp_server.control.store import ControlStore
from tests.control import (
    DIGEST,
    NOW,
    Urls,
    confirmation,
    dry_run,
    execute,
    proposal,
    row,
    statement,
)

DRY_RUN_MOVES = {
    "open": "proposed discarded expired",
    "proposed": "open escalated confirmed applied rejected discarded expired",
    "escalated": "open confirmed applied rejected discarded expired",
    "confirmed": "replaying applied expired",
    "replaying": "applied unknown drifted diverged proposed escalated",
    "unknown": "applied confirmed proposed escalated",
    "drifted": "open discarded expired",
    "diverged": "open discarded expired",
}
PROPOSAL_MOVES = {
    "pending": "escalated approved confirmed applied rejected expired withdrawn",
    "escalated": "approved confirmed applied rejected expired withdrawn",
    "approved": "confirmed applied rejected expired withdrawn",
    "confirmed": "replaying applied expired",
    "replaying": "applied unknown drifted diverged pending escalated approved",
    "unknown": "applied confirmed pending escalated approved",
}


@pytest.fixture
def proposed(urls: Urls) -> Iterator[ControlStore]:
    """A store with dry run dr_1, its statement, and proposal pr_1 of one row."""
    with ControlStore.open(urls.control) as store:
        store.create_dry_run(dry_run())
        store.add_statement(statement())
        store.create_proposal(proposal(), [row()])
        yield store


def refusal(url: str, text: str, *params: object) -> str | None:
    """The SQLSTATE that refuses the statement."""
    with pytest.raises(psycopg.Error) as refused:
        execute(url, text, *params)
    return refused.value.sqlstate


@pytest.mark.usefixtures("proposed")
@pytest.mark.parametrize(
    ("table", "states", "moves"),
    [("dry_runs", DryRunState, DRY_RUN_MOVES), ("proposals", ProposalState, PROPOSAL_MOVES)],
)
def test_every_move_that_is_not_legal_is_refused(urls: Urls, table: str, states: Any, moves: dict[str, str]) -> None:
    target = sql.SQL("UPDATE control.{} SET state = %s").format(sql.Identifier(table))
    if table == "proposals":
        target += sql.SQL(", receipt = CASE %s WHEN 'applied' THEN json '{{}}' END").format()
    with psycopg.connect(urls.owner) as connection:
        # The confirmation that a replay needs has its own test.
        connection.execute("ALTER TABLE control.proposals DISABLE TRIGGER replays_once")
        for was, becomes in itertools.permutations(map(str, states), 2):
            connection.execute("SET LOCAL session_replication_role = replica")
            connection.execute(target, [was] * (2 if table == "proposals" else 1))
            connection.execute("SET LOCAL session_replication_role = origin")
            parameters = [becomes] * (2 if table == "proposals" else 1)
            if becomes in moves.get(was, "").split():
                connection.execute(target, parameters)
                continue
            with pytest.raises(psycopg.Error) as refused, connection.transaction():
                connection.execute(target, parameters)
            assert refused.value.sqlstate == "SD101", (was, becomes)


def test_a_dry_run_begins_open(urls: Urls) -> None:
    insert = (
        "INSERT INTO control.dry_runs (id, tenant_key, tenant_label, purpose, request, rep, role, client, state,"
        " created_at, expires_at) VALUES ('x', '', '', '', '', '', '', '', %s, now(), now())"
    )
    for state in (state for state in DryRunState if state != "open"):
        assert refusal(urls.control, insert, state) == "SD101"


SECOND_PROPOSAL = """
INSERT INTO control.proposals (id, dry_run_id, tenant_key, digest, header, frozen, diff, decision, reasons, rows,
  state, note, created_at, expires_at)
SELECT 'x', dry_run_id, tenant_key, digest, header, frozen, diff, decision, reasons, rows,
  %s, note, created_at, expires_at FROM control.proposals
"""


@pytest.mark.usefixtures("proposed")
def test_a_proposal_begins_pending(urls: Urls) -> None:
    for state in (state for state in ProposalState if state != "pending"):
        assert refusal(urls.control, SECOND_PROPOSAL, state) == "SD101"


KEPT = {
    "dry_runs": "id tenant_key tenant_label purpose request rep role client created_at",
    "statements": "dry_run_id step text params pins defaults kind reason tool arguments row_count warnings ran_at",
    "proposals": "id dry_run_id tenant_key digest header frozen diff decision reasons rows note created_at expires_at",
    "proposal_statements": "proposal_id statement_id dry_run_id",
    "proposal_rows": "proposal_id ordinal table_name key before after kinds",
    "confirmations": "proposal_id digest tenant_key person role channel typed_rows created_at expires_at",
    "escalations": "dry_run_id proposal_id question asked_by asked_at",
    "login_links": "token_sha256 person created_at expires_at",
    "page_sessions": "id_sha256 person created_at expires_at",
}


def test_what_was_recorded_is_not_changed_by_anybody(urls: Urls, proposed: ControlStore) -> None:
    proposed.add_confirmation(confirmation())
    proposed.answer("pr_1", "engineer", "approved", "yes")
    proposed.create_login_link("a" * 64, "rep", timedelta(hours=1))
    proposed.create_page_session("b" * 64, "rep", timedelta(hours=1))
    for table, columns in KEPT.items():
        for column in columns.split():
            change = f"UPDATE control.{table} SET {column} = {column}"
            assert refusal(urls.owner, change) == "SD102", (table, column)
            assert refusal(urls.control, change) == "42501", (table, column)


@pytest.mark.usefixtures("proposed")
@pytest.mark.parametrize(
    "insert",
    [
        "INSERT INTO control.proposal_rows VALUES ('pr_1', 2, 't', '{2}', '{a}', '{b}', '{value}')",
        "INSERT INTO control.proposal_statements SELECT 'pr_1', max(id), 'dr_1' FROM control.statements",
    ],
)
def test_rows_and_statements_are_not_added_to_a_proposal_later(urls: Urls, proposed: ControlStore, insert: str) -> None:
    proposed.reopen_dry_run("dr_1")
    proposed.add_statement(statement(2))
    assert refusal(urls.control, insert) == "SD102"
    assert refusal(urls.owner, insert) == "SD102"


@pytest.mark.parametrize("state", ["proposed", "discarded"])
def test_statements_come_and_go_while_their_dry_run_is_open(urls: Urls, proposed: ControlStore, state: str) -> None:
    if state == "discarded":
        assert proposed.set_dry_run_state("dr_1", "discarded", "proposed")
    copied = (
        "INSERT INTO control.statements (dry_run_id, step, text, params, pins, defaults, kind, reason,"
        " row_count, warnings, ran_at) SELECT dry_run_id, 2, text, params, pins, defaults, kind, reason,"
        " row_count, warnings, ran_at FROM control.statements"
    )
    assert refusal(urls.control, copied) == "SD101"
    assert refusal(urls.control, "UPDATE control.statements SET undone_at = now()") == "SD101"


def test_an_undone_statement_stays_undone(urls: Urls, proposed: ControlStore) -> None:
    proposed.undo_statements("dr_1", 0)
    assert refusal(urls.control, "UPDATE control.statements SET undone_at = NULL") == "SD102"


def test_a_dry_run_has_one_live_proposal(urls: Urls, proposed: ControlStore) -> None:
    assert refusal(urls.control, SECOND_PROPOSAL, "pending") == "23505"
    assert proposed.set_proposal_state("pr_1", "withdrawn", "pending")
    execute(urls.control, SECOND_PROPOSAL, "pending")


def test_applied_and_its_receipt_come_together(urls: Urls, proposed: ControlStore) -> None:
    assert refusal(urls.control, "UPDATE control.proposals SET state = 'applied'") == "23514"
    assert refusal(urls.control, "UPDATE control.proposals SET receipt = '{}'") == "23514"
    execute(urls.control, "UPDATE control.proposals SET state = 'applied', receipt = '{}'")
    assert refusal(urls.control, "UPDATE control.proposals SET receipt = '{}'") == "SD102"


def test_a_replay_begins_with_a_confirmation_used_up_in_the_same_transaction(
    urls: Urls, proposed: ControlStore
) -> None:
    proposed.add_confirmation(confirmation())
    assert proposed.set_proposal_state("pr_1", "confirmed", "pending")
    replaying = "UPDATE control.proposals SET state = 'replaying'"
    assert refusal(urls.control, replaying) == "SD103"
    execute(urls.control, "UPDATE control.confirmations SET used_at = now()")
    assert refusal(urls.control, replaying) == "SD103"
    assert refusal(urls.control, "UPDATE control.confirmations SET used_at = NULL") == "SD102"
    assert refusal(urls.control, "UPDATE control.confirmations SET withdrawn_at = now()") == "SD102"


CONFIRMATION = (
    "INSERT INTO control.confirmations (proposal_id, digest, tenant_key, person, role, channel, typed_rows, created_at,"
    " expires_at) VALUES ('pr_1', %s, %s, 'rep', 'rep', 'page', %s, now(), now() + interval '1 hour')"
)


def test_a_confirmation_repeats_what_was_seen_and_there_is_one_at_a_time(urls: Urls, proposed: ControlStore) -> None:
    for digest, tenant, rows in (("cd" * 32, "7", 1), (DIGEST, "8", 1), (DIGEST, "7", 2)):
        assert refusal(urls.control, CONFIRMATION, digest, tenant, rows) == "23503"
    execute(urls.control, CONFIRMATION, DIGEST, "7", 1)
    assert refusal(urls.control, CONFIRMATION, DIGEST, "7", 1) == "23505"
    assert proposed.use_confirmation("pr_1", DIGEST)


@pytest.mark.parametrize("changes", [{"decision": "nobody"}, {"expires_at": NOW}])
def test_what_nobody_may_confirm_and_what_is_over_takes_no_confirmation(
    urls: Urls, proposed: ControlStore, changes: dict[str, Any]
) -> None:
    proposed.create_proposal(proposal("pr_2", **changes), [])
    late = CONFIRMATION.replace("pr_1", "pr_2")
    assert refusal(urls.control, late, DIGEST, "7", 1) == "SD103"
    assert refusal(urls.owner, late, DIGEST, "7", 1) == "SD103"


def test_a_confirmation_that_is_over_is_not_used(urls: Urls, proposed: ControlStore) -> None:
    proposed.add_confirmation(confirmation(expires_at=NOW))
    assert refusal(urls.control, "UPDATE control.confirmations SET used_at = now()") == "23514"


def test_a_question_has_one_answer(urls: Urls, proposed: ControlStore) -> None:
    proposed.answer("pr_1", "engineer", "approved", "yes")
    assert refusal(urls.control, "UPDATE control.escalations SET verdict = 'rejected'") == "SD102"
    half = "INSERT INTO control.escalations (dry_run_id, proposal_id, question) VALUES ('dr_1', 'pr_1', 'why?')"
    assert refusal(urls.control, half) == "23514"


def test_tokens_are_stored_as_hashes_only(urls: Urls) -> None:
    for table in ("login_links (token_sha256", "page_sessions (id_sha256"):
        insert = f"INSERT INTO control.{table}, person, expires_at) VALUES ('a token', 'rep', now())"
        assert refusal(urls.control, insert) == "23514"
