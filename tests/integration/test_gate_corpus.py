"""The gate over the corpus of hostile and benign statements: what it stops, and that it stops nothing harmless."""

from collections import Counter

import pytest

from shadow.errors import StatementRefused
from shadow.gate import gate
from tests.corpus.surface import Entry, entries, surface

SURFACE = surface()
ENTRIES = list(entries())

#: Statements that only running can stop, and the wall that does.
STOPPED_LATER: dict[str, str] = {
    "tenant_hop-19": "a key change is allowed by design and shown as a pair; here line_items' and invoices' foreign "
    "keys to the contract refuse it in the shadow, whose child tables are loaded first",
}


def refusal(entry: Entry) -> str | None:
    """Why the gate refuses the entry; a list of steps is refused when one of them is. None when it passes."""
    reasons = []
    for statement in entry.statements:
        try:
            gate(statement, entry.params, SURFACE)
        except StatementRefused as error:
            reasons.append(str(error))
    if entry.compare and 0 < len(reasons) < len(entry.statements):
        return None
    return reasons[0] if reasons else None


def test_no_harmless_statement_is_refused() -> None:
    refused = {e.id: refusal(e) for e in ENTRIES if e.expected == "allowed" and refusal(e)}
    assert refused == {}


def test_harmless_queries_pass_as_queries_too() -> None:
    queries = [e for e in ENTRIES if e.expected == "allowed" and e.surface == "shadow"]
    assert len(queries) >= 10
    for entry in queries:
        assert gate(entry.statements[0], entry.params, SURFACE, query=True).kind == "select"


def test_every_statement_to_reject_is_refused_by_the_gate_or_named_here() -> None:
    passed = {e.id for e in ENTRIES if e.expected == "reject" and refusal(e) is None}
    assert passed == set(STOPPED_LATER)


def test_the_corpus_is_the_whole_one_and_its_figures_are_printed() -> None:
    asked: Counter[tuple[str, str]] = Counter((e.category, e.expected) for e in ENTRIES)
    stopped: Counter[tuple[str, str]] = Counter((e.category, e.expected) for e in ENTRIES if refusal(e))
    for (category, expected), count in sorted(asked.items()):
        print(f"{category:22} {expected:10} {stopped[category, expected]:4} of {count:4} refused")
    by_expectation = Counter(e.expected for e in ENTRIES)
    assert by_expectation == {"reject": 336, "contained": 51, "allowed": 52}


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.expected == "reject"], ids=lambda e: e.id)
def test_a_refusal_says_why_and_that_nothing_ran_and_what_to_do(entry: Entry) -> None:
    for statement in entry.statements:
        try:
            gate(statement, entry.params, SURFACE)
        except StatementRefused as error:
            assert error.not_happened == "Nothing ran."
            assert error.happened.endswith(".")
            assert error.next_step.endswith((".", "?"))
            assert len(str(error)) < 700
