"""The governor: the intent before the act, an outcome after it whatever happens, and nothing without the trail."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from audit.errors import AuditUnavailable
from audit.event import AuditEvent
from differ.model import Diff, TableSummary
from mcp_server.errors import EXPLAINED, NotFound, PermissionDenied
from mcp_server.governed import Governor
from mcp_server.identity import Caller
from mcp_server.permissions import Permissions, Role
from mcp_server.views import DryRunView
from shadow.errors import StatementFailed

CALLER = Caller(name="rita", role="rep", channel="cli", client="test")
SECRET = "Key (email)=(jo@example.org) already exists"


class Trail:
    """Events in memory; `broken` names the kind that cannot be written."""

    def __init__(self, broken: str | None = None) -> None:
        self.events: list[AuditEvent] = []
        self.broken = broken

    def append(self, event: AuditEvent) -> int:
        if event.kind == self.broken:
            raise AuditUnavailable("The audit trail cannot be written.", "See below.", "Ask the operator.")
        event.to_bytes()
        self.events.append(event)
        return len(self.events)


def words_of(about: str) -> str:
    if about != "dr_1":
        raise NotFound("No such dry run.", "Nothing ran.", "Look again.")
    return "please fix the signatory"


def governor(trail: Trail, words: Callable[[str], str] = words_of) -> Governor:
    return Governor(trail, Permissions({"rep": Role(name="rep", permissions=("dry_run.*",))}), words)


def test_the_intent_is_committed_before_the_act_and_the_outcome_after() -> None:
    trail = Trail()
    seen: list[int] = []

    def act() -> str:
        seen.append(len(trail.events))
        return "done"

    assert governor(trail).run(CALLER, "run_statement", {"dry_run_id": "dr_1", "reason": "typo"}, act) == "done"
    intent, outcome = trail.events
    assert seen == [1]
    assert (intent.kind, outcome.kind, outcome.outcome) == ("intent", "outcome", "ok")
    assert intent.call_id == outcome.call_id
    assert (intent.request, intent.reason, intent.person) == ("please fix the signatory", "typo", "rita")
    assert outcome.duration_ms is not None


def test_nothing_runs_when_the_intent_cannot_be_written() -> None:
    with pytest.raises(AuditUnavailable):
        governor(Trail("intent")).run(CALLER, "propose", {}, lambda: pytest.fail("it ran"))


def test_nothing_runs_when_the_words_behind_it_cannot_be_read() -> None:
    def words(_: str) -> str:
        raise StatementFailed("The control database is away.", "Nothing ran.", "Try again.")

    with pytest.raises(AuditUnavailable):
        governor(Trail(), words).run(CALLER, "propose", {"dry_run_id": "dr_1"}, lambda: pytest.fail("it ran"))


def test_a_denied_call_is_audited_and_does_not_run() -> None:
    trail = Trail()
    with pytest.raises(PermissionDenied):
        governor(trail).run(CALLER, "confirm", {"proposal_id": "pr_1"}, lambda: pytest.fail("it ran"))
    assert [event.outcome for event in trail.events] == [None, "denied"]
    assert trail.events[0].proposal_id == "pr_1"


@pytest.mark.parametrize(
    ("error", "outcome", "message"),
    [
        (
            StatementFailed("It failed.", "Rolled back.", "Mend it."),
            "refused:StatementFailed",
            "It failed. Rolled back. Mend it.",
        ),
        (PermissionDenied("Not yours.", "Nothing ran.", "Ask."), "denied", "Not yours. Nothing ran. Ask."),
        (RuntimeError(SECRET), "crash:RuntimeError", None),
        (KeyboardInterrupt(), "aborted", "KeyboardInterrupt"),
    ],
)
def test_a_failed_act_is_audited_by_its_kind(error: BaseException, outcome: str, message: str | None) -> None:
    trail = Trail()

    def act() -> None:
        raise error

    with pytest.raises(type(error)):
        governor(trail).run(CALLER, "propose", {}, act)
    assert (trail.events[1].outcome, trail.events[1].message) == (outcome, message)
    assert SECRET not in repr(trail.events)


def test_a_success_whose_outcome_cannot_be_written_is_told() -> None:
    ran: list[bool] = []
    with pytest.raises(AuditUnavailable):
        governor(Trail("outcome")).run(CALLER, "propose", {}, lambda: ran.append(True))
    assert ran == [True]


def test_a_failure_whose_outcome_cannot_be_written_keeps_its_own_error() -> None:
    def act() -> None:
        raise StatementFailed("It failed.", "Rolled back.", "Mend it.")

    with pytest.raises(StatementFailed) as error:
        governor(Trail("outcome")).run(CALLER, "propose", {}, act)
    assert "missing from the audit trail" in error.value.__notes__[0]


def test_a_result_tells_the_trail_what_it_was_about() -> None:
    trail = Trail()
    now = datetime.now(UTC)
    view = DryRunView(
        id="dr_2", tenant_key="1", tenant_label="Acme", purpose="p", request="the rep's words", rep="rita",
        state="open", steps=0, created_at=now, expires_at=now + timedelta(hours=1),
    )  # fmt: skip
    tables = (TableSummary(table="t", inserted=1, updated=0, deleted=0, beyond=0),)
    diff = Diff(tables=tables, rows=(), total_rows=1, page_start=0, measures=(), tables_root="ab")
    governor(trail).run(CALLER, "show_diff", {}, lambda: (view, diff))
    outcome = trail.events[1]
    assert (outcome.dry_run_id, outcome.request) == ("dr_2", "the rep's words")
    assert outcome.diff["total_rows"] == 1
    assert "rows" not in outcome.diff


def test_calls_that_never_became_one_are_audited_whatever_they_carried() -> None:
    trail = Trail()
    governor(trail).record(CALLER, "nope", ["no", "object"], "invalid_arguments", "not an object")
    assert [event.outcome for event in trail.events] == [None, "invalid_arguments"]
    assert trail.events[0].arguments == ["no", "object"]
    assert issubclass(AuditUnavailable, EXPLAINED)
