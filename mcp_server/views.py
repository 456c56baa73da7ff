"""What the desk answers with: frozen values read by tools, pages and the CLI; made by `desk.py` only."""

from dataclasses import dataclass, field
from datetime import datetime

from differ.model import Diff

#: Where the page of a proposal is, before its id.
REVIEW_PATH = "/review/"


@dataclass(frozen=True, kw_only=True)
class TenantHit:
    """One tenant: the root key as Postgres text and its label."""

    key: str
    label: str


@dataclass(frozen=True, kw_only=True)
class ColumnDescription:
    """One column as production defines it; `type` is Postgres' format_type."""

    name: str
    type: str
    nullable: bool
    key: bool
    has_default: bool


@dataclass(frozen=True, kw_only=True)
class TableDescription:
    """One table of the surface; `references` reads like `contract_id -> contracts.id`."""

    table: str
    fence_class: str
    writable: bool
    columns: tuple[ColumnDescription, ...]
    references: tuple[str, ...]
    note: str


@dataclass(frozen=True, kw_only=True)
class DryRunView:
    """A dry run as its rep sees it; `steps` counts the kept statements."""

    id: str
    tenant_key: str
    tenant_label: str
    purpose: str
    request: str
    rep: str
    state: str
    steps: int
    created_at: datetime
    expires_at: datetime
    proposal_id: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class QueryResult:
    """Rows as Postgres text, NULL as None; `truncated` when the row or byte cap was reached.

    `notes` tell what became of the shadow meanwhile, such as that it was rebuilt.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    truncated: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One kept statement: its number, the rows Postgres counted, its own diff, its RETURNING rows."""

    step: int
    row_count: int
    diff: Diff
    warnings: tuple[str, ...]
    rows: QueryResult | None = None


@dataclass(frozen=True, kw_only=True)
class StatementView:
    """One kept statement as recorded."""

    step: int
    text: str
    params: tuple[str | None, ...]
    pins: tuple[str, ...]
    reason: str
    tool: str | None
    row_count: int


@dataclass(frozen=True, kw_only=True)
class ReceiptView:
    """The row that production wrote in the replay's own transaction."""

    proposal_id: str
    digest: str
    tenant_key: str
    rows: int
    applied_at: datetime
    transaction_id: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ProposalView:
    """A frozen recording put before a person; `rows` is what the person types to confirm."""

    id: str
    dry_run_id: str
    tenant_key: str
    tenant_label: str
    rep: str
    request: str
    purpose: str
    state: str
    digest: str
    decision: str
    reasons: tuple[str, ...]
    rows: int
    diff: Diff
    statements: tuple[StatementView, ...]
    beyond: tuple[str, ...]
    rehearsal_notes: tuple[str, ...]
    question: str | None
    verdict: str | None
    comment: str | None
    answered_by: str | None
    receipt: ReceiptView | None
    outcome_message: str | None
    created_at: datetime
    expires_at: datetime
    review_path: str = field(default="")
    #: Freshness, asked of production while the proposal waits: what changed of the rows that were only looked at.
    freshness: tuple[str, ...] = ()
