"""Confirmation and replay: a person's single-use yes to one digest, then production's one transaction.

Called from the page and from `shadowdesk confirm` only, never from an MCP tool (design 4.5, 4.6).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from differ.digest import digest, table_root, tables_root
from differ.model import Column, Diff, FrozenRow
from mcp_server.control.records import Confirmation, DryRun, Proposal
from mcp_server.control.store import ControlStore
from mcp_server.dry_runs import DryRuns
from mcp_server.errors import ConfirmationRefused, DeskError, WrongState
from mcp_server.expecting import Expecting
from mcp_server.identity import Caller
from mcp_server.policy import STRICTNESS, Policy, stricter
from mcp_server.proposing import looked_of
from mcp_server.recorded import thaw
from mcp_server.settings_sections import Decision
from mcp_server.surface import gate_surface
from mcp_server.views import ProposalView, ReceiptView
from shadow.errors import Diverged, Drifted, OutcomeUnknown, ReplayPostponed, SandboxUnavailable, ShadowError
from shadow.fence import Fence
from shadow.replay import Frozen, Receipt, ReplayLimits, find_receipt, replay
from shadow.replay_rows import TouchedRow
from shadow.replay_session import open_session, still_running

#: How a replay that did not apply ended; everything else waits for another yes.
_ENDS: dict[type[Exception], str] = {Drifted: "drifted", Diverged: "diverged", OutcomeUnknown: "unknown"}
#: The states in which a proposal waits for a yes.
_WAITING = ("pending", "approved", "escalated")


class Confirming:
    """Confirms proposals; only a process that was given the applier's URL can make one."""

    def __init__(
        self, dry_runs: DryRuns, policy: Policy, applier_url: str, *, ttl_s: int, limits: ReplayLimits
    ) -> None:
        self._dry_runs = dry_runs
        self._control: ControlStore = dry_runs.control
        self._policy = policy
        self._applier_url = applier_url
        self._ttl_s = ttl_s
        self._limits = limits
        self._expecting = Expecting(dry_runs.production, applier_url)

    def expect(self, proposal: ProposalView) -> None:
        """See `Expecting.expect`: somebody who may confirm this proposal is reading it."""
        if proposal.state in _WAITING:
            self._expecting.expect(proposal.id, proposal.tenant_key, [table.table for table in proposal.diff.tables])

    def close(self) -> None:
        """Ends the sessions that wait for a yes."""
        self._expecting.close()

    def confirm(self, person: Caller, proposal_id: str, digest_seen: str, typed_rows: int) -> ReceiptView:
        """Replays the proposal on production, once. Raises ConfirmationRefused (nothing was replayed), Drifted,
        Diverged or ReplayPostponed (rolled back), OutcomeUnknown (the receipt will tell).
        """
        proposal = self._control.proposal(proposal_id)
        dry_run = self._dry_runs.visible(person, proposal.dry_run_id)
        if proposal.state in ("unknown", "replaying"):
            return self.reconcile(proposal_id)
        self._check(person, dry_run, proposal, digest_seen, typed_rows)
        with self._announced(proposal_id) as session:
            attempt = self._use_confirmation(person, proposal, typed_rows)
            receipt = self._replay(person, proposal, session, attempt)
            return self._applied(proposal_id, receipt)

    def _check(self, person: Caller, dry_run: DryRun, proposal: Proposal, digest_seen: str, typed_rows: int) -> None:
        if proposal.state not in _WAITING:
            raise _refuse(f"Proposal {proposal.id} is {proposal.state}.", "Look at its page: it says what happened.")
        if proposal.expires_at < datetime.now(UTC):
            raise _refuse("The proposal expired.", "Propose the dry run again and look at the fresh diff.")
        if digest_seen != proposal.digest:
            raise _refuse("The digest is not the one of this proposal.", "Reload the page and read the diff again.")
        if typed_rows != proposal.rows:
            raise _refuse(
                f"You typed {typed_rows}, but the diff changes another number of rows.",
                "Read the diff once more and type the number of changed rows it shows.",
            )
        if why := self.may_not_confirm(person, dry_run, proposal):
            raise _refuse(why, "Escalate it, or ask a person whose role may confirm it.")

    def may_not_confirm(self, person: Caller, dry_run: DryRun, proposal: Proposal) -> str | None:
        """Why this person may not confirm the proposal; None when they may."""
        rights = self._policy.confirm_rights(person.role)
        approved = proposal.state == "approved"
        mine = person.name == dry_run.rep
        decision = self._decision(proposal)
        if decision == "nobody":
            return "Policy lets nobody confirm this."
        if proposal.state == "escalated" and not ("engineer" in rights and not mine):
            return "It was escalated and waits for an engineer's answer."
        if decision == "self" or approved:
            may = "self" in rights if mine else bool(rights & {"second", "engineer"})
            return None if may else "Your role may not confirm it."
        if decision == "second":
            other = not mine and bool(rights & {"second", "engineer"})
            return None if other else "Policy wants a second person."
        return None if "engineer" in rights and not mine else "Policy wants an engineer."

    def _decision(self, proposal: Proposal) -> Decision:
        """The stricter of what policy said when it was proposed and what today's says now, at this hour."""
        proposed = next(kept for kept in STRICTNESS if kept == proposal.decision)
        now = self._policy.decide(Diff.from_json(proposal.diff), proposal.frozen.get("classes"))
        return stricter(proposed, now.decision)

    @contextmanager
    def _announced(self, proposal_id: str) -> Iterator[psycopg.Connection[Any]]:
        """The replay's session on production, from before control knows of the replay until its end.

        Whoever finds the proposal 'replaying' and no such session knows that this process is gone (or cut off from
        production).
        """
        path = self._dry_runs.production.settings.search_path
        try:
            session = self._expecting.take(proposal_id) or open_session(self._applier_url, path, proposal_id)
        except psycopg.Error:
            raise _unreachable() from None
        try:
            yield session
        finally:
            with suppress(psycopg.Error):
                session.close()

    def _use_confirmation(self, person: Caller, proposal: Proposal, typed_rows: int) -> int | None:
        """Uses the person's yes up and returns the number of the attempt that it began."""
        now = datetime.now(UTC)
        self._control.add_confirmation(
            Confirmation(
                proposal_id=proposal.id, digest=proposal.digest, tenant_key=proposal.header["tenant"],
                person=person.name, role=person.role, channel=person.channel, typed_rows=typed_rows, created_at=now,
                expires_at=now + timedelta(seconds=self._ttl_s),
            )
        )  # fmt: skip
        if not self._control.use_confirmation(proposal.id, proposal.digest, person=person.name):
            raise _refuse("This proposal is being applied already.", "Reload its page: it shows the outcome.")
        return self._control.attempt(proposal.id)

    def _replay(
        self, person: Caller, proposal: Proposal, session: psycopg.Connection[Any], attempt: int | None
    ) -> Receipt:
        try:
            return self._on_production(person, proposal, session)
        except (DeskError, ShadowError) as error:
            self._end(proposal.id, _ENDS.get(type(error), "postponed"), str(error), attempt)
            raise

    def _on_production(self, person: Caller, proposal: Proposal, session: psycopg.Connection[Any]) -> Receipt:
        production = self._dry_runs.production
        try:
            fence = production.fence()
        except psycopg.Error:
            raise _unreachable() from None
        frozen = self.frozen(fence, proposal, person.name)
        try:
            limits = replace(self._limits, stale_blocks=self._policy.stale_blocks)
            return replay(session, fence, frozen, limits, production.fingerprint)
        except psycopg.DatabaseError as error:
            # No connection, or libpq's own words for a lost one; in COMMIT it would have been OutcomeUnknown.
            if not isinstance(error, psycopg.OperationalError) and type(error) is not psycopg.DatabaseError:
                raise
            raise _unreachable() from None

    def _end(self, proposal_id: str, state: str, message: str, attempt: int | None) -> None:
        """Records how it ended. Where control cannot, the error itself is told; the next look asks production."""
        with suppress(SandboxUnavailable, WrongState):
            self._control.end_replay(proposal_id, state, message, attempt=attempt)
        if state in ("drifted", "diverged"):
            self._ended(proposal_id)

    def _ended(self, proposal_id: str) -> None:
        """Marks the shadow as no longer needed; it expires anyway where the sandbox cannot be told."""
        with suppress(SandboxUnavailable, psycopg.Error):
            dry_run = self._control.dry_run(self._control.proposal(proposal_id).dry_run_id)
            self._dry_runs.shadows.ended(dry_run.shadow_id)

    def _applied(self, proposal_id: str, receipt: Receipt) -> ReceiptView:
        view = ReceiptView(
            proposal_id=receipt.proposal_id, digest=receipt.digest, tenant_key=receipt.tenant_key, rows=receipt.rows,
            applied_at=receipt.applied_at, transaction_id=receipt.transaction_id, notes=receipt.notes,
        )  # fmt: skip
        stored = {**asdict(view), "applied_at": receipt.applied_at.isoformat()}
        try:
            self._control.end_replay(proposal_id, "applied", None, receipt=stored)
        except SandboxUnavailable:
            raise OutcomeUnknown(
                f"Production applied proposal {proposal_id}, but the control database could not record it.",
                "It will not be applied a second time.",
                "Open the proposal again in a moment: the receipt on production answers.",
            ) from None
        self._ended(proposal_id)
        return view

    def reconcile(self, proposal_id: str) -> ReceiptView:
        """Asks production's receipts what became of a replay whose answer was lost; any process may call it.

        Raises OutcomeUnknown while a session of production still works on it or production cannot be asked,
        ReplayPostponed when it never committed.
        """
        attempt = self._control.attempt(proposal_id)
        receipt = self._receipt_or_running(proposal_id)
        if receipt is None:
            message = "Production never committed the replay: nothing was applied."
            self._control.end_replay(proposal_id, "postponed", message, attempt=attempt)
            raise ReplayPostponed(
                "The connection was lost before production committed.",
                "Nothing was applied.",
                "Confirm again.",
            )
        return self._applied(proposal_id, receipt)

    def _receipt_or_running(self, proposal_id: str) -> Receipt | None:
        """The receipt, or None when there is none and nobody works on it. Raises OutcomeUnknown."""
        once = "It is applied at most once."
        try:
            receipt = find_receipt(self._applier_url, proposal_id)
            if receipt is None and still_running(self._applier_url, proposal_id):
                raise OutcomeUnknown(f"Proposal {proposal_id} is being applied right now.", once, "Reload in a moment.")
            return receipt or find_receipt(self._applier_url, proposal_id)
        except psycopg.Error:
            raise OutcomeUnknown(
                f"Production could not be asked what became of proposal {proposal_id}.",
                once,
                "Open the proposal again when production is reachable.",
            ) from None

    def frozen(self, fence: Fence, proposal: Proposal, person: str) -> Frozen:
        """The proposal as the replay needs it; refused when what is stored no longer gives the digest."""
        rows = list(self._control.proposal_rows(proposal.id))
        self._verify(proposal, fence, rows)
        surface = gate_surface(fence, proposal.header["tenant"], self._dry_runs.settings.allow_functions)
        statements = tuple(
            thaw(surface, s, self._dry_runs.settings.gate_limits)
            for s in self._control.proposal_statements(proposal.id)
        )
        kept = proposal.frozen
        return Frozen(
            proposal_id=proposal.id, digest=proposal.digest, tenant_key=proposal.header["tenant"], confirmed_by=person,
            statements=statements, row_counts=tuple(kept["row_counts"]),
            draws={slot: tuple(values) for slot, values in kept["draws"].items()},
            counters={name: (c[0], c[1], c[2]) for name, c in kept["counters"].items()},
            rows=[_touched(row) for row in rows], fingerprint=kept["fingerprint"], changed_rows=proposal.rows,
            looked=looked_of(proposal),
        )  # fmt: skip

    def _verify(self, proposal: Proposal, fence: Fence, rows: Sequence[FrozenRow]) -> None:
        """What is stored must still give the digest that the person saw, on the schema version that was rehearsed."""
        if fence.catalog.fingerprint != proposal.frozen["fingerprint"]:
            raise Drifted(
                "Production's definitions changed since the dry run: a table, column, trigger or function.",
                "Nothing was applied: no statement ran on production.",
                "Start a new dry run on today's schema and look at its diff.",
            )
        if digest(proposal.header, _stored_root(proposal, fence, rows)) != proposal.digest:
            raise _refuse(
                "What is stored of this proposal is not what was digested.",
                "Tell the operator; propose again.",
            )


def _stored_root(proposal: Proposal, fence: Fence, rows: Sequence[FrozenRow]) -> str:
    """The root over the stored rows themselves; side effects in sinks count by the stored summary."""
    generated = {name: frozenset(columns) for name, columns in proposal.frozen["generated"].items()}
    roots = {table["table"]: table["root"] for table in proposal.diff["tables"] if table["sink"]}
    by_table: dict[str, list[FrozenRow]] = {}
    for row in rows:
        by_table.setdefault(row.table, []).append(row)
    for name, found in by_table.items():
        if any(row.changed for row in found):
            table = fence.tables[name].table
            columns = [Column(name=c.name, type=c.type, nested=c.nested) for c in table.columns]
            roots[name] = table_root(name, columns, table.key, found, generated.get(name, frozenset()))
    return tables_root(roots)


def _touched(row: FrozenRow) -> TouchedRow:
    return TouchedRow(table=row.table, key=row.key, before=row.before, after=row.after, kinds=row.kinds)


def _unreachable() -> ReplayPostponed:
    return ReplayPostponed(
        "Production could not be reached, or dropped the connection before COMMIT.",
        "Nothing was applied.",
        "Confirm again when production is reachable.",
    )


def _refuse(happened: str, next_step: str) -> ConfirmationRefused:
    return ConfirmationRefused(happened, "Nothing was replayed; production is as it was.", next_step)
