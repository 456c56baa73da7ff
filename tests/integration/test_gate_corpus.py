"""The gate over the corpus of hostile and benign statements: what it stops, and that it stops nothing harmless."""

from collections import Counter

import pytest

from shadow.errors import StatementRefused
from shadow.gate import gate
from tests.tampering.surface import Entry, entries, surface

SURFACE = surface()
ENTRIES = list(entries())

#: Statements that only running can stop, and the wall that does.
STOPPED_LATER: dict[str, str] = {
    "tenant_hop-19": "a key change is allowed by design and shown as a pair; here line_items' and invoices' foreign "
    "keys to the contract refuse it in the shadow, whose child tables are loaded first",
}


def refusals(entry: Entry) -> list[StatementRefused]:
    """The gate's refusals of the entry's statements, in order."""
    found = []
    for statement in entry.statements:
        try:
            gate(statement, entry.params, SURFACE)
        except StatementRefused as error:
            found.append(error)
    return found


def is_refused(entry: Entry) -> bool:
    """A dry run's steps are refused when one of them is; of two statements side by side both have to be."""
    found = refusals(entry)
    return len(found) == len(entry.statements) if entry.compare else bool(found)


def test_no_harmless_statement_is_refused() -> None:
    refused = {e.id: str(refusals(e)[0]) for e in ENTRIES if e.expected == "allowed" and refusals(e)}
    assert refused == {}


def test_harmless_queries_pass_as_queries_too() -> None:
    queries = [e for e in ENTRIES if e.expected == "allowed" and e.surface == "shadow"]
    assert len(queries) >= 10
    for entry in queries:
        assert gate(entry.statements[0], entry.params, SURFACE, query=True).kind == "select"


def test_every_statement_to_reject_is_refused_by_the_gate_or_named_here() -> None:
    passed = {e.id for e in ENTRIES if e.expected == "reject" and not is_refused(e)}
    assert passed == set(STOPPED_LATER)


def test_the_corpus_is_the_whole_one_and_its_figures_are_printed() -> None:
    asked: Counter[tuple[str, str]] = Counter((e.category, e.expected) for e in ENTRIES)
    stopped: Counter[tuple[str, str]] = Counter((e.category, e.expected) for e in ENTRIES if is_refused(e))
    for (category, expected), count in sorted(asked.items()):
        print(f"{category:22} {expected:10} {stopped[category, expected]:4} of {count:4} refused")
    by_expectation = Counter(e.expected for e in ENTRIES)
    assert by_expectation == {"reject": 336, "contained": 51, "allowed": 52}


@pytest.mark.parametrize("entry", [e for e in ENTRIES if refusals(e)], ids=lambda e: e.id)
def test_a_refusal_says_why_and_that_nothing_ran_and_what_to_do(entry: Entry) -> None:
    for refusal in refusals(entry):
        assert refusal.not_happened == "Nothing ran."
        assert refusal.happened.endswith(".")
        assert refusal.next_step.endswith((".", "?"))
        assert len(str(refusal)) < 700
