"""A lost or outdated shadow made again: a new snapshot, the recorded statements run with their recorded values.

Called by `DryRuns.on_shadow` while the dry run is open; what happened is told to the rep by the shadow's notes.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mcp_server.control.records import DryRun, Statement
from mcp_server.recorded import preload
from mcp_server.shadows import let_go
from shadow.errors import ShadowError, ShadowExpired, StatementFailed, StatementRefused
from shadow.run import run_step
from shadow.shadow import Shadow

if TYPE_CHECKING:
    from mcp_server.dry_runs import DryRuns


def rebuild(dry_runs: "DryRuns", dry_run: DryRun, lost: ShadowError) -> Shadow:
    """The new shadow; `lost` says why the old one cannot be used.

    Raises ShadowExpired when the dry run's time is over, StatementFailed or StatementRefused, naming the step, when a
    statement no longer runs.
    """
    if dry_run.expires_at < datetime.now(UTC):
        raise ShadowExpired(
            f"Dry run {dry_run.id} expired.",
            "Nothing ran.",
            "Start a new dry run; the recorded statements are kept.",
        )
    shadows, control = dry_runs.shadows, dry_runs.control
    shadows.drop(dry_run.id, dry_run.shadow_id)
    shadow, mirror = shadows.start(dry_run.tenant_key)
    shadow.quiet = dry_runs.masking.configured
    base_at = shadow.snapshot.taken_at if shadow.snapshot else datetime.now(UTC)
    try:
        kept = control.statements(dry_run.id)
        for statement in kept:
            _run_again(dry_runs, shadow, statement)
        control.update_shadow(
            dry_run.id,
            shadow_id=shadow.id,
            snapshot_id=shadow.snapshot.name if shadow.snapshot else None,
            mirror_version=mirror,
            fence_hash=shadow.fence.catalog.fingerprint,
            base_at=base_at,
        )
    except BaseException:
        let_go(shadow)
        shadows.drop(dry_run.id, shadow.id)
        raise
    steps = "1 recorded statement" if len(kept) == 1 else f"{len(kept)} recorded statements"
    shadow.notes.append(
        f"{lost.happened} It was rebuilt from {steps} on production's rows of {base_at.isoformat(timespec='seconds')}."
    )
    shadows.keep(dry_run.id, shadow)
    return shadow


def _run_again(dry_runs: "DryRuns", shadow: Shadow, statement: Statement) -> None:
    try:
        preload(shadow, statement)
        recorded = dry_runs.recorded(shadow, [statement])[0]
        run_step(shadow, recorded.gated, statement.step)
    except (StatementFailed, StatementRefused) as error:
        raise type(error)(
            f"The shadow was lost, and step {statement.step} does not run on a new one: {error.happened}",
            "Nothing was changed anywhere; the recorded statements are kept.",
            "Start a new dry run and correct that step.",
        ) from None
