"""The control store keeps what it was given, moves as one, and lets one of many have the single yes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from differ.model import FrozenRow
from mcp_server.control.records import Escalation
from mcp_server.control.store import ControlStore
from mcp_server.errors import ConfirmationRefused, NotFound, WrongState
from shadow.errors import SandboxUnavailable
from tests.control import (
    DIGEST,
    LATER,
    NOW,
    Urls,
    confirmation,
    dry_run,
    execute,
    proposal,
    row,
    statement,
)

ODD = "100% %s %(x)s :name \\:name ::text $1 {} \\ \\N \t\n\r '\" ${x} ä \U0001f600 \x7f"
RECEIPT = {"proposal_id": "pr_1", "rows": 1}


@pytest.fixture
def store(urls: Urls) -> Iterator[ControlStore]:
    with ControlStore.open(urls.control) as store:
        store.create_dry_run(dry_run())
        yield store


@pytest.fixture
def proposed(store: ControlStore) -> ControlStore:
    """Dry run dr_1 with a statement and proposal pr_1 of one row."""
    store.add_statement(statement())
    store.create_proposal(proposal(), [row()])
    return store


def states(store: ControlStore, proposal_id: str = "pr_1") -> tuple[str, str]:
    return store.proposal(proposal_id).state, store.dry_run("dr_1").state


def question(**values: Any) -> Escalation:
    plain = {"dry_run_id": "dr_1", "proposal_id": "pr_1", "question": "may I?", "asked_by": "rep", "asked_at": NOW}
    return Escalation(**{**plain, **values})


def at_once(count: int, work: Callable[[], object]) -> list[object]:
    with ThreadPoolExecutor(count) as threads:
        return [future.result() for future in [threads.submit(work) for _ in range(count)]]


def test_recorded_texts_come_back_byte_for_byte(store: ControlStore) -> None:
    odd = dry_run("dr_2", tenant_key=ODD, tenant_label=ODD, purpose=ODD, request=ODD, rep=ODD, client=ODD)
    assert store.create_dry_run(odd) == odd == store.dry_run("dr_2")
    kept = statement(
        1, "dr_2", text=ODD, params=(ODD, None, ""), pins=({"function": "now", "value": ODD},),
        defaults={ODD: [ODD, "2"]}, reason=ODD, tool=ODD, arguments={ODD: [1.0, 1e22, 2**70, "\0", "\ud800", None]},
        warnings=(ODD,),
    )  # fmt: skip
    store.add_statement(kept)
    assert store.statements("dr_2") == [kept]
    assert repr(store.statements("dr_2")[0].arguments) == repr(kept.arguments)
    odd_proposal = proposal(
        "pr_2", "dr_2", header={"tenant": ODD, "rows": [1, None]}, frozen={ODD: ODD}, diff={"b": 1, "a": ODD},
        reasons=(ODD,), note=ODD,
    )  # fmt: skip
    store.create_proposal(odd_proposal, [])
    assert store.proposal("pr_2") == odd_proposal == store.latest_proposal("dr_2")
    assert list(store.proposal("pr_2").diff) == ["b", "a"]


def test_rows_come_back_in_their_order_with_missing_rows_and_nulls_told_apart(store: ControlStore) -> None:
    cells = ("", "NULL", None, "{}", ODD, '{"a,b"}')
    rows = [
        FrozenRow(table=ODD, key=(ODD, "2"), before=None, after=cells, kinds=("value",) * 6),
        FrozenRow(table="t", key=("1",), before=cells, after=None, kinds=("clock",) * 6),
        FrozenRow(table="t", key=("1",), before=(None,), after=(), kinds=()),
        *(row(str(number)) for number in range(2500)),
    ]
    store.create_proposal(proposal(), iter(rows))
    assert list(store.proposal_rows("pr_1")) == rows
    assert list(store.proposal_rows("pr_other")) == []


def test_a_proposal_whose_rows_fail_halfway_is_not_there(store: ControlStore) -> None:
    def rows() -> Iterator[FrozenRow]:
        yield row()
        raise RuntimeError("the shadow is gone")

    with pytest.raises(RuntimeError):
        store.create_proposal(proposal(), rows())
    assert store.latest_proposal("dr_1") is None
    assert store.dry_run("dr_1").state == "open"


def test_what_is_not_there_is_said_so(store: ControlStore) -> None:
    for look in (store.dry_run, store.proposal, lambda name: store.end_replay(name, "applied", None, receipt=RECEIPT)):
        with pytest.raises(NotFound):
            look("xx_1")
    assert store.latest_proposal("dr_1") is None
    assert store.escalation("pr_1") is None


def test_dry_runs_are_listed_newest_first_by_state_and_rep(store: ControlStore) -> None:
    for number in range(2, 5):
        rep = "other" if number == 3 else "rep"
        store.create_dry_run(dry_run(f"dr_{number}", rep=rep, created_at=NOW + timedelta(seconds=number)))
    assert store.set_dry_run_state("dr_4", "discarded", ("open",), reason="done")
    assert [found.id for found in store.list_dry_runs()] == ["dr_4", "dr_3", "dr_2", "dr_1"]
    assert [found.id for found in store.list_dry_runs(state="open", rep="rep", limit=1)] == ["dr_2"]
    assert store.dry_run("dr_4").discarded_reason == "done"


def test_a_move_from_another_state_than_expected_does_nothing(store: ControlStore) -> None:
    assert not store.set_dry_run_state("dr_1", "discarded", "proposed")
    assert store.dry_run("dr_1").state == "open"
    with pytest.raises(WrongState):
        store.set_dry_run_state("dr_1", "applied", "open")


def test_the_shadow_of_a_dry_run_can_change(store: ControlStore) -> None:
    store.update_shadow("dr_1", shadow_id="s2", snapshot_id="p2", mirror_version="m2", fence_hash="f2", base_at=LATER)
    found = store.dry_run("dr_1")
    assert (found.shadow_id, found.snapshot_id, found.mirror_version, found.base_at) == ("s2", "p2", "m2", LATER)


def test_undone_steps_are_no_longer_kept_and_their_number_is_free_again(store: ControlStore) -> None:
    for step in (1, 2, 3):
        store.add_statement(statement(step))
    with pytest.raises(WrongState, match="kept_step"):
        store.add_statement(statement(3))
    assert store.undo_statements("dr_1", 1) == 2
    store.add_statement(statement(2, text="again"))
    assert [kept.text for kept in store.statements("dr_1")] == ["UPDATE t SET a = 1", "again"]


@pytest.mark.parametrize("escalated", [False, True])
@pytest.mark.parametrize("edit", ["add", "undo", "reopen", "discard", "propose"])
def test_an_edit_withdraws_the_proposal_but_its_statements_stay_with_it(
    proposed: ControlStore, edit: str, escalated: bool
) -> None:
    if escalated:
        proposed.escalate(question())
    edits: dict[str, Callable[[], object]] = {
        "add": lambda: proposed.add_statement(statement(2)),
        "undo": lambda: proposed.undo_statements("dr_1", 0),
        "reopen": lambda: proposed.reopen_dry_run("dr_1"),
        "discard": lambda: proposed.set_dry_run_state("dr_1", "discarded", ("proposed", "escalated")),
        "propose": lambda: proposed.create_proposal(proposal("pr_2"), []),
    }
    edits[edit]()
    after = {"discard": "discarded", "propose": "proposed"}.get(edit, "open")
    assert states(proposed) == ("withdrawn", after)
    assert [kept.step for kept in proposed.proposal_statements("pr_1")] == [1]
    latest = proposed.latest_proposal("dr_1")
    assert latest is not None
    assert latest.id == ("pr_2" if edit == "propose" else "pr_1")


def test_a_dry_run_that_is_over_is_not_edited_or_proposed(store: ControlStore) -> None:
    store.add_statement(statement())
    store.set_dry_run_state("dr_1", "discarded", "open")
    for edit in (
        lambda: store.add_statement(statement(2)),
        lambda: store.undo_statements("dr_1", 0),
        lambda: store.create_proposal(proposal(), []),
    ):
        with pytest.raises(WrongState):
            edit()


def test_expiring_a_dry_run_expires_its_proposal(proposed: ControlStore) -> None:
    assert proposed.set_dry_run_state("dr_1", "expired", "proposed")
    assert states(proposed) == ("expired", "expired")


@pytest.mark.parametrize(("verdict", "ends"), [("approved", "escalated"), ("rejected", "rejected")])
def test_a_question_escalates_and_its_answer_decides(proposed: ControlStore, verdict: str, ends: str) -> None:
    proposed.escalate(question(question=ODD))
    assert states(proposed) == ("escalated", "escalated")
    with pytest.raises(WrongState):
        proposed.escalate(question())
    proposed.answer("pr_1", "engineer", verdict, ODD)
    assert states(proposed) == (verdict, ends)
    found = proposed.escalation("pr_1")
    assert found is not None
    assert (found.question, found.verdict, found.comment, found.answered_by) == (ODD, verdict, ODD, "engineer")
    with pytest.raises(WrongState):
        proposed.answer("pr_1", "engineer", "approved", "again")


def test_somebody_may_answer_unasked_and_an_approved_proposal_can_still_be_rejected(proposed: ControlStore) -> None:
    proposed.answer("pr_1", "engineer", "approved", "fine")
    assert states(proposed) == ("approved", "proposed")
    proposed.answer("pr_1", "rep", "rejected", "no longer needed")
    assert states(proposed) == ("rejected", "rejected")
    found = proposed.escalation("pr_1")
    assert found is not None
    assert (found.question, found.verdict) == (None, "rejected")


def test_of_many_that_use_a_confirmation_one_begins_the_replay(proposed: ControlStore) -> None:
    proposed.add_confirmation(confirmation())
    assert sorted(map(str, at_once(8, lambda: proposed.use_confirmation("pr_1", DIGEST)))) == ["False"] * 7 + ["True"]
    assert states(proposed) == ("replaying", "replaying")
    with pytest.raises(ConfirmationRefused):
        proposed.add_confirmation(confirmation())


def test_a_later_yes_takes_the_place_of_one_that_was_not_used(proposed: ControlStore) -> None:
    proposed.add_confirmation(confirmation())
    proposed.add_confirmation(confirmation(person="other"))
    assert not proposed.use_confirmation("pr_1", DIGEST, person="rep")
    assert not proposed.use_confirmation("pr_1", "cd" * 32)
    assert states(proposed) == ("pending", "proposed")
    assert proposed.use_confirmation("pr_1", DIGEST, person="other")


@pytest.mark.parametrize("wrong", [{"typed_rows": 2}, {"digest": "cd" * 32}, {"tenant_key": "8"}], ids=str)
def test_a_confirmation_of_something_else_is_refused(proposed: ControlStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfirmationRefused):
        proposed.add_confirmation(confirmation(**wrong))
    assert not proposed.use_confirmation("pr_1", DIGEST)


def test_a_confirmation_that_is_over_is_not_used(proposed: ControlStore) -> None:
    proposed.add_confirmation(confirmation(expires_at=NOW))
    assert not proposed.use_confirmation("pr_1", DIGEST)
    assert states(proposed) == ("pending", "proposed")


def replaying(store: ControlStore) -> None:
    store.add_confirmation(confirmation())
    assert store.use_confirmation("pr_1", DIGEST)


@pytest.mark.parametrize("outcome", ["drifted", "diverged", "unknown"])
def test_a_replay_ends_on_proposal_and_dry_run_with_its_message(proposed: ControlStore, outcome: str) -> None:
    replaying(proposed)
    proposed.end_replay("pr_1", outcome, ODD)
    proposed.end_replay("pr_1", outcome, ODD)
    assert states(proposed) == (outcome, outcome)
    assert proposed.proposal("pr_1").outcome_message == ODD


@pytest.mark.parametrize("way", [[], ["unknown"], ["postponed"]])
def test_production_s_receipt_makes_it_applied(proposed: ControlStore, way: list[str]) -> None:
    replaying(proposed)
    for outcome in way:
        proposed.end_replay("pr_1", outcome, "lost")
    proposed.end_replay("pr_1", "applied", None, receipt=RECEIPT)
    proposed.end_replay("pr_1", "applied", None, receipt=RECEIPT)
    assert states(proposed) == ("applied", "applied")
    assert proposed.proposal("pr_1").receipt == RECEIPT


@pytest.mark.parametrize("before", ["pending", "escalated", "approved", "approved unasked"])
@pytest.mark.parametrize("lost", [False, True])
def test_a_postponed_replay_waits_for_another_yes_where_it_waited_before(
    proposed: ControlStore, before: str, lost: bool
) -> None:
    if before in ("escalated", "approved"):
        proposed.escalate(question())
    if before.startswith("approved"):
        proposed.answer("pr_1", "engineer", "approved", "fine")
    waited = states(proposed)
    replaying(proposed)
    if lost:
        proposed.end_replay("pr_1", "unknown", "lost")
    proposed.end_replay("pr_1", "postponed", "locked")
    assert states(proposed) == waited
    assert not proposed.use_confirmation("pr_1", DIGEST)
    replaying(proposed)
    proposed.end_replay("pr_1", "applied", None, receipt=RECEIPT)
    assert states(proposed) == ("applied", "applied")


@pytest.mark.parametrize("outcome", ["drifted", "diverged", "unknown"])
def test_no_replay_ends_that_did_not_begin(proposed: ControlStore, outcome: str) -> None:
    with pytest.raises(WrongState):
        proposed.end_replay("pr_1", outcome, None)
    assert states(proposed) == ("pending", "proposed")


def test_an_end_stays_an_end(proposed: ControlStore) -> None:
    replaying(proposed)
    proposed.end_replay("pr_1", "drifted", "changed")
    for outcome in ("postponed", "diverged"):
        with pytest.raises(WrongState):
            proposed.end_replay("pr_1", outcome, None)
    with pytest.raises(WrongState):
        proposed.end_replay("pr_1", "applied", None, receipt=RECEIPT)


def test_of_many_that_use_a_login_link_one_gets_its_person(store: ControlStore) -> None:
    store.create_login_link("a" * 64, "rep", timedelta(minutes=5))
    assert sorted(map(str, at_once(8, lambda: store.use_login_link("a" * 64)))) == ["None"] * 7 + ["rep"]
    store.create_login_link("b" * 64, "rep", timedelta(0))
    assert store.use_login_link("b" * 64) is None
    assert store.use_login_link("c" * 64) is None


def test_a_page_session_lasts_until_it_is_over_or_ended(store: ControlStore) -> None:
    store.create_page_session("a" * 64, "rep", timedelta(hours=1))
    assert store.page_session("a" * 64) == "rep"
    store.end_page_session("a" * 64)
    assert store.page_session("a" * 64) is None
    store.create_page_session("b" * 64, "rep", timedelta(0))
    assert store.page_session("b" * 64) is None


@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=["NUL", "surrogate"])
def test_text_that_postgres_cannot_store_is_explained(store: ControlStore, text: str) -> None:
    with pytest.raises(WrongState, match="cannot store"):
        store.create_dry_run(dry_run("dr_2", purpose=text))


def test_a_driver_error_becomes_ours_without_its_values(store: ControlStore, urls: Urls) -> None:
    with pytest.raises(WrongState, match="dry_runs_pkey") as refused:
        store.create_dry_run(dry_run(request="secret words"))
    assert "secret" not in str(refused.value)
    execute(urls.owner, "REVOKE SELECT ON control.dry_runs FROM shadowdesk_control")
    with pytest.raises(SandboxUnavailable, match="42501"):
        store.dry_run("dr_1")


def test_a_lost_connection_is_replaced_before_it_is_used(store: ControlStore, urls: Urls) -> None:
    ended = execute(
        urls.owner,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE application_name = 'shadowdesk control' AND datname = current_database()",
    )
    assert ended
    assert store.dry_run("dr_1").state == "open"
