"""Errors of the hub, named by outcome, and the tuple of all explained errors that people may read."""

from audit.errors import AuditError
from shadow.errors import ShadowError


class DeskError(Exception):
    """Root of the hub's errors: what happened, what did not happen, what to do next."""

    def __init__(self, happened: str, not_happened: str, next_step: str) -> None:
        super().__init__(happened, not_happened, next_step)
        self.happened = happened
        self.not_happened = not_happened
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.happened} {self.not_happened} {self.next_step}"


class PermissionDenied(DeskError):
    """The caller's role does not allow this: nothing ran."""


class ConfirmationRefused(DeskError):
    """The confirmation is not valid for this proposal: nothing was replayed."""


class DryRunFirst(DeskError):
    """A live call came without the same rehearsed step: nothing ran."""


class NotFound(DeskError):
    """No dry run, proposal or person of that name is visible to the caller."""


class ConfigurationInvalid(DeskError):
    """The configuration cannot be used as it stands."""


class WrongState(DeskError):
    """The dry run or proposal is in a state that does not allow this step."""


#: Errors whose text is written for people and holds no row value: shown to models, pages and terminals as it is.
EXPLAINED: tuple[type[Exception], ...] = (DeskError, ShadowError, AuditError)
