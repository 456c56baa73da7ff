"""Tools' answers in words: for models that read text and people who read over their shoulder.

Whatever comes from rows or from people is quoted and capped, so that it cannot pass for an instruction.
"""

from collections.abc import Sequence

from differ.model import Diff
from differ.text import DATA_NOTE, as_text, neutralise, quoted
from mcp_server.tools.results import CELL_CHARACTERS, DiffResult, ProposalResult, Rows, Step, Tables
from mcp_server.views import DryRunView, QueryResult, StepResult, TenantHit

_WHO = {
    "self": "its rep may confirm it",
    "second": "a second person must confirm it",
    "engineer": "an engineer must confirm it",
    "nobody": "nobody may confirm it",
}
_WAITS = frozenset({"pending", "proposed", "escalated", "approved"})


def tenants(found: Sequence[TenantHit]) -> str:
    """One line per tenant."""
    if not found:
        return "No tenant has that key or a name that contains that text."
    return "\n".join([DATA_NOTE, *(f"key {quoted(hit.key, 80)}: {quoted(hit.label, 120)}" for hit in found)])


def tables(found: Tables) -> str:
    """One paragraph per table: its class, columns and references."""
    lines = []
    for table in found.tables:
        writable = "may be changed" if table.writable else "read-only"
        lines.append(f"{table.table} ({table.fence_class}, {writable}){': ' + table.note if table.note else ''}")
        for column in table.columns:
            marks = [mark for mark, on in (("key", column.key), ("not null", not column.nullable)) if on]
            marks += ["default"] if column.has_default else []
            lines.append(f"  {column.name} {column.type}{' (' + ', '.join(marks) + ')' if marks else ''}")
        lines += [f"  {reference}" for reference in table.references]
    if found.columns_left_off:
        lines.append("Columns are left off: name the tables you need.")
    return "\n".join(lines) or "None of these tables is on the surface."


def dry_run(view: DryRunView) -> str:
    """One dry run in two lines, its notes after them."""
    tenant = f"tenant {quoted(view.tenant_key, 80)} ({quoted(view.tenant_label, 120)})"
    steps = f"{view.steps} step" if view.steps == 1 else f"{view.steps} steps"
    lines = [
        f"Dry run {view.id} of {tenant} by {quoted(view.rep, 80)}: {view.state}, {steps}.",
        f"Purpose {quoted(view.purpose, 200)}; it expires at {view.expires_at.isoformat(timespec='minutes')}.",
    ]
    if view.proposal_id:
        lines.append(f"Its proposal is {view.proposal_id}.")
    return "\n".join([*lines, *(neutralise(note, 300) for note in view.notes)])


def dry_runs(found: Sequence[DryRunView]) -> str:
    """The list, newest first."""
    return "\n".join(dry_run(view) for view in found) or "There are no such dry runs."


def rows(shown: Rows, found: QueryResult) -> str:
    """Every row that is shown on a line of its own, cells quoted."""
    count = f"{len(shown.rows)} row" if len(shown.rows) == 1 else f"{len(shown.rows)} rows"
    columns = ", ".join(f"{quoted(n, 80)} {neutralise(t, 80)}" for n, t in zip(found.columns, found.types, strict=True))
    lines = [*(neutralise(note, 400) for note in found.notes), f"{count}; columns: {columns}."]
    if shown.rows:
        lines.append(DATA_NOTE)
    for row in found.rows[: len(shown.rows)]:
        lines.append(", ".join(quoted(cell, CELL_CHARACTERS) for cell in row))
    if shown.truncated:
        lines.append("There are more rows than are shown: narrow the query, or count with an aggregate.")
    return "\n".join(lines)


def step(shown: Step, made: StepResult, dry_run_id: str) -> str:
    """What one statement did, on the shadow only."""
    count = f"{made.row_count} row" if made.row_count == 1 else f"{made.row_count} rows"
    parts = [f"Step {made.step} of dry run {dry_run_id}: the statement counted {count}. Production is untouched."]
    parts += [neutralise(warning, 400) for warning in made.warnings]
    parts.append(as_text(made.diff, max_rows=len(shown.diff.rows)))
    if shown.rows is not None and made.rows is not None:
        parts.append(rows(shown.rows, made.rows))
    return "\n".join(parts)


def diff(shown: DiffResult, found: Diff) -> str:
    """The diff, headed by what it is of."""
    of = "all kept steps" if shown.step is None else f"step {shown.step}"
    return f"Dry run {shown.dry_run_id}, {of}:\n{as_text(found, max_rows=len(shown.diff.rows))}"


def proposal(found: ProposalResult, whole: Diff) -> str:
    """Where a proposal stands, who decides, and the page on which they do."""
    tenant = f"tenant {quoted(found.tenant_key, 80)} ({quoted(found.tenant_label, 120)})"
    lines = [f"Proposal {found.id} for {tenant}: {found.state}; {_WHO.get(found.decision, found.decision)}."]
    lines += [neutralise(reason, 300) for reason in found.reasons]
    if found.question:
        lines.append(f"Question to an engineer: {quoted(found.question, 1000)}")
    if found.verdict:
        who = quoted(found.answered_by, 80)
        lines.append(f"{neutralise(found.verdict, 40)} by {who}: {quoted(found.comment, 1000)}")
    if found.outcome_message:
        lines.append(neutralise(found.outcome_message, 600))
    if found.receipt:
        lines.append(f"Production applied {found.receipt.rows:,} rows at {found.receipt.applied_at.isoformat()}.")
        lines += [neutralise(note, 600) for note in found.receipt.notes]
    lines += [neutralise(note, 400) for note in (*found.rehearsal_notes, *found.freshness)]
    lines.append(as_text(whole, max_rows=len(found.diff.rows)))
    if found.state in _WAITS:
        lines.append(f"Nothing is applied yet. A person reads and decides it here: {found.review_url}")
    return "\n".join(lines)
