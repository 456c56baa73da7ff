"""The states of dry runs and proposals; the legal moves between them are the database's (`sql/schema.sql`)."""

from enum import StrEnum


class DryRunState(StrEnum):
    """Where a dry run stands."""

    #: Its rep may run and undo steps.
    OPEN = "open"
    #: Its recording is frozen and put before a person; a further edit opens it again.
    PROPOSED = "proposed"
    #: An engineer was asked; a further edit opens it again.
    ESCALATED = "escalated"
    #: A person said yes.
    CONFIRMED = "confirmed"
    #: Production's transaction is under way.
    REPLAYING = "replaying"
    #: The connection was lost in COMMIT; the receipt will tell.
    UNKNOWN = "unknown"
    #: Production holds the confirmed rows.
    APPLIED = "applied"
    #: A person said no.
    REJECTED = "rejected"
    #: Production had changed: rolled back before any statement ran.
    DRIFTED = "drifted"
    #: Production would have ended otherwise: rolled back.
    DIVERGED = "diverged"
    #: Its rep dropped it.
    DISCARDED = "discarded"
    #: Its time is over.
    EXPIRED = "expired"


class ProposalState(StrEnum):
    """Where a proposal stands."""

    #: It waits for the person policy names.
    PENDING = "pending"
    #: It waits for an engineer's answer.
    ESCALATED = "escalated"
    #: An engineer said yes; the confirm is open to the person policy names.
    APPROVED = "approved"
    #: A person said yes.
    CONFIRMED = "confirmed"
    #: Production's transaction is under way.
    REPLAYING = "replaying"
    #: The connection was lost in COMMIT; the receipt will tell.
    UNKNOWN = "unknown"
    #: Production's receipt is stored with it.
    APPLIED = "applied"
    #: A person said no.
    REJECTED = "rejected"
    #: Production had changed: rolled back before any statement ran.
    DRIFTED = "drifted"
    #: Production would have ended otherwise: rolled back.
    DIVERGED = "diverged"
    #: Its time is over.
    EXPIRED = "expired"
    #: The dry run was edited further, proposed anew or discarded.
    WITHDRAWN = "withdrawn"


#: States in which a person may still decide; an edit of the dry run withdraws the proposal.
UNDECIDED = (ProposalState.PENDING, ProposalState.ESCALATED, ProposalState.APPROVED)
