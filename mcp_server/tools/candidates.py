"""The tools that work on whole fixes: put an applied one back, compare two candidates, branch from a step."""

from dataclasses import replace

from pydantic import BaseModel, Field

from differ.model import Diff, RowChange
from mcp_server.branching import BranchView
from mcp_server.comparing import CellPair, Comparison, RowPair
from mcp_server.permissions import PERMISSION_OF
from mcp_server.reverting import RevertView
from mcp_server.reverting_rows import LaterEdit
from mcp_server.tools import candidate_words as words
from mcp_server.tools.changing import REQUEST_HINT
from mcp_server.tools.looking import DryRunId
from mcp_server.tools.results import DIFF_ROWS, capped, diff_for_model
from mcp_server.tools.spec import EDITS_SHADOW, READS, Answer, Arguments, Session, ToolSpec, said
from mcp_server.views import DryRunView

#: Rows of each list of a comparison in one answer.
SHOWN = 20


class Revert(Arguments):
    """Arguments of `revert`."""

    proposal_id: str = Field(min_length=1, max_length=60, description="Id of the applied proposal, or of its dry run.")
    request: str = Field(max_length=4000, description="The rep's own words that led to this, as they said them.")
    anyway: bool = Field(default=False, description="Also when rows were edited since; ask the rep first.")


class CompareDryRuns(Arguments):
    """Arguments of `compare_dry_runs`."""

    dry_run_id: DryRunId
    other_dry_run_id: DryRunId


class BranchDryRun(Arguments):
    """Arguments of `branch_dry_run`."""

    dry_run_id: DryRunId
    from_step: int = Field(ge=1, description="The last step that the new dry run shares with this one.")


class RevertResult(BaseModel):
    """The dry run that would put a proposal back; nothing is applied by it."""

    proposal_id: str
    dry_run: DryRunView
    diff: Diff
    later_edits: tuple[LaterEdit, ...]
    later_edits_total: int
    not_put_back: tuple[str, ...]

    @classmethod
    def of(cls, made: RevertView) -> "RevertResult":
        """The result as it is told to a model."""
        values = {name: getattr(made, name) for name in cls.model_fields}
        return cls(**{**values, "diff": diff_for_model(made.diff, DIFF_ROWS), "later_edits": made.later_edits[:SHOWN]})


class ComparisonResult(BaseModel):
    """Two dry runs side by side; each list holds at most so many rows, the counts are of all."""

    comparison: Comparison
    only_a_total: int
    only_b_total: int
    different_total: int

    @classmethod
    def of(cls, found: Comparison) -> "ComparisonResult":
        """The comparison as it is told to a model."""
        shown = replace(
            found,
            only_a=_rows(found.only_a), only_b=_rows(found.only_b),
            different=tuple(_pair(pair) for pair in found.different[:SHOWN]),
        )  # fmt: skip
        return cls(
            comparison=shown, only_a_total=len(found.only_a), only_b_total=len(found.only_b),
            different_total=len(found.different),
        )  # fmt: skip


class BranchResult(BaseModel):
    """The new dry run and where it comes from."""

    branch: BranchView


def _rows(rows: tuple[RowChange, ...]) -> tuple[RowChange, ...]:
    page = Diff(tables=(), rows=rows, total_rows=len(rows), page_start=0, measures=(), tables_root="")
    return diff_for_model(page, SHOWN).rows


def _pair(pair: RowPair) -> RowPair:
    return replace(pair, cells=tuple(_cell(cell) for cell in pair.cells))


def _cell(cell: CellPair) -> CellPair:
    return replace(cell, before=capped(cell.before), after_a=capped(cell.after_a), after_b=capped(cell.after_b))


def _revert(session: Session, given: Revert) -> Answer:
    request = said(given.request, "request", REQUEST_HINT)
    made = session.desk.revert(
        session.caller, given.proposal_id, request, anyway=given.anyway, progress=session.progress
    )
    return Answer(value=RevertResult.of(made), text=words.revert(made), facts=made.facts)


def _compare(session: Session, given: CompareDryRuns) -> Answer:
    found = session.desk.compare_dry_runs(session.caller, given.dry_run_id, given.other_dry_run_id)
    return Answer(value=ComparisonResult.of(found), text=words.comparison(found, SHOWN), facts=found.facts)


def _branch(session: Session, given: BranchDryRun) -> Answer:
    made = session.desk.branch_dry_run(session.caller, given.dry_run_id, given.from_step, session.progress)
    shown = replace(made, diff=diff_for_model(made.diff, DIFF_ROWS))
    return Answer(value=BranchResult(branch=shown), text=words.branch(made), facts=made.facts)


TOOLS = (
    ToolSpec(
        name="revert",
        description=(
            "Start a dry run that puts an applied proposal back, built from the rows as they were before it. Nothing"
            " is applied by this: show its diff, then propose it like any fix."
        ),
        permission=PERMISSION_OF["revert"],
        arguments=Revert,
        result=RevertResult,
        annotations=EDITS_SHADOW,
        run=_revert,
    ),
    ToolSpec(
        name="compare_dry_runs",
        description="Two candidate fixes of one tenant side by side: rows only one changes, and where both differ.",
        permission=PERMISSION_OF["compare_dry_runs"],
        arguments=CompareDryRuns,
        result=ComparisonResult,
        annotations=READS,
        run=_compare,
    ),
    ToolSpec(
        name="branch_dry_run",
        description="Start a new dry run with the first steps of another, to try another way; the original stays.",
        permission=PERMISSION_OF["branch_dry_run"],
        arguments=BranchDryRun,
        result=BranchResult,
        annotations=EDITS_SHADOW,
        run=_branch,
    ),
)
