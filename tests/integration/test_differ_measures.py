"""Measures: exact deltas from the changed rows alone, on Postgres."""

from collections.abc import Iterator

import psycopg
import pytest

from differ.measures import Measure, measure_total
from differ.model import MeasureDelta
from differ.net import net_diff, step_diff
from tests.differ_bookkeeping import NO_CLOCK, Connection, connect, keep, note, take_images
from tests.postgres import MakeDatabase

SCHEMA = """
CREATE TABLE line_items (id int PRIMARY KEY, k1 int, step int, qty int, unit_price numeric(12,2), state text);
INSERT INTO line_items SELECT n, 1, 1, 2, 0.10, 'open' FROM generate_series(1, 30) n;
CREATE TABLE log (v numeric);
"""
BILLING = Measure(name="billing_total", table="line_items", sum="qty * unit_price", unit="USD")


@pytest.fixture
def conn(database: MakeDatabase) -> Iterator[Connection]:
    with connect(database(SCHEMA)) as connection:
        yield connection


def test_updates_inserts_and_deletes_add_up_exactly(conn: Connection) -> None:
    items = keep(conn, "line_items", ["id"])
    total = measure_total(conn, BILLING, items)
    assert total == "6.00"
    conn.execute("UPDATE line_items SET unit_price = 0.30 WHERE id <= 2; DELETE FROM line_items WHERE id = 3")
    conn.execute("INSERT INTO line_items VALUES (99, 1, 1, 1, 1000000000.01)")
    note(conn, items, "U", 1, 2, 1, 5)
    note(conn, items, "D", 3)
    note(conn, items, "I", 99)
    diff = net_diff(conn, [items], measures=[BILLING], totals={"billing_total": total}, **NO_CLOCK)
    [delta] = diff.measures
    assert delta == MeasureDelta(
        name="billing_total", before="6.00", after="1000000006.61", delta="1000000000.61", unit="USD"
    )
    assert measure_total(conn, BILLING, items) == delta.after


def test_without_a_total_the_sides_are_unknown(conn: Connection) -> None:
    items = keep(conn, "line_items", ["id"])
    conn.execute("DELETE FROM line_items WHERE id = 3")
    note(conn, items, "D", 3)
    [delta] = net_diff(conn, [items], measures=[BILLING], **NO_CLOCK).measures
    assert (delta.before, delta.after, delta.delta) == (None, None, "-0.20")


def test_a_measure_of_an_untouched_table_stays(conn: Connection) -> None:
    items = keep(conn, "line_items", ["id"])
    elsewhere = Measure(name="seats", table="seats", sum="n")
    deltas = net_diff(
        conn, [items], measures=[BILLING, elsewhere], totals={"billing_total": "6.00"}, **NO_CLOCK
    ).measures
    assert [(d.before, d.after, d.delta) for d in deltas] == [("6.00", "6.00", "0"), (None, None, "0")]


def test_a_condition_counts_rows_that_enter_and_leave_it(conn: Connection) -> None:
    items = keep(conn, "line_items", ["id"])
    open_rows = Measure(name="open", table="line_items", sum="1", where="state = 'open' -- still")
    odd = Measure(name="odd", table="line_items", sum="line_items.id % 2 + k1 + step -- see %s {x}")
    conn.execute("UPDATE line_items SET state = 'shut' WHERE id IN (1, 2)")
    note(conn, items, "U", 1, 2, 3)
    deltas = net_diff(conn, [items], measures=[open_rows, odd], **NO_CLOCK).measures
    assert [delta.delta for delta in deltas] == ["-2", "0"]


def test_a_step_has_its_own_delta(conn: Connection) -> None:
    items = keep(conn, "line_items", ["id"])
    for step, statement in enumerate(
        ("UPDATE line_items SET qty = 5 WHERE id = 1", "DELETE FROM line_items WHERE id IN (1, 2)"), 1
    ):
        conn.execute(statement.encode())
        note(conn, items, "UD"[step - 1], *range(1, step + 1), step=step)
        take_images(conn, items, step)
    deltas = [step_diff(conn, [items], step, measures=[BILLING], **NO_CLOCK).measures[0].delta for step in (1, 2)]
    assert deltas == ["0.30", "-0.70"]


def test_a_sink_without_a_key_is_summed_too(conn: Connection) -> None:
    log = keep(conn, "log", [], sink=True)
    conn.execute("INSERT INTO log VALUES (1.5), (2)")
    note(conn, log, "I", "(1.5)", "(2)", origin="trigger:log")
    written = Measure(name="written", table="log", sum="v", where="v > 1.6")
    for diff in (
        net_diff(conn, [log], measures=[written], **NO_CLOCK),
        step_diff(conn, [log], 1, measures=[written], **NO_CLOCK),
    ):
        assert diff.measures[0].delta == "2"


def test_a_table_may_have_any_name(conn: Connection) -> None:
    conn.execute("CREATE TABLE k (k1 int PRIMARY KEY, k int); INSERT INTO k VALUES (1, 5)")
    images = keep(conn, "k", ["k1"])
    conn.execute("UPDATE k SET k = 7")
    note(conn, images, "U", 1)
    diff = net_diff(conn, [images], measures=[Measure(name="k", table="k", sum="k.k")], **NO_CLOCK)
    assert [delta.delta for delta in diff.measures] == ["2"]


def test_a_wrong_expression_fails_and_says_so(conn: Connection) -> None:
    items = keep(conn, "line_items", ["id"])
    note(conn, items, "U", 1)
    with pytest.raises(psycopg.errors.UndefinedColumn):
        net_diff(conn, [items], measures=[Measure(name="x", table="line_items", sum="price")], **NO_CLOCK)
