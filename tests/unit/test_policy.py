"""The policy: which proposals the rep may confirm alone, and the reasons people read."""

from decimal import Decimal

import pytest

from differ.model import Diff, MeasureDelta, TableSummary
from mcp_server.permissions import Permissions, Role
from mcp_server.policy import Policy, Rule
from mcp_server.settings_sections import Decision

PERMISSIONS = Permissions({"rep": Role(name="rep", confirm=frozenset({"self"}))})


def diff(updated: int = 1, deleted: int = 0, sink: int = 0, delta: str | None = None) -> Diff:
    tables = [TableSummary(table="invoices", inserted=0, updated=updated, deleted=deleted, beyond=0)]
    if sink:
        tables.append(TableSummary(table="history", inserted=sink, updated=0, deleted=0, beyond=sink, sink=True))
    measures = ()
    if delta is not None:
        measures = (MeasureDelta(name="billing", before=None, after=None, delta=delta, unit="USD"),)
    total = updated + deleted + sink
    return Diff(tables=tuple(tables), rows=(), total_rows=total, page_start=0, measures=measures, tables_root="")


def decided(rule: Rule, seen: Diff, default: Decision = "self") -> str:
    return Policy([rule], PERMISSIONS, default).decide(seen).decision


BIG = Rule(name="big money", measure="billing", abs_delta_over=Decimal(5000), decision="engineer")


@pytest.mark.parametrize(
    ("rule", "seen", "decision"),
    [
        (Rule(rows_over=50, decision="engineer"), diff(updated=50), "self"),
        (Rule(rows_over=50, decision="engineer"), diff(updated=51), "engineer"),
        (Rule(rows_over=50, decision="engineer"), diff(updated=50, sink=50), "self"),
        (Rule(deletes_over=0, decision="second"), diff(deleted=1), "second"),
        (Rule(deletes_over=1, decision="second"), diff(deleted=1), "self"),
        (Rule(tables=("invoices",), decision="nobody"), diff(), "nobody"),
        (Rule(tables=("history",), decision="nobody"), diff(sink=1), "nobody"),
        (Rule(tables=("plans",), decision="nobody"), diff(), "self"),
        (BIG, diff(delta="5000"), "self"),
        (BIG, diff(delta="5000.01"), "engineer"),
        (BIG, diff(delta="-48000.00"), "engineer"),
        (BIG, diff(delta="NaN"), "engineer"),
        (BIG, diff(), "engineer"),
        (Rule(rows_over=1, tables=("plans",), decision="nobody"), diff(updated=9), "self"),
    ],
)
def test_a_rule_holds_when_all_its_conditions_do(rule: Rule, seen: Diff, decision: str) -> None:
    assert decided(rule, seen) == decision


def test_the_strictest_rule_wins_whatever_the_order() -> None:
    rules = [Rule(rows_over=0, decision="nobody"), Rule(rows_over=0, decision="second")]
    for ordered in (rules, rules[::-1]):
        assert Policy(ordered, PERMISSIONS).decide(diff()).decision == "nobody"
    assert decided(Rule(rows_over=0, decision="self"), diff(), default="engineer") == "engineer"


def test_reasons_are_sentences_with_the_numbers_in_them() -> None:
    verdict = Policy([BIG, Rule(rows_over=9, decision="engineer")], PERMISSIONS).decide(diff(10, delta="-48000.00"))
    assert verdict.reasons == (
        "big money: billing changes by -48,000.00 USD, more than 5,000, so an engineer confirms.",
        "10 rows change, more than 9, so an engineer confirms.",
    )
    assert Policy([], PERMISSIONS).decide(diff()).reasons == ("By default the rep may confirm.",)


def test_confirm_rights_come_from_the_role() -> None:
    policy = Policy([], PERMISSIONS)
    assert policy.confirm_rights("rep") == {"self"}
    assert policy.confirm_rights("stranger") == frozenset()
