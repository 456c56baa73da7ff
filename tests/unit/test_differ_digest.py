"""The digest and its layers in Python, without a database."""

import hashlib
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from differ.digest import digest, row_hash, table_root, tables_root
from differ.framing import framed, sent
from differ.model import Column, FrozenRow

HEADER: dict[str, Any] = {
    "tenant": "7",
    "statements": [{"text": "UPDATE t SET a = $1", "params": ["1", None], "pins": []}],
    "measures": [],
}
COLUMNS = (Column(name="id", type="integer"), Column(name="v", type="text"))
TEXTS = st.none() | st.text(max_size=4)


def frozen(before: Any, after: Any, kinds: Any = ("value", "value")) -> FrozenRow:
    return FrozenRow(table="t", key=("1",), before=before, after=after, kinds=kinds)


def test_the_digest_is_the_hash_of_the_canonical_header() -> None:
    expected = hashlib.sha256(rfc8785.dumps({**HEADER, "tables_root": "ab"})).hexdigest()
    assert digest(HEADER, "ab") == expected
    assert digest(dict(reversed(HEADER.items())), "ab") == expected


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "8"},
        {"statements": []},
        {"statements": [{"text": "UPDATE t SET a = $1", "params": ["1", "null"], "pins": []}]},
        {"measures": [{"delta": "1"}]},
        {"more": True},
    ],
)
def test_anything_else_in_the_header_gives_another_digest(change: dict[str, Any]) -> None:
    assert digest({**HEADER, **change}, "ab") != digest(HEADER, "ab")


def test_another_root_gives_another_digest() -> None:
    assert digest(HEADER, "ab") != digest(HEADER, "cd")


@pytest.mark.parametrize("missing", ["tenant", "statements", "measures"])
def test_a_header_that_says_too_little_is_refused(missing: str) -> None:
    with pytest.raises(ValueError, match="header needs"):
        digest({name: value for name, value in HEADER.items() if name != missing}, "ab")


def test_a_header_may_not_bring_its_own_root() -> None:
    with pytest.raises(ValueError, match="leave tables_root free"):
        digest({**HEADER, "tables_root": "ab"}, "cd")


@given(st.lists(TEXTS), st.lists(TEXTS))
def test_cells_give_the_same_bytes_only_if_they_are_the_same(one: list[str | None], other: list[str | None]) -> None:
    assert (sent(one) == sent(other)) == (one == other)


@given(st.lists(st.text()), st.lists(st.text()))
def test_framed_texts_read_the_same_only_if_they_are(one: list[str], other: list[str]) -> None:
    assert (framed(one) == framed(other)) == (one == other)


def test_a_column_of_another_type_gives_another_hash() -> None:
    row = frozen(("1", "a"), ("1", "b"))
    renamed = (COLUMNS[0], Column(name="w", type="text"))
    retyped = (COLUMNS[0], Column(name="v", type="varchar"))
    hashes = {row_hash(columns, (0,), row) for columns in (COLUMNS, renamed, retyped)}
    assert len(hashes) == 3


@given(st.tuples(TEXTS, TEXTS), st.tuples(TEXTS, TEXTS))
def test_a_row_hash_depends_on_both_images(before: Any, after: Any) -> None:
    row = row_hash(COLUMNS, (0,), frozen(before, after))
    assert row != row_hash(COLUMNS, (0,), frozen(None, after))
    assert row != row_hash(COLUMNS, (0,), frozen(before, None))
    assert (row == row_hash(COLUMNS, (0,), frozen(after, before))) == (before == after)


def test_a_clock_cell_counts_by_kind_and_a_value_by_its_text() -> None:
    kinds = ("value", "clock")
    one, other = frozen(("1", "a"), ("1", "b")), frozen(("1", "a"), ("1", "c"))
    assert row_hash(COLUMNS, (0,), one) != row_hash(COLUMNS, (0,), other)
    one, other = frozen(("1", "a"), ("1", "b"), kinds), frozen(("1", "a"), ("1", "c"), kinds)
    assert row_hash(COLUMNS, (0,), one) == row_hash(COLUMNS, (0,), other)
    assert row_hash(COLUMNS, (0,), one) != row_hash(COLUMNS, (0,), frozen(("1", "a"), ("1", None)))


def test_a_table_root_ignores_the_order_of_rows_and_the_unchanged_ones() -> None:
    rows = [
        FrozenRow(table="t", key=(str(n),), before=(str(n), "a"), after=(str(n), "b"), kinds=("value", "value"))
        for n in range(20)
    ]
    same = FrozenRow(table="t", key=("99",), before=("99", "a"), after=("99", "a"), kinds=("value", "value"))
    root = table_root("t", COLUMNS, ("id",), rows)
    assert table_root("t", COLUMNS, ("id",), [same, *reversed(rows)]) == root
    assert table_root("t", COLUMNS, ("id",), rows[1:]) != root
    assert table_root("u", COLUMNS, ("id",), rows) != root


def test_generated_keys_do_not_reach_the_root() -> None:
    kinds: Any = ("generated", "value")

    def root(*numbers: str) -> str:
        rows = [
            FrozenRow(table="t", key=(n,), before=None, after=(n, f"v{place}"), kinds=kinds)
            for place, n in enumerate(numbers)
        ]
        return table_root("t", COLUMNS, ("id",), rows, frozenset({"id"}))

    assert root("8", "9") == root("9", "10")


def test_the_tables_root_binds_each_root_to_its_table() -> None:
    assert tables_root({"a": "1", "b": "2"}) == tables_root({"b": "2", "a": "1"})
    assert tables_root({"a": "1", "b": "2"}) != tables_root({"a": "2", "b": "1"})
    assert tables_root({}) == hashlib.sha256(b"").hexdigest()
