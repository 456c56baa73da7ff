"""Any JSON a client can send has canonical bytes and comes back as it was."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.canonical import canonical, parse, tagged
from audit.event import AuditEvent, indexable

#: Every text, lone surrogates and NUL included.
texts = st.text(st.characters(exclude_categories=()))
tags = st.sampled_from(["$int", "$text", "$float", "$object", "$decimal", "$", "$other"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts | tags, inner),
    max_leaves=20,
)


def same(left: Any, right: Any) -> bool:
    """Equal in value and type; NaN is itself, and -0.0 is not 0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    return bool(left == right) if isinstance(left, int) else repr(left) == repr(right)


@given(values)
def test_any_argument_comes_back_from_its_canonical_bytes(value: object) -> None:
    assert same(parse(canonical(value)), value)


@given(values)
def test_canonical_bytes_are_strict_json_and_stay_the_same(value: object) -> None:
    data = canonical(value)
    assert b"\n" not in data
    json.loads(data, parse_constant=pytest.fail)
    assert canonical(parse(data)) == data


@given(values, values)
def test_different_arguments_have_different_bytes(left: object, right: object) -> None:
    assert (canonical(left) == canonical(right)) == same(left, right)


@pytest.mark.parametrize(
    "value",
    [2**53, -(2**53), 10**5000, math.nan, math.inf, -math.inf, -0.0, 1.0, 1e22, 1e-7, "\ud800", "a\0b", {"\udfff": 1}],
    ids=lambda value: type(value).__name__,
)
def test_values_that_rfc_8785_has_no_form_for_come_back(value: object) -> None:
    assert same(parse(canonical([value])), [value])


def test_an_object_that_looks_like_a_tag_is_not_taken_for_one() -> None:
    value: object
    for value in ({"$int": "5"}, {"$object": []}, {"$text": 1}, {"$int": {"$int": "5"}}, {"$a": 1, "$b": 2}):
        assert same(parse(canonical(value)), value)


def test_the_order_of_keys_does_not_matter() -> None:
    assert canonical({"b": 1, "a": 2, "\U0001f600": 3, "\ufb33": 4}) == canonical(
        {"\ufb33": 4, "\U0001f600": 3, "a": 2, "b": 1}
    )


def test_arguments_as_deep_as_the_protocol_parses_them_are_written() -> None:
    value: object = "end"
    for _ in range(200):
        value = {"a": value}
    assert parse(canonical(value)) == value


@pytest.mark.parametrize("value", [object(), b"bytes", {1: 2}, {"a": {1, 2}}, datetime.now(UTC)])
def test_what_no_json_text_holds_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        tagged(value)


EVENT = AuditEvent(
    at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), kind="outcome", call_id="c", person="p", role="r", channel="http",
    client="c", tool="t", outcome="ok", arguments={"n": Decimal("1.10"), "big": 2**70}, duration_ms=12.0,
)  # fmt: skip


def test_an_event_comes_back_from_its_bytes_with_the_number_the_chain_gave_it() -> None:
    assert AuditEvent.from_bytes(EVENT.to_bytes(), seq=9) == replace(EVENT, seq=9)


def test_the_number_of_an_event_is_not_among_its_bytes_and_its_time_is_in_utc() -> None:
    elsewhere = EVENT.at.astimezone(timezone(timedelta(hours=5)))
    assert replace(EVENT, seq=9, at=elsewhere).to_bytes() == EVENT.to_bytes()


@pytest.mark.parametrize(
    "changes", [{"outcome": None}, {"kind": "intent"}, {"kind": "note"}, {"at": datetime(2026, 1, 1)}]
)
def test_an_event_that_says_less_than_its_kind_promises_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"audit event|outcome event"):
        replace(EVENT, **changes)


def test_texts_that_an_index_column_cannot_hold_are_left_out_of_it() -> None:
    assert [indexable(text) for text in ("dr_1", "a\0", "\ud800", None)] == ["dr_1", None, None, None]
    assert [indexable("\U0001f600" * length) is None for length in (600, 601)] == [False, True]
