"""The one place around every call of a tool, page or command: permission, audit intent, the act, audit outcome.

The intent is committed before anything runs; when it cannot be written, nothing runs (design §4.8).
"""

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from audit.errors import AuditError, AuditUnavailable
from audit.event import AuditEvent
from differ.model import Diff
from mcp_server.errors import EXPLAINED, NotFound, PermissionDenied, WrongState
from mcp_server.identity import Caller
from mcp_server.limits import CallRate
from mcp_server.permissions import PERMISSION_OF, Permissions
from mcp_server.views import DryRunView, ProposalView, ReceiptView, StepResult

logger = logging.getLogger(__name__)
T = TypeVar("T")
#: Arguments that say why a call is made, the first one given is audited as its reason.
_REASONS = ("reason", "comment", "question", "note", "purpose")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a call turned out to be about; None where it does not say."""

    dry_run_id: str | None = None
    proposal_id: str | None = None
    request: str | None = None
    digest: str | None = None
    diff: Any = None


class AuditLog(Protocol):
    """Where events go; `audit.store.AuditStore` is one. Raises AuditUnavailable when an event is not committed."""

    def append(self, event: AuditEvent) -> int: ...


class Governor:
    """Decides, audits and runs calls; safe to share between threads."""

    def __init__(
        self,
        audit: AuditLog,
        permissions: Permissions,
        request_of: Callable[[str], str | None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        rate: CallRate | None = None,
    ) -> None:
        """`request_of` gives the rep's words behind a dry run or proposal by its id; NotFound for no such id.

        `rate` counts each person's calls; without one they are not counted.
        """
        self._audit = audit
        self.permissions = permissions
        self._request_of = request_of
        self._now = now
        self._rate = rate

    def run(self, caller: Caller, verb: str, arguments: Mapping[str, Any], act: Callable[[], T]) -> T:
        """`call` for a verb of the built-in surface: its permission is looked up. KeyError for an unknown verb."""
        return self.call(caller, verb, PERMISSION_OF[verb], arguments, act)

    def call(self, caller: Caller, tool: str, permission: str, arguments: Mapping[str, Any], act: Callable[[], T]) -> T:
        """Runs `act` between its two audit events and returns what it returned.

        Raises PermissionDenied, LimitReached and AuditUnavailable before anything ran, else whatever `act` raised. When
        the act succeeded and its outcome cannot be written, AuditUnavailable says so: the caller must look what was
        done.
        """
        decision = self.permissions.decide(caller.role, permission)
        intent, started = self._intent(caller, tool, arguments), time.monotonic()
        if not decision.allowed:
            self._outcome(intent, started, "denied", message=decision.reason)
            raise PermissionDenied(decision.reason, "Nothing ran.", "Ask the operator, or a colleague who may.")
        return self._acted(intent, started, lambda: self._counted(caller, act))

    def _counted(self, caller: Caller, act: Callable[[], T]) -> T:
        if self._rate is not None:
            self._rate.take(caller.name)
        return act()

    def by_itself(self, tool: str, arguments: Mapping[str, Any], act: Callable[[], T]) -> T:
        """What the server does without being asked (housekeeping), between its two audit events as everything else."""
        caller = Caller(name="shadowdesk", role="server", channel="cli", client="housekeeping")
        intent, started = self._intent(caller, tool, arguments), time.monotonic()
        return self._acted(intent, started, act)

    def _acted(self, intent: AuditEvent, started: float, act: Callable[[], T]) -> T:
        try:
            result = act()
        except EXPLAINED as error:
            denied = isinstance(error, PermissionDenied)
            self._failed(intent, started, "denied" if denied else f"refused:{type(error).__name__}", str(error), error)
            raise
        except Exception as error:
            # A crash's text may hold row values: only its kind is written.
            self._failed(intent, started, f"crash:{type(error).__name__}", None, error)
            raise
        except BaseException as error:
            self._failed(intent, started, "aborted", type(error).__name__, error)
            raise
        self._outcome(intent, started, "ok", facts=facts_of(result))
        return result

    def record(self, caller: Caller, tool: str, arguments: Any, outcome: str, message: str | None = None) -> None:
        """Audits a call that ended before it could act: 'unknown_tool', 'invalid_arguments', 'denied'."""
        started = time.monotonic()
        self._outcome(self._intent(caller, tool, arguments), started, outcome, message=message)

    def _intent(self, caller: Caller, tool: str, arguments: Any) -> AuditEvent:
        given = arguments if isinstance(arguments, Mapping) else {}
        named = {key: value for key, value in given.items() if isinstance(value, str)}
        dry_run_id, proposal_id = named.get("dry_run_id"), named.get("proposal_id")
        about = dry_run_id or proposal_id
        intent = AuditEvent(
            at=self._now(),
            kind="intent",
            call_id=uuid.uuid4().hex,
            person=caller.name,
            role=caller.role,
            channel=caller.channel,
            client=caller.client,
            tool=tool,
            request=named.get("request") or (self._words(about) if about else None),
            reason=next((named[key] for key in _REASONS if named.get(key)), None),
            arguments=dict(arguments) if isinstance(arguments, Mapping) else arguments,
            dry_run_id=dry_run_id,
            proposal_id=proposal_id,
        )
        self._audit.append(intent)
        return intent

    def _words(self, about: str) -> str | None:
        """The rep's words behind a dry run or proposal; a call that names no known one has none."""
        try:
            return self._request_of(about)
        except (NotFound, WrongState):  # WrongState: a text that no id can be, with a NUL character in it
            return None
        except EXPLAINED as error:
            raise AuditUnavailable(
                "The audit trail cannot say which request this call belongs to.", "Nothing ran.", str(error)
            ) from error

    def _outcome(
        self, intent: AuditEvent, started: float, outcome: str, message: str | None = None, facts: Facts | None = None
    ) -> None:
        facts = facts or Facts()
        self._audit.append(
            replace(
                intent,
                at=self._now(),
                kind="outcome",
                outcome=outcome,
                message=message,
                request=facts.request or intent.request,
                dry_run_id=facts.dry_run_id or intent.dry_run_id,
                proposal_id=facts.proposal_id or intent.proposal_id,
                digest=facts.digest,
                diff=facts.diff,
                duration_ms=round((time.monotonic() - started) * 1000, 3),
            )
        )

    def _failed(
        self, intent: AuditEvent, started: float, outcome: str, message: str | None, error: BaseException
    ) -> None:
        """The outcome of an act that failed; its own error is the one that is told when this cannot be written too."""
        try:
            self._outcome(intent, started, outcome, message=message)
        except AuditError:
            logger.error("call %s ended as %s; its outcome could not be audited", intent.call_id, outcome)
            error.add_note("The outcome of this call is missing from the audit trail.")


def diff_summary(diff: Diff) -> dict[str, Any]:
    """A diff as audited: tables, measures, counts and the root over all rows; without the rows."""
    return {name: value for name, value in diff.to_json().items() if name not in ("rows", "page_start")}


def facts_of(result: object) -> Facts:
    """What a result says about the call: views of the desk, tuples of them, or anything with `facts`."""
    match result:
        case Facts():
            return result
        case DryRunView():
            return Facts(dry_run_id=result.id, proposal_id=result.proposal_id, request=result.request)
        case ProposalView():
            return Facts(
                dry_run_id=result.dry_run_id,
                proposal_id=result.id,
                request=result.request,
                digest=result.digest,
                diff=diff_summary(result.diff),
            )
        case StepResult():
            return Facts(diff=diff_summary(result.diff))
        case Diff():
            return Facts(diff=diff_summary(result))
        case ReceiptView():
            return Facts(proposal_id=result.proposal_id, digest=result.digest)
        case tuple():
            return _first_told([facts_of(item) for item in result])
        case _:
            facts = getattr(result, "facts", None)
            return facts if isinstance(facts, Facts) else Facts()


def _first_told(found: list[Facts]) -> Facts:
    names = Facts.__dataclass_fields__
    return Facts(**{name: next((v for f in found if (v := getattr(f, name)) is not None), None) for name in names})
