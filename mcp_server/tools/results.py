"""What tools answer with: pydantic models over the desk's views, with long values cut; each becomes an output schema.

Values from rows stay JSON texts and are capped here; the words beside them come from `words.py`.
"""

import hashlib
from dataclasses import replace
from datetime import datetime

from pydantic import BaseModel

from differ.model import CellChange, Diff, PathChange, RowChange
from mcp_server.views import (
    DryRunView,
    ProposalView,
    QueryResult,
    ReceiptView,
    StatementView,
    StepResult,
    TableDescription,
    TenantHit,
)

#: Characters kept of one cell.
CELL_CHARACTERS = 500
#: Characters of all cells of one answer; rows beyond are left off and the answer says so.
ANSWER_CHARACTERS = 60_000
#: Rows of a diff in an answer that is about something else too.
DIFF_ROWS = 20


class FoundTenants(BaseModel):
    """Tenants that fit, best first."""

    tenants: tuple[TenantHit, ...]


class Tables(BaseModel):
    """The surface; without columns when it is wide and no table was named."""

    tables: tuple[TableDescription, ...]
    columns_left_off: bool = False


class DryRunResult(BaseModel):
    """One dry run as it now stands."""

    dry_run: DryRunView


class DryRunList(BaseModel):
    """Dry runs, newest first."""

    dry_runs: tuple[DryRunView, ...]


class Rows(BaseModel):
    """Result rows as Postgres text, NULL as null."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    truncated: bool

    @classmethod
    def of(cls, found: QueryResult) -> "Rows":
        """The rows that fit into one answer."""
        kept: list[tuple[str | None, ...]] = []
        room = ANSWER_CHARACTERS
        for row in found.rows:
            cells = tuple(capped(cell) for cell in row)
            room -= sum(len(cell or "") for cell in cells)
            if room < 0:
                break
            kept.append(cells)
        cut = found.truncated or len(kept) < len(found.rows)
        return cls(columns=found.columns, types=found.types, rows=tuple(kept), truncated=cut)


class Step(BaseModel):
    """One kept statement and its own diff."""

    step: int
    row_count: int
    warnings: tuple[str, ...]
    diff: Diff
    rows: Rows | None = None

    @classmethod
    def of(cls, made: StepResult) -> "Step":
        """The step as it is told to a model."""
        rows = Rows.of(made.rows) if made.rows is not None else None
        diff = diff_for_model(made.diff, DIFF_ROWS)
        return cls(step=made.step, row_count=made.row_count, warnings=made.warnings, diff=diff, rows=rows)


class StatementResult(BaseModel):
    """What `run_statement` did on the shadow."""

    dry_run_id: str
    step: Step


class DiffResult(BaseModel):
    """The net diff of a dry run, or one step's own."""

    dry_run_id: str
    step: int | None
    diff: Diff


class ProposalResult(BaseModel):
    """A proposal and where a person looks at it; nothing in it lets anybody confirm."""

    id: str
    dry_run_id: str
    state: str
    tenant_key: str
    tenant_label: str
    decision: str
    reasons: tuple[str, ...]
    rows: int
    digest: str
    diff: Diff
    statements: tuple[StatementView, ...]
    beyond: tuple[str, ...]
    rehearsal_notes: tuple[str, ...]
    freshness: tuple[str, ...]
    question: str | None
    verdict: str | None
    comment: str | None
    answered_by: str | None
    receipt: ReceiptView | None
    outcome_message: str | None
    expires_at: datetime
    review_url: str

    @classmethod
    def of(cls, view: ProposalView, review_url: str) -> "ProposalResult":
        """The proposal as it is told to a model."""
        names = cls.model_fields.keys() - {"diff", "statements", "review_url"}
        return cls(
            **{name: getattr(view, name) for name in names},
            diff=diff_for_model(view.diff, DIFF_ROWS),
            statements=tuple(_statement(one) for one in view.statements),
            review_url=review_url,
        )


def capped(text: str | None) -> str | None:
    """A cell's text, cut when it is long; the cut says how long the whole is, and texts that differ look different."""
    if text is None or len(text) <= CELL_CHARACTERS:
        return text
    short = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{text[:CELL_CHARACTERS]}… ({len(text):,} characters, sha256 {short})"


def diff_for_model(diff: Diff, rows: int) -> Diff:
    """The diff with at most `rows` rows of its page, and so many that the answer stays readable; long cells cut."""
    kept: list[RowChange] = []
    room = ANSWER_CHARACTERS
    for row in diff.rows[:rows]:
        cells = tuple(_cell(cell) for cell in row.cells)
        room -= sum(len(cell.before or "") + len(cell.after or "") for cell in cells)
        if room < 0:
            break
        kept.append(replace(row, cells=cells))
    return replace(diff, rows=tuple(kept))


def _cell(cell: CellChange) -> CellChange:
    return replace(
        cell, before=capped(cell.before), after=capped(cell.after), paths=tuple(_path(path) for path in cell.paths)
    )


def _path(path: PathChange) -> PathChange:
    return replace(path, before=capped(path.before), after=capped(path.after))


def _statement(statement: StatementView) -> StatementView:
    return replace(
        statement,
        text=_short(statement.text),
        params=tuple(capped(param) for param in statement.params),
        pins=tuple(_short(pin) for pin in statement.pins),
        reason=_short(statement.reason),
    )


def _short(text: str) -> str:
    return capped(text) or ""
