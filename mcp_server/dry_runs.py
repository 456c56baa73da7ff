"""Every verb of a fix up to the diff, in the order in which the data goes: fence → shadow → statement → diff.

Part of the desk; `proposing.py` and `confirming.py` hold the verbs after the diff.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from differ.measures import Measure, measure_total
from differ.model import Diff, TableImages
from differ.net import net_diff, step_diff
from mcp_server.control.records import DryRun, Statement
from mcp_server.control.store import ControlStore
from mcp_server.errors import NotFound, WrongState
from mcp_server.identity import Caller
from mcp_server.images import step_clocks, table_images
from mcp_server.limits import check_open, shadow_too_large
from mcp_server.masking import Masking
from mcp_server.permissions import Permissions
from mcp_server.production import Production, surface_tables
from mcp_server.rebuilding import rebuild
from mcp_server.recorded import drawn_in, limits_for, pins_of, query_result, statement_view, thaw, warnings_of
from mcp_server.scope import Scope
from mcp_server.shadows import Shadows
from mcp_server.surface import describe, gate_surface
from mcp_server.views import DryRunView, QueryResult, StatementView, StepResult, TableDescription, TenantHit
from shadow.errors import QuotaExceeded, ShadowExpired
from shadow.gate import gate
from shadow.rehearsal import Recorded
from shadow.run import Ran, fill_pins, run_query, run_step
from shadow.sandbox import new_id
from shadow.shadow import Shadow
from shadow.snapshot import SnapshotGone
from shadow.statement import GatedStatement, GateLimits, Surface

Progress = Callable[[str, float], None]
#: States of a dry run that still waits for somebody: its shadow is rebuilt when it is lost.
WAITING = ("open", "proposed", "escalated")
LOST = "Its shadow is lost; it is rebuilt from the recorded statements when the dry run is used next."
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class DryRunSettings:
    """Limits and measures; times in seconds, `max_shadow_bytes` is what a shadow may have grown to after a step."""

    measures: tuple[Measure, ...] = ()
    allow_functions: frozenset[str] = frozenset()
    gate_limits: GateLimits = field(default_factory=GateLimits)
    max_rows_changed: int = 200_000
    ttl_s: int = 7200
    open_dry_runs: int = 1_000
    returned_bytes: int = 1 << 20
    max_shadow_bytes: int = 2 << 30


class DryRuns:
    """One rep's dry runs; any number of threads may call it, one statement at a time runs per shadow."""

    def __init__(
        self,
        *,
        settings: DryRunSettings,
        production: Production,
        shadows: Shadows,
        control: ControlStore,
        permissions: Permissions,
    ) -> None:
        self.settings = settings
        self.production = production
        self.shadows = shadows
        self.control = control
        self.scope = Scope(permissions, production)
        self.masking = Masking(permissions, control)

    def find_tenant(self, caller: Caller, text: str, limit: int = 10) -> list[TenantHit]:
        """Tenants by key or by a part of their label, of those the caller's role may see."""
        return self.production.find_tenants(text, limit, lambda keys: self.scope.tenants(caller, keys))

    def describe_tables(self, caller: Caller, tables: list[str] | None = None) -> list[TableDescription]:
        """The surface's tables and columns; names that are not on it are left out."""
        fence = self.production.fence()
        return self.masking.describe(caller, describe(fence, surface_tables(fence, tables)))

    def list_dry_runs(self, caller: Caller, state: str | None = None, limit: int = 20) -> list[DryRunView]:
        """The newest dry runs first: a rep sees their own, those who answer or inspect see all."""
        rep = None if self.scope.sees_all(caller) else caller.name
        found = self.control.list_dry_runs(state=state, rep=rep, limit=limit)
        tenants = self.scope.tenants(caller, (dry_run.tenant_key for dry_run in found))
        lost = self.shadows.lost([d.shadow_id for d in found if d.shadow_id and d.state in WAITING])
        return [self.view(d, lost=d.shadow_id in lost) for d in found if d.tenant_key in tenants]

    def statements(self, caller: Caller, dry_run_id: str) -> list[StatementView]:
        """The kept statements of a dry run, as recorded."""
        self.visible(caller, dry_run_id)
        shown = self.masking.of(caller, dry_run_id).statement
        return [shown(statement_view(s)) for s in self.control.statements(dry_run_id)]

    # ------------------------------------------------------------------------------------------------ clone

    def start_dry_run(
        self, caller: Caller, tenant: str, request: str, purpose: str, progress: Progress | None = None
    ) -> DryRunView:
        """Clones the tenant (rows on first need) into a shadow. Raises TenantNotFound, LimitReached, QuotaExceeded."""
        check_open(self.control.open_dry_runs(caller.name), self.settings.open_dry_runs)
        fence = self.production.fence()
        hit = self.production.tenant(tenant, fence)
        self.scope.require_tenant(caller, hit.key)
        self.masking.check(lambda: fence)
        shadow, mirror = self.shadows.start(hit.key, progress, fence)
        now = datetime.now(UTC)
        dry_run = DryRun(
            id=f"dr_{new_id()}", tenant_key=hit.key, tenant_label=hit.label, purpose=purpose, request=request,
            rep=caller.name, role=caller.role, client=caller.client, state="open", shadow_id=shadow.id,
            mirror_version=mirror, fence_hash=shadow.fence.catalog.fingerprint,
            snapshot_id=shadow.snapshot.name if shadow.snapshot else None, created_at=now,
            base_at=shadow.snapshot.taken_at if shadow.snapshot else now,
            expires_at=now + timedelta(seconds=self.settings.ttl_s),
        )  # fmt: skip
        with self.shadows.kept_or_dropped(dry_run.id, shadow):
            self.control.create_dry_run(dry_run)
        return self.view(dry_run)

    # ------------------------------------------------------------------------------------------------ run

    def query(
        self, caller: Caller, dry_run_id: str, sql: str, params: Sequence[str | None] = (), limit: int = 100
    ) -> QueryResult:
        """Reads the shadow; at most `limit` rows. Raises StatementRefused, StatementFailed, ShadowExpired."""
        dry_run = self.visible(caller, dry_run_id)

        def work(shadow: Shadow, _steps: list[Statement]) -> QueryResult:
            gated = gate(sql, tuple(params), self.surface(shadow), query=True, limits=self.settings.gate_limits)
            self.scope.set_timeout(caller, shadow)
            schemas = partial(self.masking.of(caller, dry_run_id).schemas, shadow, gated)
            ran = run_query(shadow, gated, limit, schemas, self.settings.returned_bytes)
            return replace(query_result(ran.rows), notes=shadow.news())

        return self.on_shadow(dry_run, work)

    def run(
        self,
        caller: Caller,
        dry_run_id: str,
        sql: str,
        reason: str,
        params: Sequence[str | None] = (),
        tool: str | None = None,
        arguments: dict[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> StepResult:
        """Runs one statement on the shadow and keeps it as the next step.

        Raises StatementRefused (nothing ran), StatementFailed (rolled back), QuotaExceeded, WrongState.
        """
        dry_run = self.editable(caller, dry_run_id)
        masks = self.masking.of(caller, dry_run_id)

        def work(shadow: Shadow, steps: list[Statement]) -> StepResult:
            gated = gate(sql, tuple(params), self.surface(shadow), limits=limits_for(self.settings.gate_limits, tool))
            self.scope.require_writes(caller, gated, tool)
            masks.check(gated, self.surface(shadow), tool)
            gated = fill_pins(shadow, gated)
            self.scope.set_timeout(caller, shadow)
            step = steps[-1].step + 1 if steps else 1
            shadow.progress = progress
            ran = run_step(shadow, gated, step)
            diff = self._kept_or_undone(caller, shadow, gated, step)
            self.record(dry_run, shadow, gated, step, ran, reason, tool, arguments)
            rows = query_result(ran.rows) if ran.rows is not None else None
            return StepResult(
                step=step, row_count=ran.row_count, diff=diff, rows=rows,
                warnings=(*shadow.news(), *warnings_of(gated, ran)),
            )  # fmt: skip

        return masks.step(self.on_shadow(dry_run, work))

    def _kept_or_undone(self, caller: Caller, shadow: Shadow, gated: GatedStatement, step: int) -> Diff:
        """The step's diff; one that changed more rows, or left a larger shadow, than it may is taken back."""
        most = self.settings.max_shadow_bytes
        if (size := shadow.size()) > most:
            shadow.undo_to(step - 1)
            raise shadow_too_large(size, most)
        diff = self._step_diff(shadow, step, gated.set_columns, 0, 50)
        try:
            self.scope.require_rows(caller, diff.total_rows, self.settings.max_rows_changed)
        except QuotaExceeded:
            shadow.undo_to(step - 1)
            raise
        return diff

    def record(
        self, dry_run: DryRun, shadow: Shadow, gated: GatedStatement, step: int, ran: Ran, reason: str,
        tool: str | None, arguments: dict[str, Any] | None,
    ) -> None:  # fmt: skip
        """Keeps a step that has run, with what it drew; one that cannot be kept is taken back."""
        drawn = drawn_in(shadow, step)
        try:
            self.control.add_statement(
                Statement(
                    dry_run_id=dry_run.id, step=step, text=gated.text, params=gated.params,
                    pins=pins_of(gated), defaults=drawn,
                    kind=gated.kind, reason=reason, tool=tool, arguments=arguments, row_count=ran.row_count,
                    warnings=warnings_of(gated, ran), ran_at=datetime.now(UTC),
                )
            )  # fmt: skip
        except BaseException:
            # A step that is not recorded must not stay in the shadow: the digest would speak of unknown rows.
            shadow.undo_to(step - 1)
            raise
        if dry_run.state != "open":
            self.control.reopen_dry_run(dry_run.id)

    def undo(self, caller: Caller, dry_run_id: str, to_step: int) -> DryRunView:
        """Goes back to the end of step `to_step` (0: the rows as loaded); later steps are forgotten."""
        dry_run = self.editable(caller, dry_run_id)

        def work(shadow: Shadow, steps: list[Statement]) -> None:
            if to_step < 0 or to_step > (steps[-1].step if steps else 0):
                raise WrongState(
                    f"There is no step {to_step} to go back to.",
                    "Nothing was undone.",
                    f"This dry run has {len(steps)} kept steps; 0 means the rows as loaded.",
                )
            shadow.undo_to(to_step)
            self.control.undo_statements(dry_run_id, to_step)
            if dry_run.state != "open":
                self.control.reopen_dry_run(dry_run_id)

        self.on_shadow(dry_run, work)
        return self.view(self.control.dry_run(dry_run_id))

    def discard(self, caller: Caller, dry_run_id: str) -> DryRunView:
        """Ends a dry run and drops its shadow; the recorded statements and the audit stay."""
        dry_run = self.editable(caller, dry_run_id)
        self.control.set_dry_run_state(dry_run_id, "discarded", dry_run.state)
        self.shadows.drop(dry_run_id, dry_run.shadow_id)
        return self.view(self.control.dry_run(dry_run_id))

    # ------------------------------------------------------------------------------------------------ diff

    def diff(
        self,
        caller: Caller,
        dry_run_id: str,
        step: int | None = None,
        page_start: int = 0,
        page_size: int = 50,
    ) -> Diff:
        """The net diff of all kept steps, or one step's own."""
        dry_run = self.visible(caller, dry_run_id)

        def work(shadow: Shadow, steps: list[Statement]) -> Diff:
            if step is not None and step not in {s.step for s in steps}:
                raise NotFound(
                    f"There is no step {step}.", "Nothing was read.", "Ask for the net diff, or a kept step."
                )
            sets = self.set_columns(shadow, steps if step is None else [s for s in steps if s.step == step])
            if step is not None:
                return self._step_diff(shadow, step, sets, page_start, page_size)
            return self.net(shadow, sets, page_start, page_size)

        return self.masking.of(caller, dry_run_id).diff(self.on_shadow(dry_run, work))

    def net(
        self,
        shadow: Shadow,
        sets: frozenset[tuple[str, str]],
        page_start: int = 0,
        page_size: int = 50,
        *,
        rehearsal: bool = False,
    ) -> Diff:
        """The net diff of the steps, or of the rehearsal."""
        images = table_images(shadow)
        return net_diff(
            shadow.owner,
            images,
            rehearsal=rehearsal,
            clocks=step_clocks(shadow, None, rehearsal=rehearsal),
            set_columns=sets,
            page_start=page_start,
            page_size=page_size,
            measures=self.settings.measures,
            totals=self._totals(shadow, images),
        )

    def _totals(self, shadow: Shadow, images: Sequence[TableImages]) -> dict[str, str]:
        """Each touched measure before the first write: read once per shadow, so a diff's cost follows its rows."""
        for table in images:
            for measure in self.settings.measures:
                if measure.table == table.table and table.pristine and measure.name not in shadow.totals:
                    loaded = replace(table, base=table.pristine)
                    shadow.totals[measure.name] = measure_total(shadow.owner, measure, loaded)
        return shadow.totals

    def _step_diff(
        self, shadow: Shadow, step: int, sets: frozenset[tuple[str, str]], page_start: int, page_size: int
    ) -> Diff:
        return step_diff(
            shadow.owner,
            table_images(shadow),
            step,
            clocks=step_clocks(shadow, [step], rehearsal=False),
            set_columns=sets,
            page_start=page_start,
            page_size=page_size,
            measures=self.settings.measures,
        )

    # ------------------------------------------------------------------------------------------------ inside

    def surface(self, shadow: Shadow) -> Surface:
        """What the gate may know for this shadow."""
        return gate_surface(shadow.fence, shadow.tenant_key, self.settings.allow_functions)

    def recorded(self, shadow: Shadow, steps: Sequence[Statement]) -> list[Recorded]:
        """The kept statements as the gate sees them again, with their recorded pins."""
        surface = self.surface(shadow)
        return [thaw(surface, statement, self.settings.gate_limits) for statement in steps]

    def set_columns(self, shadow: Shadow, steps: Sequence[Statement]) -> frozenset[tuple[str, str]]:
        """Columns that any of the statements assigns: coarse clock values there are values."""
        return frozenset(pair for r in self.recorded(shadow, steps) for pair in r.gated.set_columns)

    def visible(self, caller: Caller, dry_run_id: str) -> DryRun:
        """The dry run when the caller may see it. Raises NotFound, also for other people's."""
        dry_run = self.control.dry_run(dry_run_id)
        if dry_run.rep != caller.name and not self.scope.sees_all(caller):
            raise NotFound(
                f"There is no dry run {dry_run_id} of yours.",
                "Nothing ran.",
                "list_dry_runs shows the ones you started.",
            )
        self.scope.require_visible(caller, dry_run.tenant_key, dry_run_id)
        return dry_run

    def editable(self, caller: Caller, dry_run_id: str) -> DryRun:
        """The caller's own dry run while its steps may still change. Raises WrongState after that."""
        dry_run = self.visible(caller, dry_run_id)
        if dry_run.rep != caller.name:
            raise NotFound(f"Dry run {dry_run_id} is {dry_run.rep}'s.", "Nothing ran.", "Only its rep may change it.")
        if dry_run.state not in WAITING:
            raise WrongState(
                f"Dry run {dry_run_id} is {dry_run.state}.",
                "Nothing ran.",
                "Start a new dry run for further edits.",
            )
        return dry_run

    def on_shadow(self, dry_run: DryRun, work: Callable[[Shadow, list[Statement]], T]) -> T:
        """Runs `work` on the dry run's shadow, alone; rebuilds the shadow once when it or its snapshot is lost.

        Raises ShadowExpired when it is lost and the dry run is over: production has moved on, so nothing could show
        what its steps did then.
        """
        try:
            shadow = self.shadows.get(dry_run.id, dry_run.shadow_id, dry_run.tenant_key, dry_run.fence_hash)
            shadow.quiet = self.masking.configured
            with shadow.alone():
                return work(shadow, self.control.statements(dry_run.id))
        except (ShadowExpired, SnapshotGone) as lost:
            if dry_run.state not in WAITING:
                raise
            shadow = rebuild(self, dry_run, lost)
            with shadow.alone():
                return work(shadow, self.control.statements(dry_run.id))

    def view(self, dry_run: DryRun, lost: bool = False) -> DryRunView:
        """The dry run as its rep sees it; `lost`: its shadow is known to be gone."""
        notes = (LOST,) if lost else self.shadows.notes(dry_run.id)
        proposal = self.control.latest_proposal(dry_run.id)
        return DryRunView(
            id=dry_run.id, tenant_key=dry_run.tenant_key, tenant_label=dry_run.tenant_label, purpose=dry_run.purpose,
            request=dry_run.request, rep=dry_run.rep, state=dry_run.state,
            steps=len(self.control.statements(dry_run.id)), created_at=dry_run.created_at,
            expires_at=dry_run.expires_at, proposal_id=proposal.id if proposal else None, notes=notes,
        )  # fmt: skip
