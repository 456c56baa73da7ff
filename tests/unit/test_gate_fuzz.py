"""The gate under random and mutated text: it answers with a statement or with StatementRefused, never otherwise."""

import os
import random
from dataclasses import replace

import postgast
from hypothesis import given, settings
from hypothesis import strategies as st
from postgast import pg_query_pb2 as pg

from shadow.errors import StatementRefused
from shadow.gate import gate
from shadow.statement import GatedStatement, render
from tests.tampering.surface import entries, surface

SURFACE = surface()
SCHEMAS = {name: "fence_y" for name in SURFACE.tables}
SHORT = [text for entry in entries() for text in entry.statements if len(text) < 1_000]
PIECES = (
    "( ) , ; . :: || = 'x' $1 $2 1 * SELECT FROM WHERE UPDATE SET INSERT INTO VALUES DELETE WITH AS UNION JOIN ON CASE "
    "WHEN THEN END NOT BETWEEN AND IN EXISTS LATERAL contracts line_items c id note now() CURRENT_DATE random()"
    ' pg_sleep RETURNING ON CONFLICT DO NOTHING [ ] NULL DEFAULT ORDER BY LIMIT MERGE USING MATCHED "a" é /* -- \n'
).split(" ")


def judged(text: str, params: tuple[str | None, ...] = ()) -> GatedStatement | None:
    try:
        return gate(text, params, SURFACE)
    except StatementRefused:
        return None


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_random_text_is_answered(text: str) -> None:
    judged(text)
    judged("SELECT " + text)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_read_as_text_are_answered(data: bytes) -> None:
    judged(data.decode("latin-1"))
    judged(data.decode("utf-8", "surrogateescape"))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40), st.sampled_from(("SELECT ", "UPDATE contracts SET ", "WITH ")))
def test_random_sql_words_are_answered(words: list[str], start: str) -> None:
    judged(start + " ".join(words), ("1", "x"))


def test_a_mutated_statement_that_passes_still_renders_only_qualified_tables() -> None:
    """20,000 mutations; `make fuzz` makes 1,000,000."""
    count, chance = int(os.environ.get("SHADOWDESK_MUTATIONS", "20000")), random.Random(20260201)  # noqa: S311
    passed = sum(stays_inside(mutated(chance.choice(SHORT), chance)) for _ in range(count))
    print(f"{count} mutations of {len(SHORT)} statements: {passed} passed the gate, none reached another table")
    assert passed > count / 1000


def stays_inside(text: str) -> bool:
    """Whether the gate lets it through; then it is one statement on tables of the surface and nothing else."""
    gated = judged(text)
    if gated is None:
        return False
    filled = replace(gated, pins=tuple(replace(pin, value="x") for pin in gated.pins))
    rendered = render(filled, SCHEMAS).decode()
    tree = postgast.parse(rendered)
    assert len(tree.stmts) == 1
    ctes = {node.ctename for node in postgast.find_nodes(tree, pg.CommonTableExpr)}
    for table in postgast.find_nodes(tree, pg.RangeVar):
        assert table.schemaname == "fence_y" or (not table.schemaname and table.relname in ctes), text
        assert table.relname in SURFACE.tables or table.relname in ctes, text
    return True


def mutated(text: str, chance: random.Random) -> str:
    """One to three cuts, swaps, doubled or foreign pieces."""
    for _ in range(chance.randint(1, 3)):
        at, to = sorted((chance.randint(0, len(text)), chance.randint(0, len(text))))
        text = chance.choice(
            (
                text[:at] + text[to:],
                text[:at] + chance.choice(PIECES) + text[at:],
                text[:at] + " " + chance.choice(PIECES) + " " + text[to:],
                text[:to] + text[at:],
                text[:at] + chance.choice(SHORT)[at:to],
            )
        )
    return text
