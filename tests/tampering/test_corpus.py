"""The whole corpus through the whole stack: nothing breaks, nothing benign is refused; a report says what was limited."""

from pathlib import Path

import pytest

from shadow.embedded import EmbeddedServer
from tests.tampering.entry import UnknownForm, read_entries
from tests.tampering.run import Thrower
from tests.tampering.stack import open_stack

CORPUS = Path(__file__).parents[1] / "corpus" / "statements.jsonl"
ENTRIES = read_entries(CORPUS)
#: PostgreSQL itself stands in the way, by production's major version (docs/security.md).
LIMITS = {18: {"oracle-02", "benign-37"}, 15: {"oracle-02", "benign-37", "benign-67"}}
HALVES = (0, 1)


@pytest.mark.parametrize("half", HALVES)
def test_no_entry_breaks_a_check(half: int, production_server: EmbeddedServer, tmp_path: Path) -> None:
    thrown = [entry for number, entry in enumerate(ENTRIES) if number % len(HALVES) == half]
    with open_stack(tmp_path, production_server) as stack:
        outcome = Thrower(stack).run(thrown)
        major = stack.owner.info.server_version // 10_000
    assert outcome.breaches == []
    assert outcome.benign_refused == []
    assert outcome.passed == outcome.entries == len(thrown)
    assert set(outcome.limits) == {entry.id for entry in thrown} & LIMITS[major]
    assert outcome.not_sendable == []


def test_a_broken_check_is_noticed(production_server: EmbeddedServer, tmp_path: Path) -> None:
    """The judge itself: an entry that is let through although it should not be, and one that tells a secret."""
    file = tmp_path / "made.jsonl"
    file.write_text(
        '{"id": "a", "category": "x", "why": "", "sql": "UPDATE contracts SET note = \'x\' WHERE id = 17",'
        ' "expected": "reject", "checks": ["same_effect"], "surface": "flow", "canary": ["contracts"]}\n'
        '{"id": "b", "category": "x", "why": "", "sql": "SELECT 1 FROM no_such_table", "expected": "allowed",'
        ' "checks": ["succeeds_in_shadow"], "surface": "shadow"}\n'
    )
    with open_stack(tmp_path, production_server) as stack:
        outcome = Thrower(stack).run(read_entries(file))
    assert outcome.breaches == [
        {"id": "a", "check": "expected_reject"}, {"id": "a", "check": "canary contracts"},
        {"id": "b", "check": "succeeds_in_shadow"},
    ]  # fmt: skip
    assert outcome.benign_refused == ["b"]


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.jsonl"
    file.write_text('{"id": "a", "sql": "SELECT 1"}\n')
    with pytest.raises(UnknownForm, match="line 1"):
        read_entries(file)
