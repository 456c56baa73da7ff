"""The tools that lead to a person: propose, look where a proposal stands, ask an engineer. None of them decides."""

from pydantic import Field

from mcp_server.governed import facts_of
from mcp_server.permissions import PERMISSION_OF
from mcp_server.tools import words
from mcp_server.tools.looking import DryRunId
from mcp_server.tools.results import ProposalResult
from mcp_server.tools.spec import EDITS_SHADOW, READS, Answer, Arguments, Session, ToolSpec, said
from mcp_server.views import ProposalView


class Propose(Arguments):
    """Arguments of `propose`."""

    dry_run_id: DryRunId
    note: str = Field(default="", max_length=2000, description="A remark for the person who decides.")


class ProposalStatus(Arguments):
    """Arguments of `proposal_status`."""

    proposal_id: str = Field(min_length=1, max_length=60, description="Id of the proposal, or of its dry run.")


class Escalate(Arguments):
    """Arguments of `escalate`."""

    dry_run_id: DryRunId
    question: str = Field(max_length=4000, description="What the rep is unsure about, for an engineer to answer.")


def answer(session: Session, view: ProposalView) -> Answer:
    """A proposal as a tool's answer, with the address of its page."""
    result = ProposalResult.of(view, session.link(view.review_path))
    return Answer(value=result, text=words.proposal(result, view.diff), facts=facts_of(view))


def _propose(session: Session, given: Propose) -> Answer:
    return answer(session, session.desk.propose(session.caller, given.dry_run_id, given.note))


def _proposal_status(session: Session, given: ProposalStatus) -> Answer:
    return answer(session, session.desk.proposal(session.caller, given.proposal_id))


def _escalate(session: Session, given: Escalate) -> Answer:
    question = said(given.question, "question", "Say what the engineer is to judge.")
    return answer(session, session.desk.escalate(session.caller, given.dry_run_id, question))


TOOLS = (
    ToolSpec(
        name="propose",
        description=(
            "Rehearse all kept steps in one transaction, freeze them with their diff, and put them before a person."
            " Nothing is applied by this: give the person the review link."
        ),
        permission=PERMISSION_OF["propose"],
        arguments=Propose,
        result=ProposalResult,
        annotations=EDITS_SHADOW,
        run=_propose,
        drawn=True,
    ),
    ToolSpec(
        name="proposal_status",
        description="Where a proposal stands: waiting, answered, applied with its receipt, or why it was not.",
        permission=PERMISSION_OF["proposal_status"],
        arguments=ProposalStatus,
        result=ProposalResult,
        annotations=READS,
        run=_proposal_status,
        drawn=True,
    ),
    ToolSpec(
        name="open_review",
        description=(
            "Lead the person to a proposal's review page: in clients that can open it, else by its link. It answers"
            " where the proposal stands; only the person decides, on that page."
        ),
        permission=PERMISSION_OF["open_review"],
        arguments=ProposalStatus,
        result=ProposalResult,
        annotations=READS,
        run=_proposal_status,
        drawn=True,
    ),
    ToolSpec(
        name="escalate",
        description="Ask an engineer about a proposed dry run; nobody else may confirm it until they answered.",
        permission=PERMISSION_OF["escalate"],
        arguments=Escalate,
        result=ProposalResult,
        annotations=EDITS_SHADOW,
        run=_escalate,
        drawn=True,
    ),
)
