"""Taking something away from a role or the policy never lets anybody do more, whatever it is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from differ.model import Diff, TableSummary
from mcp_server.confirming import Confirming
from mcp_server.identity import Caller
from mcp_server.permissions import PERMISSION_OF, Permissions, Role, RoleLimits
from mcp_server.policy import STRICTNESS, Policy, Rule, policy_version, stricter
from mcp_server.scope import Scope, tenant_listed, write_rule
from mcp_server.settings import Settings

EVERY = sorted({*PERMISSION_OF.values(), "contracts.edit", "contracts.rename", "token.manage"})
PATTERNS = ["*", "dry_run.*", "contracts.*", "token.*", "shadow.*", *(one for one in EVERY if one)]
TENANTS = ["1", "2", "acme-1", "acme-22", "*", "acme-*", "?", "[12]"]
WRITES = ["*", "contracts", "contracts.title", "invoices", "invoices.paid"]
TARGETS = [(table, column) for table in ("contracts", "invoices", "plans") for column in (None, "title", "paid")]
RIGHTS = ["self", "second", "engineer"]
STATES = ["pending", "escalated", "approved"]
lists = st.lists


def role(**values: Any) -> Permissions:
    return Permissions({"r": Role(name="r", **values)})


def allowed(permissions: Permissions) -> set[str]:
    return {one for one in EVERY if permissions.decide("r", one).allowed}


@given(
    lists(st.sampled_from(PATTERNS), min_size=1, unique=True), lists(st.sampled_from(RIGHTS), unique=True), st.data()
)
def test_removing_a_permission_never_allows_more(patterns: list[str], confirm: list[str], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(patterns))
    before = allowed(role(permissions=tuple(patterns), confirm=frozenset(confirm)))
    fewer = tuple(one for one in patterns if one != gone)
    assert allowed(role(permissions=fewer, confirm=frozenset(confirm))) <= before


@given(
    lists(st.sampled_from(TENANTS), min_size=1, unique=True),
    lists(st.sampled_from(WRITES), min_size=1, unique=True),
    st.data(),
)
def test_removing_an_entry_of_a_limit_never_allows_more(
    tenants: list[str], writes: list[str], data: st.DataObject
) -> None:
    keys = ["1", "2", "acme-1", "acme-22", "acme", "", "*"]
    tenant, write = data.draw(st.sampled_from(tenants)), data.draw(st.sampled_from(writes))
    before = RoleLimits(tenants=tuple(tenants), writes=tuple(writes))
    after = RoleLimits(tenants=tuple(set(tenants) - {tenant}), writes=tuple(set(writes) - {write}))
    assert {k for k in keys if tenant_listed(after, k)} <= {k for k in keys if tenant_listed(before, k)}
    now, then = ({one for one in TARGETS if write_rule(limits.writes or (), *one)} for limits in (after, before))
    assert now <= then


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ('["eu", "1"]', {'["eu", "1"]'}), ('["eu", "*"]', {'["eu", "1"]', '["eu", "12"]'}), ("[12]", set()),
        ("*", {'["eu", "1"]', '["eu", "12"]', '["us", "1"]', "1", "e"}),
    ],
)  # fmt: skip
def test_a_bracket_in_a_tenants_pattern_is_a_bracket(entry: str, named: set[str]) -> None:
    keys = ['["eu", "1"]', '["eu", "12"]', '["us", "1"]', "1", "e"]
    assert {key for key in keys if tenant_listed(RoleLimits(tenants=(entry,)), key)} == named


def test_a_role_that_is_gone_sees_and_writes_nothing() -> None:
    scope = Scope(Permissions({}), SimpleNamespace())  # type: ignore[arg-type]
    stranger = Caller(name="x", role="gone", channel="cli", client="")
    assert scope.tenants(stranger, ["1", "2"]) == frozenset()
    limits = scope.limits(stranger)
    assert (limits.tenants, limits.writes, limits.rows_per_step) == ((), (), 0)
    assert not scope.sees_all(stranger)


DIFF = Diff(
    tables=(TableSummary(table="contracts", inserted=0, updated=5, deleted=2, beyond=3),),
    rows=(), total_rows=7, page_start=0, measures=(), tables_root="",
)  # fmt: skip
rules = st.builds(
    Rule,
    decision=st.sampled_from(STRICTNESS),
    rows_over=st.none() | st.integers(0, 9),
    deletes_over=st.none() | st.integers(0, 3),
    cascades_over=st.none() | st.integers(0, 4),
    tables=st.none() | st.just(("contracts",)) | st.just(("plans",)),
    classes=st.none() | st.just(("direct",)) | st.just(("shared",)),
    on_days=st.none() | st.just(("mon",)) | st.just(("sun",)),
)


@given(lists(rules, max_size=6), rules, st.sampled_from(STRICTNESS), st.sampled_from([{}, {"contracts": "direct"}]))
def test_one_more_rule_is_never_milder(some: list[Rule], more: Rule, default: Any, classes: dict[str, str]) -> None:
    at = datetime(2026, 1, 5, 12, tzinfo=UTC)  # a Monday
    before = Policy(some, role(), default).decide(DIFF, classes, at).decision
    after = Policy([*some, more], role(), default).decide(DIFF, classes, at).decision
    assert stricter(before, after) == after


def confirmer(rights: frozenset[str], rules: tuple[Rule, ...] = ()) -> Confirming:
    policy = Policy(rules, role(confirm=rights))
    dry_runs: Any = SimpleNamespace(control=None, production=None)
    return Confirming(dry_runs, policy, "", ttl_s=1, limits=SimpleNamespace())  # type: ignore[arg-type]


def may(rights: frozenset[str], person: str, decision: str, state: str, rules: tuple[Rule, ...] = ()) -> bool:
    caller = Caller(name=person, role="r", channel="page", client="")
    proposal: Any = SimpleNamespace(state=state, decision=decision, diff=DIFF.to_json(), frozen={})
    dry_run: Any = SimpleNamespace(rep="rita")
    return confirmer(rights, rules).may_not_confirm(caller, dry_run, proposal) is None


@given(st.sets(st.sampled_from(RIGHTS)), st.sampled_from(RIGHTS), st.sampled_from(["rita", "paul"]),
       st.sampled_from(STRICTNESS), st.sampled_from(STATES))  # fmt: skip
def test_fewer_rights_and_a_stricter_policy_never_confirm_more(
    rights: set[str], gone: str, person: str, decision: str, state: str
) -> None:
    if may(frozenset(rights - {gone}), person, decision, state):
        assert may(frozenset(rights), person, decision, state)
    for milder in STRICTNESS[: STRICTNESS.index(decision)]:  # type: ignore[arg-type]
        if may(frozenset(rights), person, decision, state):
            assert may(frozenset(rights), person, milder, state)


@given(st.sets(st.sampled_from(RIGHTS)), st.sampled_from(["second", "engineer"]))
def test_four_eyes_are_two_people(rights: set[str], decision: str) -> None:
    assert not may(frozenset(rights), "rita", decision, "pending"), "the rep confirmed alone"
    assert not may(frozenset(rights), "rita", decision, "escalated")


def test_the_right_to_confirm_for_others_is_none_to_confirm_ones_own() -> None:
    assert not may(frozenset({"second", "engineer"}), "rita", "self", "pending")
    assert may(frozenset({"second"}), "paul", "self", "pending")


def test_a_policy_that_became_stricter_meanwhile_counts() -> None:
    rule = Rule(rows_over=1, decision="engineer")
    assert may(frozenset({"self"}), "rita", "self", "pending")
    assert not may(frozenset({"self"}), "rita", "self", "pending", (rule,))
    assert not may(frozenset({"self"}), "rita", "engineer", "pending", ()), "what was decided when proposed stays"


def test_the_version_is_of_the_policy_and_of_nothing_else() -> None:
    values: dict[str, Any] = {"production": {"reader_url": "x"}, "fence": {"root": "t"}}
    plain = Settings(**values)
    version = policy_version(plain)
    assert policy_version(Settings(**{**values, "pages": {"port": 9}})) == version
    policy = {"rules": [{"rows_over": 1, "decision": "nobody"}]}
    roles = {"rep": {"permissions": ["dry_run.*"], "limits": {"writes": ["a"]}}}
    changed = {policy_version(Settings(**{**values, **more})) for more in ({"policy": policy}, {"roles": roles})}
    assert len({*changed, version}) == 3


def test_time_of_day_and_days() -> None:
    night = Policy([Rule(outside_hours="08:00-18:00", decision="second")], role(), timezone="Europe/Vienna")
    weekend = Policy([Rule(on_days=("sat", "sun"), decision="engineer")], role())
    late = Policy([Rule(outside_hours="22:00-06:00", decision="second")], role())
    monday = datetime(2026, 1, 5, tzinfo=UTC)
    for hour, decision in ((6, "second"), (7, "self"), (16, "self"), (17, "second")):
        assert night.decide(DIFF, {}, monday + timedelta(hours=hour)).decision == decision
    for hour, decision in ((21, "second"), (22, "self"), (0, "self"), (5, "self"), (6, "second")):
        assert late.decide(DIFF, {}, monday + timedelta(hours=hour)).decision == decision
    assert weekend.decide(DIFF, {}, monday).decision == "self"
    assert weekend.decide(DIFF, {}, monday - timedelta(days=1)).decision == "engineer"


def test_cascades_and_classes() -> None:
    cascades = Policy([Rule(cascades_over=2, decision="engineer")], role())
    assert cascades.decide(DIFF).reasons == (
        "3 rows change by cascades and triggers, more than 2, so an engineer confirms.",
    )
    assert Policy([Rule(cascades_over=3, decision="engineer")], role()).decide(DIFF).decision == "self"
    shared = Policy([Rule(classes=("shared",), decision="nobody")], role())
    assert shared.decide(DIFF, {"contracts": "direct"}).decision == "self"
    assert shared.decide(DIFF, {"contracts": "shared"}).decision == "nobody"
    assert shared.decide(DIFF, {}).decision == "nobody", "a table of unknown class counts"
    empty = replace(DIFF, tables=(replace(DIFF.tables[0], updated=0, deleted=0),))
    assert shared.decide(empty, {}).decision == "self"
