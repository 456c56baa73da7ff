"""Proposal: the rehearsal of all kept statements in one transaction, frozen under one digest, and who may confirm it.

Called by the desk's callers after the diff and before the confirmation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from differ.digest import digest
from differ.frozen import frozen_rows
from differ.model import Diff, FrozenRow
from differ.text import beyond
from mcp_server.control.records import DryRun, Escalation, Proposal, Statement
from mcp_server.dry_runs import DryRuns
from mcp_server.errors import ConfirmationRefused, NotFound, WrongState
from mcp_server.identity import Caller
from mcp_server.images import step_clocks, table_images
from mcp_server.policy import Policy
from mcp_server.recorded import statement_view
from mcp_server.views import REVIEW_PATH, ProposalView, ReceiptView
from shadow.drawn import forget_drawn, made_by_triggers, note_given, rehearse_again
from shadow.errors import SandboxUnavailable, StatementFailed
from shadow.freshness import Looked, looked_at, stale, stale_sentence
from shadow.rehearsal import Rehearsed, drawn, rehearse
from shadow.replay import Receipt, find_receipt
from shadow.sandbox import new_id
from shadow.shadow import Shadow

#: Rows of the diff kept with a proposal for the page; the whole effect is in proposal_rows.
_SHOWN_ROWS = 1000


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What `propose` froze, before it is stored."""

    rehearsed: Rehearsed
    draws: dict[str, tuple[str, ...]]
    diff: Diff
    notes: tuple[str, ...]
    header: dict[str, Any]
    set_columns: frozenset[tuple[str, str]]


class Proposing:
    """Proposes dry runs and lets people look at, escalate and answer proposals."""

    def __init__(self, dry_runs: DryRuns, policy: Policy, *, confirmation_ttl_s: int) -> None:
        self._dry_runs = dry_runs
        self._control = dry_runs.control
        self._policy = policy
        self._ttl_s = confirmation_ttl_s

    def propose(self, caller: Caller, dry_run_id: str, note: str = "") -> ProposalView:
        """Freezes the dry run and puts it before a person. Raises WrongState when there is nothing to propose."""
        dry_run = self._dry_runs.editable(caller, dry_run_id)

        def work(shadow: Shadow, steps: list[Statement]) -> str:
            changing = [s for s in steps if s.kind != "select"]
            if not changing:
                raise WrongState(
                    "This dry run has no statement that changes anything.",
                    "Nothing was proposed.",
                    "Run a step first.",
                )
            rehearsal = self._rehearse(dry_run, shadow, steps)
            if rehearsal.diff.total_rows == 0:
                raise WrongState(
                    "The statements leave every row as it was.",
                    "Nothing was proposed.",
                    "There is nothing to confirm.",
                )
            return self._store(dry_run, shadow, rehearsal, note)

        proposal_id: str = self._dry_runs.on_shadow(dry_run, work)
        return self.proposal(caller, proposal_id)

    def _rehearse(self, dry_run: DryRun, shadow: Shadow, steps: Sequence[Statement]) -> Rehearsal:
        recorded = self._dry_runs.recorded(shadow, steps)
        sets = frozenset(pair for r in recorded for pair in r.gated.set_columns)
        forget_drawn(shadow)
        stepped = self._dry_runs.net(shadow, sets)
        made = made_by_triggers(shadow, rehearsal=False)
        rehearsed = rehearse(shadow, recorded)
        given = note_given(shadow, made)
        diff = self._dry_runs.net(shadow, sets, 0, _SHOWN_ROWS, rehearsal=True)
        if stepped.tables_root != diff.tables_root:
            first = diff
            rehearsed = rehearse_again(shadow, recorded, rehearsed, sets)
            diff = self._dry_runs.net(shadow, sets, 0, _SHOWN_ROWS, rehearsal=True)
            _require_foreseen(shadow, first, diff)
        notes = [*shadow.notes, *rehearsed.notes]
        if _other_rows(shadow, stepped, diff, by_counts=given):
            notes.append(
                "In one transaction the statements change other rows or values than they did step by step;"
                " this diff is the one transaction's."
            )
        draws = drawn(shadow)
        header = {
            "tenant": dry_run.tenant_key,
            "schema": shadow.fence.catalog.fingerprint,
            "statements": [
                {
                    "step": r.step, "text": r.gated.text, "params": list(r.gated.params), "rows": count,
                    "pins": [[p.start, p.end, p.type, p.value] for p in r.gated.pins],
                }
                for r, count in zip(recorded, rehearsed.row_counts, strict=True)
            ],
            "draws": {slot: list(values) for slot, values in sorted(draws.items())},
            "counters": {name: list(counts) for name, counts in sorted(rehearsed.counters.items())},
            "measures": [m.delta + " " + m.name for m in diff.measures],
        }  # fmt: skip
        return Rehearsal(
            rehearsed=rehearsed, draws=draws, diff=diff, notes=tuple(notes), header=header, set_columns=sets
        )

    def _store(self, dry_run: DryRun, shadow: Shadow, rehearsal: Rehearsal, note: str) -> str:
        now = datetime.now(UTC)
        frozen = _frozen(shadow, rehearsal)
        verdict = self._policy.decide(rehearsal.diff, frozen["classes"], now)
        proposal = Proposal(
            id=f"pr_{new_id()}", dry_run_id=dry_run.id, digest=digest(rehearsal.header, rehearsal.diff.tables_root),
            header=rehearsal.header, frozen=frozen, diff=rehearsal.diff.to_json(),
            decision=verdict.decision, reasons=tuple(verdict.reasons), rows=_typed_rows(rehearsal.diff),
            state="pending", note=note, policy_version=self._policy.version, created_at=now,
            expires_at=now + timedelta(seconds=self._ttl_s),
        )  # fmt: skip
        self._control.create_proposal(proposal, self._frozen_rows(shadow, rehearsal.set_columns))
        return proposal.id

    def _frozen_rows(self, shadow: Shadow, sets: frozenset[tuple[str, str]]) -> Iterator[FrozenRow]:
        return iter(
            frozen_rows(
                shadow.owner,
                table_images(shadow),
                clocks=step_clocks(shadow, None, rehearsal=True),
                set_columns=sets,
            )
        )

    def proposal(self, caller: Caller, proposal_id: str) -> ProposalView:
        """One proposal as it stands; a dry run's id finds its latest. Raises NotFound."""
        record = self._find(proposal_id)
        dry_run = self._dry_runs.visible(caller, record.dry_run_id)
        view = self.masked(caller, self.view(record, dry_run))
        waits = record.state in ("pending", "escalated", "approved")
        return replace(view, freshness=self._freshness(record)) if waits else view

    def _freshness(self, proposal: Proposal) -> tuple[str, ...]:
        """What changed on production of the rows that the dry run only looked at; asked as the reader."""
        looked = looked_of(proposal)
        if not looked:
            return ()
        production = self._dry_runs.production
        try:
            fence = production.fence()
            with production.reading() as conn:
                changed = stale(conn, fence, looked)
        except (SandboxUnavailable, psycopg.Error):
            return ("Production could not be asked whether rows you looked at changed since.",)
        return (stale_sentence(changed),) if changed else ()

    def masked(self, caller: Caller, view: ProposalView) -> ProposalView:
        """The proposal as this caller may see it."""
        masks = self._dry_runs.masking.of(caller, view.dry_run_id)
        statements = tuple(masks.statement(one) for one in view.statements)
        return replace(view, diff=masks.diff(view.diff), statements=statements)

    def _find(self, proposal_id: str) -> Proposal:
        if proposal_id.startswith("dr_"):
            latest = self._control.latest_proposal(proposal_id)
            if latest is None:
                raise NotFound(f"Dry run {proposal_id} has no proposal.", "Nothing was read.", "Propose it first.")
            return latest
        return self._control.proposal(proposal_id)

    def list_proposals(self, caller: Caller) -> list[ProposalView]:
        """Proposals that wait for somebody, newest first: the caller's own, all of them for those who answer."""
        found = []
        rep = None if self._dry_runs.scope.sees_all(caller) else caller.name
        listed = self._control.list_dry_runs(state=None, rep=rep, limit=100)
        tenants = self._dry_runs.scope.tenants(caller, (dry_run.tenant_key for dry_run in listed))
        for dry_run in (one for one in listed if one.tenant_key in tenants):
            latest = self._control.latest_proposal(dry_run.id)
            if latest is not None:
                found.append(self.masked(caller, self.view(latest, dry_run)))
        return found

    def escalate(self, caller: Caller, dry_run_id: str, question: str) -> ProposalView:
        """Asks an engineer about the dry run's proposal; nobody else may confirm it until they answered."""
        if not question.strip(" ."):
            raise WrongState("The question is empty.", "Nothing was escalated.", "Say what you are unsure about.")
        proposal = self._find(dry_run_id)
        dry_run = self._dry_runs.editable(caller, proposal.dry_run_id)
        self._require(proposal, ("pending",), "escalated")
        self._control.escalate(
            Escalation(
                dry_run_id=dry_run.id, proposal_id=proposal.id, question=question, asked_by=caller.name,
                asked_at=datetime.now(UTC),
            )
        )  # fmt: skip
        return self.proposal(caller, proposal.id)

    def approve(self, person: Caller, proposal_id: str, comment: str) -> ProposalView:
        """An engineer's yes to the question: it opens the confirm to the person policy names."""
        return self._answer(person, proposal_id, comment, "approved")

    def reject(self, person: Caller, proposal_id: str, comment: str) -> ProposalView:
        """A person's no: the proposal ends, production was never touched."""
        return self._answer(person, proposal_id, comment, "rejected")

    def _answer(self, person: Caller, proposal_id: str, comment: str, verdict: str) -> ProposalView:
        proposal = self._find(proposal_id)
        dry_run = self._dry_runs.visible(person, proposal.dry_run_id)
        if not comment.strip(" ."):
            raise ConfirmationRefused("An answer needs a comment.", "Nothing was decided.", "Say why, in words.")
        answers = "engineer" in self._policy.confirm_rights(person.role)
        if verdict == "approved" and (not answers or person.name == dry_run.rep):
            raise ConfirmationRefused(
                "Only an engineer who did not ask may answer this.",
                "Nothing was decided.",
                "Escalate it and wait.",
            )
        if verdict == "rejected" and not answers and person.name != dry_run.rep:
            raise ConfirmationRefused(
                "This is not yours to reject.", "Nothing was decided.", "Ask its rep or an engineer."
            )
        self._require(proposal, ("pending", "escalated", "approved"), verdict)
        self._control.answer(proposal.id, person.name, verdict, comment)
        if verdict == "rejected":
            self._dry_runs.shadows.ended(dry_run.shadow_id)
        return self.proposal(person, proposal.id)

    def _require(self, proposal: Proposal, states: tuple[str, ...], wanted: str) -> None:
        if proposal.state not in states:
            raise WrongState(
                f"Proposal {proposal.id} is {proposal.state} and cannot become {wanted}.", "Nothing was changed.",
                "Look at its status; a new dry run makes a new proposal.",
            )  # fmt: skip

    def view(self, proposal: Proposal, dry_run: DryRun) -> ProposalView:
        """The proposal with everything a person needs to decide."""
        escalation = self._control.escalation(proposal.id)
        diff = Diff.from_json(proposal.diff)
        return ProposalView(
            id=proposal.id, dry_run_id=dry_run.id, tenant_key=dry_run.tenant_key, tenant_label=dry_run.tenant_label,
            rep=dry_run.rep, request=dry_run.request, purpose=dry_run.purpose, state=proposal.state,
            digest=proposal.digest, decision=proposal.decision, reasons=tuple(proposal.reasons), rows=proposal.rows,
            diff=diff, statements=tuple(statement_view(s) for s in self._control.proposal_statements(proposal.id)),
            beyond=beyond(diff), rehearsal_notes=tuple(proposal.frozen.get("notes", ())),
            question=escalation.question if escalation else None, verdict=escalation.verdict if escalation else None,
            comment=escalation.comment if escalation else None,
            answered_by=escalation.answered_by if escalation else None, receipt=_receipt(proposal.receipt),
            outcome_message=proposal.outcome_message, created_at=proposal.created_at, expires_at=proposal.expires_at,
            review_path=f"{REVIEW_PATH}{proposal.id}",
        )  # fmt: skip

    def receipt_on_production(self, proposal_id: str) -> Receipt | None:
        """What production itself says; read as the reader."""
        return find_receipt(self._dry_runs.production.settings.reader_url, proposal_id)


def _require_foreseen(shadow: Shadow, first: Diff, second: Diff) -> None:
    """Two rehearsals that leave other rows in a table, beside cells known to be drawn: production would get a third
    outcome. Raises StatementFailed.
    """
    known = {images.table for images in table_images(shadow) if images.drawn or images.walls}
    before = {table.table: table.root for table in first.tables}
    after = {table.table: table.root for table in second.tables}
    for name in sorted((before.keys() | after.keys()) - known):
        if before.get(name) != after.get(name):
            raise StatementFailed(
                f"Nobody can say which rows of {name} production would get: two rehearsals of the same statements left"
                " other ones. A trigger or the order of rows decides it, or a time that is kept as something else.",
                "Nothing was proposed; the shadow shows one of the possible outcomes.",
                "Undo the step that leads there, or ask an engineer: the diffs by step show the rows.",
            )


def _other_rows(shadow: Shadow, stepped: Diff, rehearsed: Diff, *, by_counts: bool) -> bool:
    """Whether the one transaction left other rows than the steps; by their counts where triggers draw values anew."""
    if by_counts or any(images.drawn or images.walls for images in table_images(shadow)):
        counts = [[(t.table, t.inserted, t.updated, t.deleted) for t in diff.tables] for diff in (stepped, rehearsed)]
        return counts[0] != counts[1]
    return stepped.tables_root != rehearsed.tables_root


def looked_of(proposal: Proposal) -> Looked:
    """The rows that the proposal's dry run only looked at, as they were frozen."""
    kept = proposal.frozen.get("looked", {})
    return {name: [(tuple(key), found) for key, found in rows] for name, rows in kept.items()}


def _frozen(shadow: Shadow, rehearsal: Rehearsal) -> dict[str, Any]:
    return {
        "row_counts": list(rehearsal.rehearsed.row_counts),
        "counters": {name: list(counts) for name, counts in rehearsal.rehearsed.counters.items()},
        "draws": {slot: list(values) for slot, values in rehearsal.draws.items()},
        "fingerprint": shadow.fence.catalog.fingerprint,
        "notes": list(rehearsal.notes),
        "looked": {name: [[list(key), found] for key, found in rows] for name, rows in looked_at(shadow).items()},
        "classes": {t.table: shadow.fence.tables[t.table].fence_class for t in rehearsal.diff.tables},
        "generated": {images.table: sorted(images.generated) for images in table_images(shadow) if images.generated},
        "columns": {images.table: [[c.name, c.type] for c in images.columns] for images in table_images(shadow)},
        "set_columns": sorted(list(pair) for pair in rehearsal.set_columns),
    }


def _typed_rows(diff: Diff) -> int:
    """The number the person types: changed rows of the tenant's tables, side effects in sinks left out."""
    return diff.total_rows - diff.side_effects


def _receipt(stored: dict[str, Any] | None) -> ReceiptView | None:
    if not stored:
        return None
    applied_at = datetime.fromisoformat(stored["applied_at"])
    return ReceiptView(**{**stored, "applied_at": applied_at, "notes": tuple(stored.get("notes", ()))})
