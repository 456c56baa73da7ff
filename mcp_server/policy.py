"""Who must confirm a proposal: rules of the operator over its diff, the strictest wins; asked when it is proposed."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

from differ.model import Diff, MeasureDelta
from mcp_server.permissions import Permissions
from mcp_server.settings import Settings
from mcp_server.settings_sections import Decision

#: From the mildest to the strictest.
STRICTNESS: tuple[Decision, ...] = ("self", "second", "engineer", "nobody")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: The sections of the configuration that its version is about.
POLICY_PART = {"roles", "policy", "measures", "masking", "gate"}
_WHO = {
    "self": "the rep may confirm",
    "second": "a second person confirms",
    "engineer": "an engineer confirms",
    "nobody": "nobody may confirm",
}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: it holds when all its conditions do. Rows and deletes count the tenant's tables, not side effects."""

    decision: Decision
    name: str | None = None
    rows_over: int | None = None
    deletes_over: int | None = None
    cascades_over: int | None = None
    tables: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    outside_hours: str | None = None
    on_days: tuple[str, ...] | None = None
    measure: str | None = None
    abs_delta_over: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Who may confirm, and why in sentences."""

    decision: Decision
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the rules look at: the diff, the fence class of each changed table, and the local time of the judgement."""

    diff: Diff
    classes: Mapping[str, str]
    at: datetime


class Policy:
    """The operator's rules, and which roles may confirm as what.

    `version` names the policy part of the configuration by its hash; None where there is none.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        permissions: Permissions,
        default: Decision = "self",
        *,
        stale_blocks: bool = False,
        timezone: str = "UTC",
        version: str | None = None,
    ) -> None:
        self._rules = tuple(rules)
        self._permissions = permissions
        self._default = default
        #: Whether rows that a dry run only looked at and that changed since stop its replay.
        self.stale_blocks = stale_blocks
        self._zone = ZoneInfo(timezone)
        self.version = version

    @classmethod
    def of(cls, settings: Settings) -> "Policy":
        """The policy of shadowdesk.toml."""
        rules = [Rule(**dict(rule)) for rule in settings.policy.rules]
        return cls(
            rules, Permissions.of(settings), settings.policy.default,
            stale_blocks=settings.policy.stale == "block", timezone=settings.policy.timezone,
            version=policy_version(settings),
        )  # fmt: skip

    def confirm_rights(self, role: str) -> frozenset[str]:
        """Which of 'self', 'second', 'engineer' the role may confirm as."""
        return self._permissions.confirm_rights(role)

    def decide(self, diff: Diff, classes: Mapping[str, str] | None = None, at: datetime | None = None) -> Verdict:
        """The strictest of the default and every rule that holds; reasons name each rule at that strictness.

        `classes` gives the fence class of each changed table; `at` is the time of the judgement, now by default.
        """
        seen = Seen(diff=diff, classes=classes or {}, at=(at or datetime.now(UTC)).astimezone(self._zone))
        holding = [(rule, why) for rule in self._rules if (why := _holds(rule, seen)) is not None]
        decision = max((self._default, *(rule.decision for rule, _ in holding)), key=STRICTNESS.index)
        reasons = [_sentence(rule, why) for rule, why in holding if rule.decision == decision]
        if decision == self._default:
            reasons.insert(0, f"By default {_WHO[decision]}.")
        return Verdict(decision=decision, reasons=tuple(reasons))


def _sentence(rule: Rule, why: str) -> str:
    name = f"{rule.name}: " if rule.name else ""
    return f"{name}{why}, so {_WHO[rule.decision]}."


def stricter(first: Decision, second: Decision) -> Decision:
    """The stricter of the two."""
    return max(first, second, key=STRICTNESS.index)


def policy_version(settings: Settings) -> str:
    """SHA-256 (hex) over what decides who may do and confirm what: roles, policy, measures, masking, limits."""
    part = settings.model_dump(mode="json", include=POLICY_PART)
    return hashlib.sha256(json.dumps(part, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _holds(rule: Rule, seen: Seen) -> str | None:
    """Why the rule holds for what is seen; None when one of its conditions does not."""
    found = list(_conditions(rule, seen))
    if any(why is None for why in found):
        return None
    return " and ".join(why for why in found if why)


def _conditions(rule: Rule, seen: Seen) -> Iterator[str | None]:
    diff = seen.diff
    if rule.rows_over is not None:
        yield _over(diff.total_rows - diff.side_effects, rule.rows_over, "rows change")
    if rule.deletes_over is not None:
        deleted = sum(table.deleted for table in diff.tables if not table.sink)
        yield _over(deleted, rule.deletes_over, "rows are deleted")
    if rule.cascades_over is not None:
        beyond = sum(table.beyond for table in diff.tables if not table.sink)
        yield _over(beyond, rule.cascades_over, "rows change by cascades and triggers")
    if rule.tables is not None:
        named = [table.table for table in diff.tables if table.table in rule.tables and table.rows]
        yield f"{', '.join(named)} would change" if named else None
    if rule.classes is not None:
        yield _of_class(rule.classes, seen)
    if rule.outside_hours is not None:
        inside = within(rule.outside_hours, seen.at.time())
        yield None if inside else f"it is {seen.at:%H:%M %Z}, outside {rule.outside_hours}"
    if rule.on_days is not None:
        today = DAYS[seen.at.weekday()]
        yield f"it is {seen.at:%A}" if today in rule.on_days else None
    if rule.measure is not None and rule.abs_delta_over is not None:
        yield _measure(rule.measure, rule.abs_delta_over, diff)


def _of_class(classes: tuple[str, ...], seen: Seen) -> str | None:
    """Fails closed: a changed table whose class is not known counts as one of them."""
    changed = [table.table for table in seen.diff.tables if table.rows]
    named = [name for name in changed if seen.classes.get(name, classes[0]) in classes]
    return f"{', '.join(named)} ({', '.join(classes)}) would change" if named else None


def within(hours: str, at: time) -> bool:
    """Whether a time of day lies in `08:00-18:00`, or in `22:00-06:00` over midnight; equal ends are the whole day."""
    begin, end = (time.fromisoformat(part) for part in hours.split("-"))
    if begin == end:
        return True
    return begin <= at < end if begin < end else at >= begin or at < end


def _over(count: int, limit: int, what: str) -> str | None:
    return f"{count:,} {what}, more than {limit:,}" if count > limit else None


def _measure(name: str, limit: Decimal, diff: Diff) -> str | None:
    """Fails closed: a measure that is missing from the diff, or is no number, counts as over its limit."""
    found = next((one for one in diff.measures if one.name == name), None)
    if found is None:
        return f"{name} could not be computed"
    delta = Decimal(found.delta)
    if not delta.is_finite():
        return f"{name} changes by {found.delta}"
    return f"{_change(found, delta)}, more than {limit:,}" if abs(delta) > limit else None


def _change(measure: MeasureDelta, delta: Decimal) -> str:
    unit = f" {measure.unit}" if measure.unit else ""
    return f"{measure.name} changes by {delta:+,}{unit}"
