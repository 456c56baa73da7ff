"""Which forms a review shows to a person; a courtesy only: the desk decides again when a form comes in."""

from collections.abc import Set

from mcp_server.identity import Caller
from mcp_server.views import ProposalView

WAITING = frozenset({"pending", "escalated", "approved"})
#: A lost answer: the same form asks production's receipts what became of the replay.
UNANSWERED = frozenset({"unknown", "replaying"})
ANSWERS = frozenset({"engineer"})


def actions(person: Caller, rights: Set[str], proposal: ProposalView) -> tuple[str, ...]:
    """Names of the open forms out of confirm, approve, reject, escalate; `rights` are the role's `confirm` words."""
    own = person.name == proposal.rep
    answers = bool(rights & ANSWERS)
    waiting = proposal.state in WAITING
    offered = {
        "confirm": proposal.state in WAITING | UNANSWERED and _may_confirm(own, rights, proposal),
        "approve": proposal.state == "escalated" and answers and not own,
        "reject": waiting and (own or answers),
        "escalate": waiting and own and proposal.question is None,
    }
    return tuple(name for name, open_ in offered.items() if open_)


def _may_confirm(own: bool, rights: Set[str], proposal: ProposalView) -> bool:
    others = bool(rights & {"second", "engineer"})
    if proposal.decision == "nobody":
        return False
    if proposal.state == "escalated":
        return not own and "engineer" in rights
    if proposal.decision == "self" or proposal.verdict == "approved":
        return "self" in rights if own else others
    if proposal.decision == "second":
        return not own and others
    return not own and "engineer" in rights
