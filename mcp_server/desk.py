"""The desk: the one facade that tools, pages and the command line call, each verb of a fix once.

Callers go through the governor, which decides permission and writes the audit events around every call.
"""

from mcp_server.branching import Branching, BranchView
from mcp_server.comparing import Comparing, Comparison
from mcp_server.confirming import Confirming
from mcp_server.control.store import ControlStore
from mcp_server.dry_runs import DryRuns, DryRunSettings, Progress
from mcp_server.errors import ConfirmationRefused
from mcp_server.identity import Caller
from mcp_server.permissions import Permissions
from mcp_server.policy import Policy
from mcp_server.production import Production
from mcp_server.proposing import Proposing
from mcp_server.reverting import Reverting, RevertView
from mcp_server.shadows import Shadows
from mcp_server.views import ProposalView, ReceiptView
from shadow.replay import ReplayLimits


class Desk(DryRuns):
    """Dry runs, proposals and, where the process was given the applier's URL, confirmations."""

    def __init__(
        self,
        *,
        settings: DryRunSettings,
        production: Production,
        shadows: Shadows,
        control: ControlStore,
        permissions: Permissions,
        policy: Policy,
        confirmation_ttl_s: int = 86_400,
        replay_limits: ReplayLimits | None = None,
    ) -> None:
        super().__init__(
            settings=settings, production=production, shadows=shadows, control=control, permissions=permissions
        )
        self._proposing = Proposing(self, policy, confirmation_ttl_s=confirmation_ttl_s)
        self._reverting, self._comparing, self._branching = Reverting(self), Comparing(self), Branching(self)
        applier = production.settings.applier_url
        limits = replay_limits or ReplayLimits()
        self._confirming = (
            Confirming(self, policy, applier, ttl_s=confirmation_ttl_s, limits=limits) if applier else None
        )

    def propose(self, caller: Caller, dry_run_id: str, note: str = "") -> ProposalView:
        """See `Proposing.propose`."""
        return self._proposing.propose(caller, dry_run_id, note)

    def proposal(self, caller: Caller, proposal_id: str) -> ProposalView:
        """See `Proposing.proposal`."""
        return self._proposing.proposal(caller, proposal_id)

    def list_proposals(self, caller: Caller) -> list[ProposalView]:
        """See `Proposing.list_proposals`."""
        return self._proposing.list_proposals(caller)

    def escalate(self, caller: Caller, dry_run_id: str, question: str) -> ProposalView:
        """See `Proposing.escalate`."""
        return self._proposing.escalate(caller, dry_run_id, question)

    def approve(self, person: Caller, proposal_id: str, comment: str) -> ProposalView:
        """See `Proposing.approve`."""
        return self._proposing.approve(person, proposal_id, comment)

    def reject(self, person: Caller, proposal_id: str, comment: str) -> ProposalView:
        """See `Proposing.reject`."""
        return self._proposing.reject(person, proposal_id, comment)

    def revert(
        self, caller: Caller, proposal_id: str, request: str, *, anyway: bool = False, progress: Progress | None = None
    ) -> RevertView:
        """See `Reverting.revert`."""
        return self._reverting.revert(caller, proposal_id, request, anyway=anyway, progress=progress)

    def compare_dry_runs(self, caller: Caller, a: str, b: str) -> Comparison:
        """See `Comparing.compare`."""
        return self._comparing.compare(caller, a, b)

    def branch_dry_run(
        self, caller: Caller, dry_run_id: str, from_step: int, progress: Progress | None = None
    ) -> BranchView:
        """See `Branching.branch`."""
        return self._branching.branch(caller, dry_run_id, from_step, progress)

    def confirm(self, person: Caller, proposal_id: str, digest: str, typed_rows: int) -> ReceiptView:
        """See `Confirming.confirm`. For pages and terminals only: no MCP tool leads here."""
        return self._with_applier().confirm(person, proposal_id, digest, typed_rows)

    def expect(self, proposal: ProposalView) -> None:
        """See `Confirming.expect`. Does nothing in a process without the applier's URL."""
        if self._confirming is not None:
            self._confirming.expect(proposal)

    def close(self) -> None:
        """Ends what is kept between calls."""
        if self._confirming is not None:
            self._confirming.close()

    def reconcile(self, proposal_id: str) -> ReceiptView:
        """See `Confirming.reconcile`. Raises ConfirmationRefused in a process without the applier's URL."""
        return self._with_applier().reconcile(proposal_id)

    @property
    def confirms(self) -> bool:
        """True in a process that was given the applier's URL."""
        return self._confirming is not None

    def _with_applier(self) -> Confirming:
        if self._confirming is None:
            raise ConfirmationRefused(
                "This process was not given the applier's URL.",
                "Nothing was replayed; production is as it was.",
                "Confirm on the review page, or run `shadowdesk confirm` where production.applier_url is configured.",
            )
        return self._confirming

    def inspect(self, caller: Caller, dry_run_id: str, minutes: int = 60) -> str:
        """A `psql` line for a read-only, expiring role on the shadow. Raises ShadowExpired when it is gone."""
        dry_run = self.visible(caller, dry_run_id)
        url = self.shadows.inspector_url(dry_run.shadow_id or "", minutes)
        return f'psql "{url}"'

    def tenant_of(self, source: str, value: str) -> str:
        """See `Production.tenant_of`: how a domain tool finds its tenant."""
        return self.production.tenant_of(source, value)

    def request_of(self, about: str) -> str | None:
        """The rep's words behind a dry run's or a proposal's id. Raises NotFound when there is none of that id."""
        dry_run_id = self.control.proposal(about).dry_run_id if about.startswith("pr_") else about
        return self.control.dry_run(dry_run_id).request
