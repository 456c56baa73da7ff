"""Who must confirm a proposal: rules of the operator over its diff, the strictest wins; asked when it is proposed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from differ.model import Diff, MeasureDelta
from mcp_server.permissions import Permissions
from mcp_server.settings import Settings
from mcp_server.settings_sections import Decision

#: From the mildest to the strictest.
STRICTNESS: tuple[Decision, ...] = ("self", "second", "engineer", "nobody")
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
    tables: tuple[str, ...] | None = None
    measure: str | None = None
    abs_delta_over: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Who may confirm, and why in sentences."""

    decision: Decision
    reasons: tuple[str, ...]


class Policy:
    """The operator's rules, and which roles may confirm as what."""

    def __init__(
        self, rules: Sequence[Rule], permissions: Permissions, default: Decision = "self", *, stale_blocks: bool = False
    ) -> None:
        self._rules = tuple(rules)
        self._permissions = permissions
        self._default = default
        #: Whether rows that a dry run only looked at and that changed since stop its replay.
        self.stale_blocks = stale_blocks

    @classmethod
    def of(cls, settings: Settings) -> "Policy":
        """The policy of shadowdesk.toml."""
        rules = [Rule(**dict(rule)) for rule in settings.policy.rules]
        stale_blocks = settings.policy.stale == "block"
        return cls(rules, Permissions.of(settings), settings.policy.default, stale_blocks=stale_blocks)

    def confirm_rights(self, role: str) -> frozenset[str]:
        """Which of 'self', 'second', 'engineer' the role may confirm as."""
        return self._permissions.confirm_rights(role)

    def decide(self, diff: Diff) -> Verdict:
        """The strictest of the default and every rule that holds; reasons name each rule at that strictness."""
        holding = [(rule, why) for rule in self._rules if (why := _holds(rule, diff)) is not None]
        decision = max((self._default, *(rule.decision for rule, _ in holding)), key=STRICTNESS.index)
        reasons = [_sentence(rule, why) for rule, why in holding if rule.decision == decision]
        if decision == self._default:
            reasons.insert(0, f"By default {_WHO[decision]}.")
        return Verdict(decision=decision, reasons=tuple(reasons))


def _sentence(rule: Rule, why: str) -> str:
    name = f"{rule.name}: " if rule.name else ""
    return f"{name}{why}, so {_WHO[rule.decision]}."


def _holds(rule: Rule, diff: Diff) -> str | None:
    """Why the rule holds for this diff; None when one of its conditions does not."""
    found = list(_conditions(rule, diff))
    if any(why is None for why in found):
        return None
    return " and ".join(why for why in found if why)


def _conditions(rule: Rule, diff: Diff) -> Iterator[str | None]:
    if rule.rows_over is not None:
        yield _over(diff.total_rows - diff.side_effects, rule.rows_over, "rows change")
    if rule.deletes_over is not None:
        deleted = sum(table.deleted for table in diff.tables if not table.sink)
        yield _over(deleted, rule.deletes_over, "rows are deleted")
    if rule.tables is not None:
        named = [table.table for table in diff.tables if table.table in rule.tables and table.rows]
        yield f"{', '.join(named)} would change" if named else None
    if rule.measure is not None and rule.abs_delta_over is not None:
        yield _measure(rule.measure, rule.abs_delta_over, diff)


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
