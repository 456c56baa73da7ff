"""What the gate says about a statement that passes: slots, pins, tables, columns, warnings; and how it's rendered."""

from dataclasses import replace

import postgast
import pytest
from postgast import pg_query_pb2 as pg

from shadow.errors import StatementRefused
from shadow.gate import gate
from shadow.gate_reading import Reading
from shadow.gate_text import scan
from shadow.statement import GatedStatement, GateLimits, render
from tests.tampering.surface import surface

SURFACE = surface()
SCHEMAS = {name: "fence_y" for name in SURFACE.tables}


def read(text: str, *params: str | None) -> GatedStatement:
    return gate(text, params, SURFACE)


def slots(gated: GatedStatement) -> list[str]:
    raw = gated.text.encode("utf-8")
    return [raw[slot.start : slot.end].decode("utf-8") for slot in gated.slots]


def pins(gated: GatedStatement) -> list[tuple[str, str]]:
    raw = gated.text.encode("utf-8")
    return [(raw[pin.start : pin.end].decode("utf-8"), pin.function) for pin in gated.pins]


def test_slots_are_the_byte_ranges_of_table_references_alone() -> None:
    gated = read(
        "WITH n AS (SELECT 'Søn', c.id FROM \"contracts\"c) /* contracts */ UPDATE contracts SET note = contracts.id"
        " FROM n, LATERAL (SELECT 1 FROM line_items) x WHERE contracts.id = n.id AND 'contracts' <> ''"
    )
    assert slots(gated) == ['"contracts"', "contracts", "line_items"]
    assert [slot.table for slot in gated.slots] == ["contracts", "contracts", "line_items"]


def test_rendering_replaces_slots_and_pins_and_leaves_every_other_byte() -> None:
    gated = read("UPDATE contracts c SET note = 'é now()', updated_at = now ( ) -- contracts\nWHERE c.id=17 ;")
    filled = replace(gated, pins=tuple(replace(pin, value="it's") for pin in gated.pins))
    assert (
        render(filled, {"contracts": 'fe"nce'})
        == (
            'UPDATE "fe""nce"."contracts" c SET note = \'é now()\', '
            "updated_at = ('it''s'::timestamp with time zone) -- contracts\nWHERE c.id=17 ;"
        ).encode()
    )


def test_rendering_needs_a_schema_for_every_table_and_a_value_for_every_pin() -> None:
    with pytest.raises(KeyError):
        render(read("SELECT * FROM contracts"), {})
    with pytest.raises(ValueError, match=r"now\(\)"):
        render(read("UPDATE contracts SET updated_at = now()"), SCHEMAS)


def test_what_was_rendered_passes_the_parser_as_the_same_statement() -> None:
    gated = read("SELECT c.id, contracts.note FROM contracts c, contracts WHERE c.id IN (SELECT id FROM invoices)")
    tree = postgast.parse(render(gated, SCHEMAS).decode())
    names = [f"{table.schemaname}.{table.relname}" for table in postgast.find_nodes(tree, pg.RangeVar)]
    assert sorted(names) == ["fence_y.contracts", "fence_y.contracts", "fence_y.invoices"]


def test_clocks_are_pinned_wherever_they_stand_with_their_whole_call() -> None:
    gated = read(
        "UPDATE contracts SET updated_at = CURRENT_TIMESTAMP ( 3 ), starts_on = current_date, note = "
        "concat(LOCALTIME, LOCALTIMESTAMP(0), transaction_timestamp()) WHERE updated_at < statement_timestamp(/*)*/)"
    )
    assert pins(gated) == [
        ("CURRENT_TIMESTAMP ( 3 )", "CURRENT_TIMESTAMP(3)"),
        ("current_date", "CURRENT_DATE"),
        ("LOCALTIME", "LOCALTIME"),
        ("LOCALTIMESTAMP(0)", "LOCALTIMESTAMP(0)"),
        ("transaction_timestamp()", "transaction_timestamp()"),
        ("statement_timestamp(/*)*/)", "statement_timestamp()"),
    ]
    assert [pin.type for pin in gated.pins][:3] == ["timestamp with time zone", "date", "time without time zone"]
    assert {pin.value for pin in gated.pins} == {None}


def test_a_draw_in_a_values_list_is_pinned_once_per_occurrence() -> None:
    gated = read(
        "INSERT INTO contracts (code, note) VALUES (upper(gen_random_uuid()::text), 'a'), (random()::text, timeofday())"
    )
    assert [pin.function for pin in gated.pins] == ["gen_random_uuid()", "random()", "timeofday()"]
    assert [pin.type for pin in gated.pins] == ["uuid", "double precision", "text"]


def test_a_clock_in_a_multiple_assignment_is_one_pin() -> None:
    assert len(read("UPDATE contracts SET (starts_on, ends_on, note) = ROW(now(), NULL, 'x')").pins) == 1


def test_tables_read_written_and_deleted_are_told_apart() -> None:
    gated = read(
        "WITH moved AS (DELETE FROM line_items WHERE contract_id=34 RETURNING sku) "
        "INSERT INTO contracts (code) SELECT m.sku FROM moved m JOIN invoices i ON i.number = m.sku"
    )
    assert gated.kind == "insert"
    assert gated.reads == {"line_items", "invoices"}
    assert gated.writes == {"line_items", "contracts"}
    assert gated.deletes == {"line_items"}
    assert gated.inserts == (("contracts", None),)


def test_every_assigned_column_is_named() -> None:
    assert read("UPDATE contracts SET (note, amount) = ('x', 1), meta['a'] = '1'").set_columns == {
        ("contracts", "note"),
        ("contracts", "amount"),
        ("contracts", "meta"),
    }
    assert read(
        "INSERT INTO line_items (contract_id, sku) VALUES (1, 'a') ON CONFLICT (contract_id, sku) DO UPDATE SET qty=2"
    ).set_columns == {("line_items", "contract_id"), ("line_items", "sku"), ("line_items", "qty")}
    assert read(
        "MERGE INTO line_items l USING contracts c ON false WHEN MATCHED THEN UPDATE SET qty = 1 "
        "WHEN NOT MATCHED THEN INSERT (contract_id, sku) VALUES (c.id, 'a')"
    ).set_columns == {("line_items", "contract_id"), ("line_items", "sku"), ("line_items", "qty")}


def test_updates_of_key_columns_are_reported() -> None:
    assert read("UPDATE contracts SET id = 5 WHERE id = 17").key_updates == {"contracts"}
    assert read("UPDATE line_items SET sku = 'b' WHERE id = 17").key_updates == {"line_items"}
    assert read("UPDATE line_items SET qty = 2 WHERE id = 17").key_updates == frozenset()


def test_insert_counts_are_known_for_values_only() -> None:
    assert read("INSERT INTO contracts (code) VALUES ('a'), ('b')").inserts == (("contracts", 2),)
    assert read("INSERT INTO contracts DEFAULT VALUES").inserts == (("contracts", 1),)
    assert read("INSERT INTO contracts (code) SELECT 'a'").inserts == (("contracts", None),)


def test_returning_is_seen_on_the_statement() -> None:
    assert read("DELETE FROM contracts WHERE id = 17 RETURNING id").returning
    assert not read("DELETE FROM contracts WHERE id = 17").returning


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("UPDATE contracts SET note = 'x'", "every row of the tenant"),
        ("DELETE FROM contracts", "every row of the tenant"),
        ("UPDATE contracts SET note='x' WHERE id = (SELECT id FROM contracts LIMIT 1)", "left to chance"),
        ("INSERT INTO line_items (contract_id, sku) SELECT id, 'A' FROM contracts", "without ORDER BY"),
    ],
)
def test_what_may_surprise_is_warned_of(text: str, warning: str) -> None:
    assert len([w for w in read(text).warnings if warning in w]) == 1


def test_what_is_definite_brings_no_warning() -> None:
    assert read("UPDATE contracts SET note='x' WHERE id = 17").warnings == ()
    assert read("INSERT INTO line_items (contract_id, sku) SELECT id, 'A' FROM contracts ORDER BY id").warnings == ()
    assert read("SELECT id FROM contracts ORDER BY id LIMIT 1").warnings == ()


def test_a_place_that_is_not_in_the_text_is_refused_and_not_guessed() -> None:
    text = "SELECT now("
    order = scan(text.encode(), text, GateLimits())
    places = {token.start: place for place, token in enumerate(order)}
    reading = Reading(surface=SURFACE, limits=GateLimits(), params=(), query=False, order=order, tokens=places)
    with pytest.raises(StatementRefused, match="place in the text"):
        reading.token_end(3)
    with pytest.raises(StatementRefused, match="not closed"):
        reading.call_end(7)
