"""Errors of the shadow leaf, named by outcome; raised by every module here, explained to people by the hub."""


class ShadowError(Exception):
    """Root of this leaf's errors: what happened, what did not happen, what to do next.

    The three sentences never hold a row's value or a driver's DETAIL.
    """

    def __init__(self, happened: str, not_happened: str, next_step: str) -> None:
        super().__init__(happened, not_happened, next_step)
        self.happened = happened
        self.not_happened = not_happened
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.happened} {self.not_happened} {self.next_step}"


class TenantNotFound(ShadowError):
    """No row of the root table has that key."""


class StatementRefused(ShadowError):
    """The gate or the fence said no: nothing ran."""


class StatementFailed(ShadowError):
    """The statement ran on the shadow, failed, and was rolled back to its savepoint."""

    #: Whether it failed because another row holds a value that it would give, or overlaps it.
    taken = False


class ShadowExpired(ShadowError):
    """The shadow is gone or was changed behind our back; its statements are kept."""


class QuotaExceeded(ShadowError):
    """A limit on rows, bytes, time or shadows was reached."""


class Drifted(ShadowError):
    """Production changed under the proposal: rolled back before any statement ran."""


class Diverged(ShadowError):
    """Production would not have ended in the confirmed rows: rolled back."""


class OutcomeUnknown(ShadowError):
    """The connection was lost in COMMIT; the receipt will tell."""


class SandboxUnavailable(ShadowError):
    """No sandbox or control server could be started or reached."""


class ReplayPostponed(ShadowError):
    """Production was too busy for a lock in time: rolled back; the same proposal may be tried again."""


class WallMissing(ShadowError):
    """A probe found that a wall does not hold on the server as it is: nothing is served without it."""
