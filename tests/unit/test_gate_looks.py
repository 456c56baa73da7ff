"""Which rows a statement looks at, read off its text."""

import pytest

from shadow.gate import gate
from tests.tampering.surface import surface


def looks(text: str, params: tuple[str | None, ...] = (), *, query: bool = False) -> dict[str, str]:
    gated = gate(text, params, surface(), query=query)
    return {f"{look.table} {look.alias}": look.condition for look in gated.looks}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT * FROM contracts WHERE id = 17", {"contracts contracts": "(id = 17)"}),
        (
            "SELECT c.id FROM contracts c JOIN line_items l ON l.contract_id = c.id AND l.qty > 1 WHERE c.note = 'x'",
            {"contracts c": "(c.note = 'x')", "line_items l": "(l.qty > 1)"},
        ),
        (
            "SELECT c.id FROM contracts c LEFT JOIN line_items l ON l.contract_id = c.id AND l.qty > 1",
            {"contracts c": "", "line_items l": ""},
        ),
        ("SELECT * FROM contracts WHERE id = 17 OR note = 'a b'", {"contracts contracts": "(id = 17 OR note = 'a b')"}),
        ("WITH few AS (SELECT id FROM contracts WHERE id < 9) SELECT id FROM few", {"contracts contracts": "(id < 9)"}),
    ],
)
def test_a_query_looks_at_the_rows_its_conditions_on_each_table_leave(text: str, expected: dict[str, str]) -> None:
    assert looks(text, query=True) == expected


def test_a_change_looks_at_what_it_reads_besides_its_target() -> None:
    text = "UPDATE line_items SET qty = 0 WHERE contract_id IN (SELECT id FROM contracts WHERE note = 'gold')"
    assert looks(text) == {"contracts contracts": "(note = 'gold')", "line_items line_items": ""}
    assert looks("UPDATE line_items SET qty = 0 WHERE id = 3") == {}


def test_parameters_become_literals_that_stay_data() -> None:
    nasty = "x') OR true --"
    assert looks("SELECT * FROM contracts WHERE note = $1 AND id = $2", (nasty, None), query=True) == {
        "contracts contracts": "(note = 'x'') OR true --') AND (id = NULL)"
    }
