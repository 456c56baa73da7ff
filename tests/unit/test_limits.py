"""The limits of [limits]: each refuses what passes it, by its own words, and nothing before."""

from collections.abc import Callable
from typing import Any

import pytest

from audit.event import AuditEvent
from mcp_server.governed import Governor
from mcp_server.identity import Caller
from mcp_server.limits import CallRate, LimitReached, LimitsSection, check_arguments, check_open
from mcp_server.permissions import Permissions, Role

LIMITS = LimitsSection(nesting=3, request_kb=1)


def test_a_call_over_the_rate_does_not_run_and_is_audited() -> None:
    events: list[AuditEvent] = []

    class Trail:
        def append(self, event: AuditEvent) -> int:
            events.append(event)
            return len(events)

    roles = Permissions({"rep": Role(name="rep", permissions=("dry_run.*",))})
    ran: list[int] = []
    governor = Governor(Trail(), roles, lambda about: None, rate=CallRate(1, lambda person, most: len(ran) < most))
    caller = Caller(name="rita", role="rep", channel="http", client="tests")
    act: Callable[[], None] = lambda: ran.append(1)  # noqa: E731
    governor.run(caller, "propose", {}, act)
    with pytest.raises(LimitReached):
        governor.run(caller, "propose", {}, act)
    assert ran == [1]
    assert [event.outcome for event in events] == [None, "ok", None, "refused:LimitReached"]


@pytest.mark.parametrize("value", ["x", ["x"], [["x"]], {"a": ["x"]}])
def test_arguments_within_the_limits_pass(value: Any) -> None:
    check_arguments({"value": value}, LIMITS)


@pytest.mark.parametrize("value", [[[["x"]]], {"a": {"b": {"c": 1}}}, [{"a": [1]}]])
def test_deep_arguments_are_refused(value: Any) -> None:
    with pytest.raises(LimitReached, match=r"limits\.nesting"):
        check_arguments({"value": value}, LIMITS)


def test_large_arguments_are_refused() -> None:
    check_arguments({"value": "x" * 1000}, LIMITS)
    with pytest.raises(LimitReached, match=r"limits\.request_kb"):
        check_arguments({"value": "x" * 1024}, LIMITS)


def test_a_rep_holds_so_many_dry_runs() -> None:
    check_open(19, 20)
    with pytest.raises(LimitReached, match=r"limits\.open_dry_runs"):
        check_open(20, 20)
