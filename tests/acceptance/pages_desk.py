"""A desk in memory for tests of the pages' own mechanics: it answers with one made-up proposal and notes each call."""

import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from differ.model import CellChange, Diff, MeasureDelta, PathChange, RowChange, TableSummary
from mcp_server.errors import ConfirmationRefused, NotFound
from mcp_server.identity import Caller
from mcp_server.views import DryRunView, ProposalView, ReceiptView, StatementView

PROPOSAL_ID = "pr_aaaabbbbcccc"
DRY_RUN_ID = "dr_aaaabbbbcccc"
DIGEST = "5f" * 32
HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m\"' onload=x"
TOTAL_ROWS = 7


def cell(column: str, before: str | None, after: str | None, **more: object) -> CellChange:
    """One changed text cell."""
    return CellChange(**{"column": column, "type": "text", "before": before, "after": after, **more})  # type: ignore[arg-type]


def sample_rows() -> tuple[RowChange, ...]:
    """An update by a statement, a hostile value, json paths, NULL and empty text, a clock cell, an insert, a delete."""
    terms = cell(
        "terms",
        '{"net": 30, "currency": "USD"}',
        '{"net": 45, "currency": "USD", "late": true}',
        type="jsonb",
        paths=(
            PathChange(path=("net",), kind="changed", before="30", after="45"),
            PathChange(path=("late",), kind="added", before=None, after="true"),
        ),
    )
    return (
        RowChange(
            table="contracts",
            kind="update",
            key=(("id", "17"),),
            cells=(cell("signatory_id", "3", "8"), terms, cell("updated_at", "2026-01-05", "now", kind="clock")),
            origins=("statement 1",),
        ),
        RowChange(
            table="contracts",
            kind="update",
            key=(("id", "18"),),
            cells=(cell("note", None, ""), cell("title", "Plain", HOSTILE)),
            origins=("statement 1", "trigger touch 1"),
        ),
        RowChange(
            table="line_items",
            kind="insert",
            key=(("contract_id", "17"), ("position", "4")),
            cells=(cell("qty", None, "2"), cell("unit_price", None, "5.00"), cell("memo", None, "x" * 900)),
            origins=("statement 2",),
        ),
        RowChange(
            table="line_items",
            kind="delete",
            key=(("contract_id", "17"), ("position", "3")),
            cells=(cell("qty", "4", None), cell("unit_price", "5.00", None), cell("memo", None, None)),
            origins=("cascade 3",),
        ),
    )


def sample_proposal() -> ProposalView:
    """A proposal of seven rows, of which the first page holds four."""
    now = datetime.now(UTC)
    diff = Diff(
        tables=(
            TableSummary(table="contracts", inserted=0, updated=2, deleted=0, beyond=0),
            TableSummary(table="line_items", inserted=3, updated=0, deleted=2, beyond=2, beyond_origins=("cascade",)),
        ),
        rows=sample_rows(),
        total_rows=TOTAL_ROWS,
        page_start=0,
        measures=(
            MeasureDelta(name="billing_total", before="120000.00", after="119990.00", delta="-10.00", unit="USD"),
        ),
        tables_root="ab" * 32,
    )
    return ProposalView(
        id=PROPOSAL_ID,
        dry_run_id=DRY_RUN_ID,
        tenant_key="1",
        tenant_label="Acme",
        rep="rita",
        request="The contract was signed by the wrong person, please put the new director on it.",
        purpose="Correct the signatory",
        state="pending",
        digest=DIGEST,
        decision="self",
        reasons=("No rule asks for more.",),
        rows=TOTAL_ROWS,
        diff=diff,
        statements=(
            StatementView(
                step=1,
                text="UPDATE contracts\n   SET signatory_id = $1 WHERE id = $2",
                params=("8", "17"),
                pins=("now() = 2026-02-03 10:00:00+00",),
                reason="The new director signs",
                tool="correct_signatory_on_contract",
                row_count=2,
            ),
        ),
        beyond=("2 rows of line_items (cascade)",),
        rehearsal_notes=(),
        question=None,
        verdict=None,
        comment=None,
        answered_by=None,
        receipt=None,
        outcome_message=None,
        created_at=now - timedelta(minutes=4),
        expires_at=now + timedelta(hours=23),
        review_path=f"/review/{PROPOSAL_ID}",
    )


@dataclass
class MemoryDesk:
    """Stands where the desk stands; `calls` are what reached it, `failure` is raised by the next confirm."""

    view: ProposalView = field(default_factory=sample_proposal)
    failure: Exception | None = None
    calls: list[tuple[str, str, tuple[object, ...]]] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event | None = None
    live_root: str | None = None

    def list_dry_runs(self, caller: Caller, state: str | None = None, limit: int = 20) -> list[DryRunView]:
        view = self.view
        shown = DryRunView(
            id=view.dry_run_id, tenant_key=view.tenant_key, tenant_label=view.tenant_label, purpose=view.purpose,
            request=view.request, rep=view.rep, state=view.state, steps=1, created_at=view.created_at,
            expires_at=view.expires_at, proposal_id=view.id,
        )  # fmt: skip
        return [shown] if caller.name == view.rep or caller.role == "engineer" else []

    def proposal(self, caller: Caller, proposal_id: str) -> ProposalView:
        if proposal_id != self.view.id or not self.list_dry_runs(caller):
            raise NotFound(f"There is no proposal {proposal_id}.", "Nothing was shown.", "Look at your list.")
        return self.view

    def diff(
        self, caller: Caller, dry_run_id: str, step: int | None = None, page_start: int = 0, page_size: int = 50
    ) -> Diff:
        self.calls.append(("diff", caller.name, (page_start, page_size)))
        frozen = self.view.diff
        rows, root = frozen.rows[page_start : page_start + page_size], self.live_root or frozen.tables_root
        return replace(frozen, rows=rows, page_start=page_start, tables_root=root)

    def expect(self, proposal: ProposalView) -> None:
        self.expected.append(proposal.id)

    def confirm(self, person: Caller, proposal_id: str, digest: str, typed_rows: int) -> ReceiptView:
        self.calls.append(("confirm", person.name, (digest, typed_rows)))
        self.entered.set()
        if self.gate is not None:
            self.gate.wait(30)
        if self.failure is not None:
            raise self.failure
        if (digest, typed_rows) != (self.view.digest, self.view.rows):
            raise ConfirmationRefused(
                "The digest or the number is not this proposal's.", "Nothing was replayed.", "Read the review again."
            )
        receipt = ReceiptView(
            proposal_id=proposal_id, digest=digest, tenant_key="1", rows=typed_rows,
            applied_at=datetime.now(UTC), transaction_id="4711",
        )  # fmt: skip
        self.view = replace(self.view, state="applied", receipt=receipt)
        return receipt

    def _answer(self, verb: str, person: Caller, words: str, **changes: object) -> ProposalView:
        self.calls.append((verb, person.name, (words,)))
        self.view = replace(self.view, **changes)  # type: ignore[arg-type]
        return self.view

    def reject(self, person: Caller, proposal_id: str, comment: str) -> ProposalView:
        return self._answer("reject", person, comment, state="rejected", verdict="rejected", comment=comment)

    def approve(self, person: Caller, proposal_id: str, comment: str) -> ProposalView:
        return self._answer("approve", person, comment, verdict="approved", comment=comment, answered_by=person.name)

    def escalate(self, caller: Caller, dry_run_id: str, question: str) -> ProposalView:
        return self._answer("escalate", caller, question, state="escalated", question=question)
