"""One proposal put into words and values for the review page and the queue; called by `review.py`.

The words are plain: a rep who reads no SQL must be able to say yes or no from the first sentence.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from differ import text
from differ.model import Diff, MeasureDelta
from mcp_server.pages.cells import GroupShown, Shown, counted, groups, shown
from mcp_server.views import DryRunView, ProposalView, ReceiptView, StatementView

#: Rows of a diff on one page of the review.
ROWS_PER_PAGE = 50
#: Characters of a statement, a question or a comment that a page shows.
TEXT_CHARACTERS = 20_000

DECIDERS = {
    "self": "The rep who rehearsed this may confirm it.",
    "second": "A second person has to confirm this; the rep who rehearsed it may not.",
    "engineer": "An engineer has to approve this before anyone can confirm it.",
    "nobody": "The policy lets nobody confirm this.",
}


@dataclass(frozen=True, kw_only=True)
class MeasureShown:
    """One measure; the sides are Postgres text, `delta` is signed."""

    name: str
    unit: str
    before: Shown
    after: Shown
    delta: str


@dataclass(frozen=True, kw_only=True)
class StatementShown:
    """One recorded statement in its author's own bytes."""

    step: int
    reason: str
    counted: str
    tool: str
    text: str
    params: tuple[Shown, ...]
    pins: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Where the reader is in the pages of rows; pages count from 1."""

    page: int
    count: int
    label: str


@dataclass(frozen=True, kw_only=True)
class ReviewShown:
    """Everything `review.html` prints, in its order."""

    id: str
    dry_run_id: str
    tenant: str
    state: str
    summary: str
    age: str
    validity: str
    rep: str
    request: str
    purpose: str
    digest: str
    decider: str
    reasons: tuple[str, ...]
    beyond: tuple[str, ...]
    rehearsal_notes: tuple[str, ...]
    freshness: tuple[str, ...]
    measures: tuple[MeasureShown, ...]
    groups: tuple[GroupShown, ...]
    turn: Turn
    statements: tuple[StatementShown, ...]
    question: str
    verdict: str
    comment: str
    answered_by: str
    receipt: ReceiptView | None
    outcome: str
    actions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the queue."""

    id: str
    tenant: str
    purpose: str
    state: str
    steps: int
    rep: str
    age: str


def review(proposal: ProposalView, diff: Diff, page: int, actions: tuple[str, ...], now: datetime) -> ReviewShown:
    """The whole page; `diff` holds the rows of `page`, `actions` the forms open to the person."""
    return ReviewShown(
        id=proposal.id,
        dry_run_id=proposal.dry_run_id,
        tenant=_line(proposal.tenant_label),
        state=proposal.state,
        summary=summary(proposal),
        age=age(proposal.created_at, now),
        validity=validity(proposal.expires_at, now),
        rep=_line(proposal.rep),
        request=_text(proposal.request),
        purpose=_text(proposal.purpose),
        digest=proposal.digest,
        decider=DECIDERS.get(proposal.decision, proposal.decision),
        reasons=_texts(proposal.reasons),
        beyond=_texts(proposal.beyond),
        rehearsal_notes=_texts(proposal.rehearsal_notes),
        freshness=_texts(proposal.freshness),
        measures=tuple(_measure(measure) for measure in proposal.diff.measures),
        groups=groups(diff),
        turn=turn(diff.total_rows, page),
        statements=tuple(_statement(statement) for statement in proposal.statements),
        question=_text(proposal.question or ""),
        verdict=_text(proposal.verdict or ""),
        comment=_text(proposal.comment or ""),
        answered_by=_line(proposal.answered_by or ""),
        receipt=replace(proposal.receipt, notes=_texts(proposal.receipt.notes)) if proposal.receipt else None,
        outcome=_text(proposal.outcome_message or ""),
        actions=actions,
    )


def entries(dry_runs: Iterable[DryRunView], now: datetime) -> tuple[Entry, ...]:
    """The dry runs that were put before a person, in the order given."""
    return tuple(
        Entry(
            id=dry_run.proposal_id,
            tenant=_line(dry_run.tenant_label),
            purpose=_line(dry_run.purpose),
            state=dry_run.state,
            steps=dry_run.steps,
            rep=_line(dry_run.rep),
            age=age(dry_run.created_at, now),
        )
        for dry_run in dry_runs
        if dry_run.proposal_id is not None
    )


def summary(proposal: ProposalView) -> str:
    """The first sentence: how many rows of which tables change."""
    verb = "changed" if proposal.state == "applied" else "would change"
    rows = f"{counted(proposal.rows, 'row')} {verb} for tenant {_line(proposal.tenant_label)}."
    return f"{rows} {text.summary(proposal.diff)}" if proposal.diff.tables else rows


def age(then: datetime, now: datetime) -> str:
    """`just now`, `4 min ago`, `3 h ago`, `2 days ago`."""
    minutes = int((now - then) / timedelta(minutes=1))
    if minutes < 1:
        return "just now"
    return f"{_span(minutes)} ago"


def validity(expires_at: datetime, now: datetime) -> str:
    """How long the proposal can still be confirmed."""
    minutes = int((expires_at - now) / timedelta(minutes=1))
    if expires_at <= now:
        return "It can no longer be confirmed: its time is over."
    return f"It can be confirmed for another {_span(minutes) if minutes else 'few seconds'}."


def turn(total: int, page: int) -> Turn:
    """The pages of `total` rows, `page` counted from 1."""
    first = (page - 1) * ROWS_PER_PAGE + 1
    last = min(page * ROWS_PER_PAGE, total)
    return Turn(
        page=page,
        count=max(1, -(-total // ROWS_PER_PAGE)),
        label=f"Rows {first:,} to {last:,} of {total:,}",
    )


def _span(minutes: int) -> str:
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h"
    return f"{minutes // (24 * 60)} days"


def _measure(measure: MeasureDelta) -> MeasureShown:
    return MeasureShown(
        name=_line(measure.name),
        unit=_line(measure.unit or ""),
        before=_side(measure.before),
        after=_side(measure.after),
        delta=_signed(measure.delta),
    )


def _side(total: str | None) -> Shown:
    """A measure may tell its difference alone: the total over all rows was not asked for."""
    return Shown(text="", mark="not totalled") if total is None else shown(total)


def _signed(delta: str) -> str:
    return f"−{delta[1:]}" if delta.startswith("-") else f"+{delta}"


def _statement(statement: StatementView) -> StatementShown:
    return StatementShown(
        step=statement.step,
        reason=_line(statement.reason),
        counted=counted(statement.row_count, "row"),
        tool=_line(statement.tool or ""),
        text=_text(statement.text),
        params=tuple(shown(param) for param in statement.params),
        pins=_texts(statement.pins),
    )


def _line(value: str) -> str:
    return text.neutralise(value, 300)


def _text(value: str) -> str:
    """Prose and SQL keep their lines: every other control character is made visible."""
    lines = value[:TEXT_CHARACTERS].split("\n")
    return "\n".join(text.neutralise(line, TEXT_CHARACTERS) for line in lines)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(_text(value) for value in values)
