"""Errors of the audit leaf, named by outcome."""


class AuditError(Exception):
    """Root of this leaf's errors: what happened, what did not happen, what to do next."""

    def __init__(self, happened: str, not_happened: str, next_step: str) -> None:
        super().__init__(happened, not_happened, next_step)
        self.happened = happened
        self.not_happened = not_happened
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.happened} {self.not_happened} {self.next_step}"


class AuditUnavailable(AuditError):
    """The event could not be written, so the call was refused."""


class AuditBroken(AuditError):
    """The chain does not verify: something was changed, removed, reordered, inserted or cut.

    `seq` is the first place in the chain that cannot be what was written.
    """

    def __init__(self, seq: int, happened: str) -> None:
        super().__init__(
            f"The audit trail does not verify at event {seq}: {happened}.",
            "Nothing from there on can be relied upon; the events before it are as they were written.",
            "Keep both the database and its exports as they are, and compare them with an earlier export.",
        )
        self.seq = seq
