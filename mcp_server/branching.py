"""A new dry run from the first steps of another: two ways to go on are tried without losing either.

Called by the desk. The steps run again with the values they drew, on a fresh shadow; the original stays as it is.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from differ.model import Diff
from mcp_server.control.records import DryRun, Statement
from mcp_server.dry_runs import DryRuns, Progress
from mcp_server.errors import EXPLAINED, WrongState
from mcp_server.governed import Facts, diff_summary
from mcp_server.identity import Caller
from mcp_server.recorded import preload
from mcp_server.views import DryRunView
from shadow.errors import ShadowError, StatementFailed
from shadow.run import run_step
from shadow.shadow import Shadow


@dataclass(frozen=True, kw_only=True)
class BranchView:
    """The new dry run, where it comes from, when the rows of both were read, and which steps count otherwise now."""

    dry_run: DryRunView
    origin: str
    from_step: int
    base_at: datetime | None
    origin_base_at: datetime | None
    diff: Diff
    notes: tuple[str, ...]

    @property
    def facts(self) -> Facts:
        """What the audit trail keeps of it."""
        return Facts(dry_run_id=self.dry_run.id, request=self.dry_run.request, diff=diff_summary(self.diff))


class Branching:
    """Makes dry runs out of parts of others."""

    def __init__(self, dry_runs: DryRuns) -> None:
        self._dry_runs = dry_runs

    def branch(
        self, caller: Caller, dry_run_id: str, from_step: int, progress: Progress | None = None
    ) -> BranchView:  # fmt: skip
        """A dry run of the caller's with steps 1 to `from_step` of another they may see, its request carried over.

        Raises WrongState when there is no such step, StatementFailed when a step does not run on today's rows; no
        dry run is left behind then.
        """
        origin = self._dry_runs.visible(caller, dry_run_id)
        kept = [s for s in self._dry_runs.control.statements(dry_run_id) if s.step <= from_step]
        if from_step < 1 or not kept or kept[-1].step != from_step:
            raise WrongState(
                f"Dry run {dry_run_id} has no kept step {from_step}.",
                "No dry run was started.",
                "show_diff and the dry run's statements tell its steps; to begin anew, start a dry run.",
            )
        purpose = f"Branch of {dry_run_id} after step {from_step}: {origin.purpose}"[:400]
        view = self._dry_runs.start_dry_run(caller, origin.tenant_key, origin.request, purpose, progress)
        try:
            notes = tuple(note for statement in kept for note in self._again(caller, view.id, statement))
            diff = self._dry_runs.diff(caller, view.id)
        except BaseException:
            with suppress(*EXPLAINED):
                self._dry_runs.discard(caller, view.id)
            raise
        return self._view(origin, view.id, from_step, diff, notes)

    def _again(self, caller: Caller, dry_run_id: str, statement: Statement) -> list[str]:
        """Runs one recorded step with its recorded values and keeps it under the same number."""
        dry_run = self._dry_runs.editable(caller, dry_run_id)

        def work(shadow: Shadow, _steps: list[Statement]) -> list[str]:
            preload(shadow, statement)
            gated = self._dry_runs.recorded(shadow, [statement])[0].gated
            masks = self._dry_runs.masking.of(caller, dry_run_id)
            masks.check(gated, self._dry_runs.surface(shadow), statement.tool)
            self._dry_runs.scope.require_writes(caller, gated, statement.tool)
            ran = run_step(shadow, gated, statement.step)
            self._dry_runs.record(
                dry_run, shadow, gated, statement.step, ran, statement.reason, statement.tool, statement.arguments
            )
            if ran.row_count == statement.row_count:
                return []
            return [f"Step {statement.step} counts {ran.row_count:,} rows here and {statement.row_count:,} there."]

        try:
            return self._dry_runs.on_shadow(dry_run, work)
        except ShadowError as error:
            raise StatementFailed(
                f"Step {statement.step} does not run on today's rows: {error.happened}",
                "No dry run was kept; the original stays as it is.",
                "Branch from an earlier step, or start a new dry run.",
            ) from error

    def _view(self, origin: DryRun, dry_run_id: str, from_step: int, diff: Diff, notes: tuple[str, ...]) -> BranchView:
        made = self._dry_runs.control.dry_run(dry_run_id)
        return BranchView(
            dry_run=self._dry_runs.view(made), origin=origin.id, from_step=from_step, base_at=made.base_at,
            origin_base_at=origin.base_at, diff=diff, notes=notes,
        )  # fmt: skip
