"""DeepDiff explains: everything it reports between two JSON values is in our paths, exactly."""

import json
from typing import Any

import pytest
from deepdiff import DeepDiff
from hypothesis import given
from hypothesis import strategies as st

from differ import explain as explaining
from differ.explain import MAX_ALIGNED, explain, rendered, tree_of

NAMES = st.sampled_from(["a", "b", "__private", "it's", 'q"["', "x.y", "1", "", "root['a']"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -0.0]) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def paths(before: str, after: str) -> list[tuple[tuple[str | int, ...], str, str | None, str | None]]:
    old, new = tree_of(before), tree_of(after)
    assert old is not None
    assert new is not None
    found = explain({"column": old[0]}, {"column": new[0]}).get("column", [])
    return [(change.path, change.kind, change.before, change.after) for change in found]


@given(VALUES, VALUES)
def test_every_place_deepdiff_reports_between_the_raw_values_is_explained(before: Any, after: Any) -> None:
    raw = DeepDiff(
        before,
        after,
        view="tree",
        threshold_to_diff_deeper=0,
        ignore_private_variables=False,
        zip_ordered_iterables=True,
    )
    reported = {tuple(level.path(output_format="list")) for levels in raw.values() for level in levels}
    old, new = tree_of(json.dumps(before)), tree_of(json.dumps(after))
    assert old is not None
    assert new is not None
    explained = {change.path for change in explain({"c": old[0]}, {"c": new[0]}, aligned=False).get("c", [])}
    assert reported <= explained


@given(VALUES, VALUES)
def test_values_with_different_text_are_always_explained(before: Any, after: Any) -> None:
    old, new = json.dumps(before, sort_keys=True), json.dumps(after, sort_keys=True)
    assert bool(paths(old, new)) == (old != new)


@given(VALUES, VALUES)
def test_both_sides_of_a_path_are_what_stands_there(before: Any, after: Any) -> None:
    for path, kind, was, now in paths(json.dumps(before), json.dumps(after)):
        if kind != "added":
            assert json.loads(was or "") == at(before, path)
        if kind == "added":
            assert json.loads(now or "") == at(after, path)


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


@given(VALUES)
def test_a_tree_renders_as_the_document_it_came_from(value: Any) -> None:
    tree = tree_of(json.dumps(value))
    assert tree is not None
    assert json.loads(rendered(tree[0])) == value


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("1.0", "1.00", [((), "changed", "1.0", "1.00")]),
        ("1", "true", [((), "changed", "1", "true")]),
        ("1", '"1"', [((), "changed", "1", '"1"')]),
        ("null", '"null"', [((), "changed", "null", '"null"')]),
        ('{"a": [1, 2]}', '{"a": {"b": 1}}', [(("a",), "changed", "[1, 2]", '{"b": 1}')]),
        ('{"a": 1}', '{"b": [{}]}', [(("a",), "removed", "1", None), (("b",), "added", None, "[{}]")]),
        ('["x", "y", "z"]', '["y", "z"]', [((0,), "removed", '"x"', None)]),
        (
            "12345678901234567890123",
            "12345678901234567890124",
            [((), "changed", "12345678901234567890123", "12345678901234567890124")],
        ),
        ("[1e400]", "[1e401]", [((0,), "changed", "1e400", "1e401")]),
    ],
)
def test_what_python_holds_equal_is_told_apart(before: str, after: str, expected: list[Any]) -> None:
    assert paths(before, after) == expected


@pytest.mark.parametrize("depth", [explaining.MAX_DEPTH + 5, 100_000 // 2 - 1])
def test_too_deep_values_are_left_whole(depth: int) -> None:
    assert tree_of("[" * depth + "]" * depth) is None


def test_too_long_and_too_many_are_left_whole() -> None:
    assert tree_of(json.dumps("x" * explaining.MAX_CHARACTERS)) is None
    assert tree_of(json.dumps([1] * explaining.MAX_NODES)) is None


def test_long_lists_are_compared_place_by_place() -> None:
    long = list(range(MAX_ALIGNED + 1))
    found = paths(json.dumps(long), json.dumps(long[1:]))
    assert len(found) == len(long)
