"""The tools that change a shadow, never production: start, run, undo, discard."""

from pydantic import Field

from mcp_server.errors import WrongState
from mcp_server.governed import Facts, diff_summary, facts_of
from mcp_server.permissions import PERMISSION_OF
from mcp_server.tools import words
from mcp_server.tools.looking import DryRunId, Params, texts
from mcp_server.tools.results import DryRunResult, StatementResult, Step
from mcp_server.tools.spec import EDITS_SHADOW, Answer, Arguments, Session, ToolSpec, said
from mcp_server.tools.steps import same_call

REQUEST_HINT = "Give the rep's own words that led to this call; they are kept in the audit trail."


class StartDryRun(Arguments):
    """Arguments of `start_dry_run`."""

    tenant: str = Field(min_length=1, max_length=200, description="The tenant's key, as find_tenant gives it.")
    request: str = Field(max_length=4000, description="The rep's own words that led to this, as they said them.")
    purpose: str = Field(max_length=400, description="What the fix is to achieve, in one sentence.")


class RunStatement(Arguments):
    """Arguments of `run_statement`."""

    dry_run_id: DryRunId
    sql: str = Field(min_length=1, description="One INSERT, UPDATE, DELETE or MERGE; $1, $2, … for values.")
    reason: str = Field(max_length=1000, description="Why this statement, in one sentence.")
    params: Params = Field(default_factory=list)


class UndoStatement(Arguments):
    """Arguments of `undo_statement`."""

    dry_run_id: DryRunId
    to_step: int = Field(ge=0, description="The last step to keep; 0 takes everything back.")


class DiscardDryRun(Arguments):
    """Arguments of `discard_dry_run`."""

    dry_run_id: DryRunId


def _start_dry_run(session: Session, given: StartDryRun) -> Answer:
    request = said(given.request, "request", REQUEST_HINT)
    purpose = said(given.purpose, "purpose", "Say in one sentence what the fix is to achieve.")
    view = session.desk.start_dry_run(session.caller, given.tenant, request, purpose, session.progress)
    return Answer(value=DryRunResult(dry_run=view), text=words.dry_run(view), facts=facts_of(view))


def _run_statement(session: Session, given: RunStatement) -> Answer:
    reason = said(given.reason, "reason", "Say in one sentence why this statement is run.")
    made = session.desk.run(
        session.caller, given.dry_run_id, given.sql, reason, texts(given.params), progress=session.progress
    )
    result = StatementResult(dry_run_id=given.dry_run_id, step=Step.of(made))
    return Answer(
        value=result, text=words.step(result.step, made, given.dry_run_id), facts=Facts(diff=diff_summary(made.diff))
    )


def _undo_statement(session: Session, given: UndoStatement) -> Answer:
    session.desk.statements(session.caller, given.dry_run_id)
    kept = [one for one in session.desk.control.statements(given.dry_run_id) if one.step in _around(given.to_step)]
    if len(kept) == 2 and kept[0].tool is not None and same_call(kept[0], kept[1]):
        raise WrongState(
            f"Steps {kept[0].step} and {kept[1].step} are one call of {kept[0].tool}.",
            "Nothing was undone.",
            "Such a call is kept whole or not at all: go back to the step before it.",
        )
    view = session.desk.undo(session.caller, given.dry_run_id, given.to_step)
    return Answer(value=DryRunResult(dry_run=view), text=words.dry_run(view), facts=facts_of(view))


def _around(to_step: int) -> tuple[int, int]:
    return to_step, to_step + 1


def _discard_dry_run(session: Session, given: DiscardDryRun) -> Answer:
    view = session.desk.discard(session.caller, given.dry_run_id)
    return Answer(value=DryRunResult(dry_run=view), text=words.dry_run(view), facts=facts_of(view))


TOOLS = (
    ToolSpec(
        name="start_dry_run",
        description="Start a dry run: a throw-away shadow of one tenant's rows in which a fix is rehearsed.",
        permission=PERMISSION_OF["start_dry_run"],
        arguments=StartDryRun,
        result=DryRunResult,
        annotations=EDITS_SHADOW,
        run=_start_dry_run,
    ),
    ToolSpec(
        name="run_statement",
        description="Run one statement on the dry run's shadow and keep it as a step. Answers with its diff.",
        permission=PERMISSION_OF["run_statement"],
        arguments=RunStatement,
        result=StatementResult,
        annotations=EDITS_SHADOW,
        run=_run_statement,
    ),
    ToolSpec(
        name="undo_statement",
        description="Take back the steps after `to_step`; the shadow is then as it was at the end of that step.",
        permission=PERMISSION_OF["undo_statement"],
        arguments=UndoStatement,
        result=DryRunResult,
        annotations=EDITS_SHADOW,
        run=_undo_statement,
    ),
    ToolSpec(
        name="discard_dry_run",
        description="End a dry run and drop its shadow. It cannot be continued or proposed afterwards.",
        permission=PERMISSION_OF["discard_dry_run"],
        arguments=DiscardDryRun,
        result=DryRunResult,
        annotations=EDITS_SHADOW.model_copy(update={"destructive_hint": True}),
        run=_discard_dry_run,
    ),
)
