"""Net and step diffs of a shadow built by hand, on Postgres."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from differ.errors import BookkeepingBroken
from differ.frozen import frozen_rows
from differ.measures import Measure
from differ.model import CellChange, Diff, RowChange
from differ.net import net_diff, step_diff
from differ.schema import diff_schema
from tests.differ_bookkeeping import NO_CLOCK, Connection, connect, keep, note, take_images
from tests.postgres import MakeDatabase

SCHEMA = """
CREATE TYPE place AS (street text, floor int);
CREATE TABLE contracts (
  tenant int, id int, status text, amount numeric(12,2), ratio numeric, terms json,
  meta jsonb, tags text[], home place, signed timestamptz, wall timestamp, blob bytea, span interval, speed float8,
  code char(4), PRIMARY KEY (tenant, id));
INSERT INTO contracts
SELECT 7, n, 'active', n, 1.0, '{"a": 1, "b": [1, 2]}', '{"x": {"y": 1}}', '{red,green}', ROW('High St', 2)::place,
       '2024-01-01 10:00+00', '2024-01-01 10:00', '\\x00ff', '1 day', 0, 'ab'
FROM generate_series(1, 20) n;
CREATE TABLE line_items (id bigint PRIMARY KEY, contract_id int, qty int, unit_price numeric(10,2));
INSERT INTO line_items SELECT n, n / 4, 2, 10.50 FROM generate_series(1, 40) n;
CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, at timestamptz);
"""


@pytest.fixture
def conn(database: MakeDatabase) -> Iterator[Connection]:
    with connect(database(SCHEMA)) as connection:
        yield connection


def cells(row: RowChange) -> dict[str, tuple[str | None, str | None]]:
    return {cell.column: (cell.before, cell.after) for cell in row.cells}


def cell(diff: Diff, column: str) -> CellChange:
    [found] = [cell for row in diff.rows for cell in row.cells if cell.column == column]
    return found


def test_a_touched_row_that_is_as_it_was_is_no_change(conn: Connection) -> None:
    contracts = keep(conn, "contracts", ["tenant", "id"])
    note(conn, contracts, "U", (7, 1), (7, 2))
    assert net_diff(conn, [contracts], **NO_CLOCK).total_rows == 0


@pytest.mark.parametrize(
    ("column", "value", "before", "after"),
    [
        ("ratio", "1.00", "1.0", "1.00"),
        ("terms", """'{"b": [1, 2], "a": 1}'""", '{"a": 1, "b": [1, 2]}', '{"b": [1, 2], "a": 1}'),
        ("meta", """'{"x": {"y": 1.0}}'""", '{"x": {"y": 1}}', '{"x": {"y": 1.0}}'),
        ("meta", """'{"x": {"y": true}}'""", '{"x": {"y": 1}}', '{"x": {"y": true}}'),
        ("speed", "'-0'", "0", "-0"),
        ("speed", "'NaN'", "0", "NaN"),
        ("span", "'24:00'", "1 day", "24:00:00"),
        ("status", "NULL", "active", None),
        ("status", "'null'", "active", "null"),
        ("blob", "'\\x00fe'", "\\x00ff", "\\x00fe"),
        ("home", "ROW('High St', 3)", '("High St",2)', '("High St",3)'),
    ],
)
def test_whatever_postgres_writes_differently_is_a_change(
    conn: Connection, column: str, value: str, before: str | None, after: str | None
) -> None:
    contracts = keep(conn, "contracts", ["tenant", "id"])
    conn.execute(f"UPDATE contracts SET {column} = {value} WHERE id = 3")
    note(conn, contracts, "U", (7, 3))
    [row] = net_diff(conn, [contracts], **NO_CLOCK).rows
    assert (row.kind, row.key) == ("update", (("tenant", "7"), ("id", "3")))
    assert cells(row) == {column: (before, after)}


def test_a_nan_that_stays_is_no_change(conn: Connection) -> None:
    conn.execute("UPDATE contracts SET speed = 'NaN', ratio = 'NaN'")
    contracts = keep(conn, "contracts", ["tenant", "id"])
    note(conn, contracts, "U", (7, 3))
    assert not net_diff(conn, [contracts], **NO_CLOCK).rows


def test_blank_padded_cells_keep_their_blanks(conn: Connection) -> None:
    conn.execute("CREATE TABLE blanks (id char(3) PRIMARY KEY, v bpchar, w char(2), x char)")
    conn.execute("INSERT INTO blanks VALUES ('k', 'a ', 'a', NULL)")
    blanks = keep(conn, "blanks", ["id"])
    conn.execute("UPDATE blanks SET v = 'a', w = 'b', x = 'c'")
    note(conn, blanks, "U", "k")
    [row] = net_diff(conn, [blanks], **NO_CLOCK).rows
    assert row.key == (("id", "k  "),)
    assert cells(row) == {"v": ("a ", "a"), "w": ("a ", "b "), "x": (None, "c")}


def test_a_collation_that_folds_case_hides_no_change(production_database: MakeDatabase) -> None:
    with connect(production_database()) as conn:
        if not conn.execute("SELECT 1 FROM pg_collation WHERE collprovider = 'i' AND collversion <> ''").fetchone():
            pytest.skip("this Postgres is built without ICU (run with --production 15)")
        conn.execute(
            """CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
               CREATE TABLE folded (k text COLLATE nocase PRIMARY KEY, v text COLLATE nocase);
               INSERT INTO folded VALUES ('key', 'a'), ('other', 'a')"""
        )
        folded = keep(conn, "folded", ["k"])
        conn.execute("ALTER TABLE shadowdesk.touched_folded ALTER k1 TYPE text COLLATE nocase")
        conn.execute("UPDATE folded SET v = 'A' WHERE k = 'other'; UPDATE folded SET k = 'KEY' WHERE k = 'key'")
        note(conn, folded, "U", "key", "KEY", "other")
        diff = net_diff(conn, [folded], **NO_CLOCK)
        assert [(row.key, cells(row)) for row in diff.rows] == [
            ((("k", "key"),), {"k": ("key", "KEY")}),
            ((("k", "other"),), {"v": ("a", "A")}),
        ]


def test_nested_cells_are_explained_by_path(conn: Connection) -> None:
    contracts = keep(conn, "contracts", ["tenant", "id"])
    conn.execute(
        """UPDATE contracts SET terms = '{"a": 1, "b": [1, 3]}', tags = '{red,green,blue}',
           home = ROW('High St', 3), meta = '{"x": {}}' WHERE id = 3"""
    )
    note(conn, contracts, "U", (7, 3))
    diff = net_diff(conn, [contracts], **NO_CLOCK)
    paths = {c.column: [(p.path, p.kind, p.before, p.after) for p in c.paths] for c in diff.rows[0].cells}
    assert paths == {
        "terms": [(("b", 1), "changed", "2", "3")],
        "meta": [(("x", "y"), "removed", "1", None)],
        "tags": [((2,), "added", None, '"blue"')],
        "home": [(("floor",), "changed", "2", "3")],
    }


def test_inserts_and_deletes_show_every_cell_and_their_origin(conn: Connection) -> None:
    contracts, items = keep(conn, "contracts", ["tenant", "id"]), keep(conn, "line_items", ["id"])
    conn.execute("DELETE FROM contracts WHERE id = 1; DELETE FROM line_items WHERE id IN (4, 5)")
    conn.execute("INSERT INTO line_items VALUES (100, 2, 1, 3)")
    note(conn, contracts, "D", (7, 1), step=2)
    note(conn, items, "D", 4, 5, 4, step=2, origin="cascade")
    note(conn, items, "I", 100, step=10, origin="trigger:recalc")
    note(conn, items, "U", 100, step=9)
    diff = net_diff(conn, [items, contracts], **NO_CLOCK)
    assert [(t.table, t.inserted, t.updated, t.deleted, t.beyond, t.beyond_origins) for t in diff.tables] == [
        ("contracts", 0, 0, 1, 0, ()),
        ("line_items", 1, 0, 2, 2, ("cascade",)),
    ]
    assert [(row.table, row.kind, row.key[-1], row.origins) for row in diff.rows] == [
        ("contracts", "delete", ("id", "1"), ("statement 2",)),
        ("line_items", "delete", ("id", "4"), ("cascade 2",)),
        ("line_items", "delete", ("id", "5"), ("cascade 2",)),
        ("line_items", "insert", ("id", "100"), ("statement 9", "trigger recalc 10")),
    ]
    assert cells(diff.rows[3]) == {
        "id": (None, "100"),
        "contract_id": (None, "2"),
        "qty": (None, "1"),
        "unit_price": (None, "3.00"),
    }
    assert cells(diff.rows[1])["unit_price"] == ("10.50", None)


def test_only_the_rows_asked_for_are_candidates(conn: Connection) -> None:
    items = keep(conn, "line_items", ["id"])
    conn.execute("UPDATE line_items SET qty = 3 WHERE id <= 3")
    note(conn, items, "U", 1, step=1)
    note(conn, items, "U", 2, step=2)
    note(conn, items, "U", 3, step=1, rehearsal=True)

    def changed(**span: Any) -> list[str]:
        return [row.key[0][1] for row in net_diff(conn, [items], **span, **NO_CLOCK).rows]

    assert changed() == ["1", "2"]
    assert changed(upto=1) == ["1"]
    assert changed(rehearsal=True) == ["3"]


def test_pages_run_through_the_tables_in_the_keys_own_order(conn: Connection) -> None:
    contracts, items = keep(conn, "contracts", ["tenant", "id"]), keep(conn, "line_items", ["id"])
    conn.execute("UPDATE contracts SET status = 'x'; UPDATE line_items SET qty = 3")
    note(conn, contracts, "U", *((7, n) for n in range(1, 21)))
    note(conn, items, "U", *range(1, 41))
    whole = net_diff(conn, [contracts, items], page_size=100, **NO_CLOCK)
    assert [row.key[-1][1] for row in whole.rows] == [str(n) for n in (*range(1, 21), *range(1, 41))]
    pages = [net_diff(conn, [contracts, items], page_start=start, page_size=7, **NO_CLOCK) for start in range(0, 70, 7)]
    assert [row for page in pages for row in page.rows] == list(whole.rows)
    assert {(page.total_rows, page.tables_root) for page in pages} == {(60, whole.tables_root)}
    assert not net_diff(conn, [contracts], page_start=20, **NO_CLOCK).rows


def test_a_step_compares_with_the_latest_earlier_image(conn: Connection) -> None:
    items = keep(conn, "line_items", ["id"])
    for step, statement, op, ids in (
        (1, "UPDATE line_items SET qty = 3 WHERE id IN (1, 2)", "U", [1, 2]),
        (2, "UPDATE line_items SET qty = 4 WHERE id = 1", "U", [1]),
        (3, "DELETE FROM line_items WHERE id IN (1, 3)", "D", [1, 3]),
        (4, "INSERT INTO line_items VALUES (1, 1, 9, 1)", "I", [1]),
        (5, "UPDATE line_items SET qty = qty", "U", range(1, 41)),
    ):
        conn.execute(statement.encode())
        note(conn, items, op, *ids, step=step)
        take_images(conn, items, step)
    steps = {
        step: [(row.kind, row.key[0][1], cells(row).get("qty")) for row in found.rows]
        for step in range(1, 6)
        if (found := step_diff(conn, [items], step, **NO_CLOCK))
    }
    assert steps == {
        1: [("update", "1", ("2", "3")), ("update", "2", ("2", "3"))],
        2: [("update", "1", ("3", "4"))],
        3: [("delete", "1", ("4", None)), ("delete", "3", ("2", None))],
        4: [("insert", "1", (None, "9"))],
        5: [],
    }


def test_a_changed_key_is_a_pair(conn: Connection) -> None:
    items = keep(conn, "line_items", ["id"])
    conn.execute("UPDATE line_items SET id = 900, qty = 5 WHERE id = 1")
    note(conn, items, "U", 1, 900)
    gone, new = net_diff(conn, [items], **NO_CLOCK).rows
    assert (gone.kind, gone.rekeyed_to, gone.rekeyed_from) == ("delete", (("id", "900"),), None)
    assert (new.kind, new.rekeyed_to, new.rekeyed_from) == ("insert", None, (("id", "1"),))


def test_several_changed_keys_pair_by_their_remaining_cells(conn: Connection) -> None:
    conn.execute("UPDATE line_items SET qty = id WHERE id <= 3")
    items = keep(conn, "line_items", ["id"])
    conn.execute("UPDATE line_items SET id = id + 900 WHERE id <= 3")
    note(conn, items, "U", *range(1, 4), *range(901, 904))
    rows = net_diff(conn, [items], page_size=2, **NO_CLOCK).rows
    assert [row.rekeyed_to for row in rows] == [(("id", "901"),), (("id", "902"),)]


def test_a_doubtful_pair_is_not_claimed(conn: Connection) -> None:
    items = keep(conn, "line_items", ["id"])
    conn.execute("UPDATE line_items SET id = id + 900, qty = 1, contract_id = 1 WHERE id IN (5, 6)")
    note(conn, items, "U", 5, 6, 905, 906)
    rows = net_diff(conn, [items], **NO_CLOCK).rows
    assert [(row.kind, row.rekeyed_to, row.rekeyed_from) for row in rows] == [
        ("delete", None, None),
        ("delete", None, None),
        ("insert", None, None),
        ("insert", None, None),
    ]


def test_a_shifted_key_is_not_paired_with_a_strangers_row(conn: Connection) -> None:
    conn.execute("UPDATE line_items SET qty = id WHERE id >= 39")
    items = keep(conn, "line_items", ["id"])
    conn.execute("UPDATE line_items SET id = 41 WHERE id = 40; UPDATE line_items SET id = 40 WHERE id = 39")
    note(conn, items, "U", 39, 40, 41)
    rows = net_diff(conn, [items], **NO_CLOCK).rows
    assert [(row.kind, row.rekeyed_to, row.rekeyed_from) for row in rows] == [
        ("delete", None, None),
        ("update", None, None),
        ("insert", None, None),
    ]


def test_a_delete_beside_an_insert_is_no_pair(conn: Connection) -> None:
    items = keep(conn, "line_items", ["id"])
    conn.execute("DELETE FROM line_items WHERE id = 1; INSERT INTO line_items VALUES (900, 0, 2, 10.50)")
    note(conn, items, "D", 1)
    note(conn, items, "I", 900)
    assert {row.rekeyed_to or row.rekeyed_from for row in net_diff(conn, [items], **NO_CLOCK).rows} == {None}


def test_a_sinks_rows_are_new_and_stand_last(conn: Connection) -> None:
    outbox = keep(conn, "outbox", ["id"], sink=True, generated=["id"])
    items = keep(conn, "line_items", ["id"])
    conn.execute("INSERT INTO outbox (body, at) VALUES ('a', '2024-05-05 05:05:05.123456Z'), ('b', NULL)")
    conn.execute("UPDATE line_items SET qty = 3 WHERE id = 1")
    note(conn, outbox, "I", 1, 2, origin="trigger:announce")
    note(conn, items, "U", 1)
    take_images(conn, outbox, 1)
    take_images(conn, items, 1)
    clocks = {"timestamp with time zone": frozenset({"2024-05-05 05:05:05.123456+00"})}
    for diff in (
        net_diff(conn, [outbox, items], clocks=clocks, set_columns=frozenset()),
        step_diff(conn, [outbox, items], 1, clocks=clocks, set_columns=frozenset()),
    ):
        assert [(t.table, t.sink, t.inserted) for t in diff.tables] == [
            ("line_items", False, 0),
            ("outbox", True, 2),
        ]
        assert diff.tables[1].beyond_origins == ("trigger announce",)
        assert (diff.total_rows, diff.side_effects) == (3, 2)
        assert [c.kind for c in diff.rows[1].cells] == ["generated", "value", "clock"]
        assert [c.kind for c in diff.rows[2].cells] == ["generated", "value", "value"]


def test_a_sink_without_a_key_lists_its_new_rows(conn: Connection) -> None:
    conn.execute("CREATE TABLE trail (r text, n int); INSERT INTO trail VALUES ('loaded', 0)")
    trail = keep(conn, "trail", [], sink=True)
    conn.execute("INSERT INTO trail VALUES ('b', 1), ('a', 2), ('a', 2), ('c', 3)")
    note(conn, trail, "I", "(b,1)", "(a,2)", "(a,2)", origin="trigger:log")
    note(conn, trail, "I", "(c,3)", step=2, origin="trigger:log")
    net = net_diff(conn, [trail], **NO_CLOCK)
    steps = [step_diff(conn, [trail], step, **NO_CLOCK) for step in (1, 2)]
    assert [[cells(row)["r"][1] for row in diff.rows] for diff in (net, *steps)] == [
        ["a", "a", "b", "c"],
        ["a", "a", "b"],
        ["c"],
    ]
    assert (net.tables[0].inserted, net.tables[0].beyond_origins) == (4, ("trigger log",))
    assert (net.rows[3].key, net.rows[3].origins) == ((), ("trigger log 2",))


def test_a_clock_cell_is_one_that_equals_the_shadows_own_time(conn: Connection) -> None:
    contracts = keep(conn, "contracts", ["tenant", "id"])
    clocks = {
        "timestamp with time zone": frozenset({"2025-03-03 03:03:03.333+00"}),
        "timestamp without time zone": frozenset({"2025-03-03 03:03:03.333"}),
    }
    conn.execute("UPDATE contracts SET signed = '2025-03-03 03:03:03.333Z', wall = '2025-03-03 03:03:03'")
    note(conn, contracts, "U", (7, 1))
    diff = net_diff(conn, [contracts], clocks=clocks, set_columns=frozenset())
    assert (cell(diff, "signed").kind, cell(diff, "wall").kind) == ("clock", "value")


def test_a_coarse_clock_column_that_a_statement_set_is_a_value(conn: Connection) -> None:
    conn.execute(
        "CREATE TABLE days (id int PRIMARY KEY, on_day date, second timestamp(0)); INSERT INTO days VALUES (1)"
    )
    days = keep(conn, "days", ["id"])
    conn.execute("UPDATE days SET on_day = '2025-03-03', second = '2025-03-03 03:03:03'")
    note(conn, days, "U", 1)
    clocks = {
        "date": frozenset({"2025-03-03"}),
        "timestamp(0) without time zone": frozenset({"2025-03-03 03:03:03"}),
    }
    diff = net_diff(conn, [days], clocks=clocks, set_columns=frozenset({("days", "on_day")}))
    assert (cell(diff, "on_day").kind, cell(diff, "second").kind) == ("value", "clock")


def test_the_cost_follows_the_rows_touched_even_where_the_planner_knows_nothing(conn: Connection) -> None:
    conn.execute("INSERT INTO line_items SELECT n, 1, 1, 1 FROM generate_series(1000, 20000) n")
    items = keep(conn, "line_items", ["id"])
    conn.execute("UPDATE line_items SET id = id + 50000 WHERE id <= 5")
    note(conn, items, "U", *range(1, 6), *range(50001, 50006), rehearsal=True)
    note(conn, items, "U", *range(1, 6), *range(50001, 50006))
    take_images(conn, items, 1)
    price = Measure(name="price", table="line_items", sum="unit_price")
    scans = """SELECT sum(seq_scan)::int, sum(idx_scan)::int FROM pg_stat_xact_user_tables
               WHERE relname IN ('line_items', 'pristine_line_items')"""
    with conn.transaction():
        [before] = conn.execute(scans.encode())
        assert net_diff(conn, [items], rehearsal=True, measures=[price], **NO_CLOCK).total_rows == 10
        assert step_diff(conn, [items], 1, measures=[price], **NO_CLOCK).total_rows == 10
        assert len(list(frozen_rows(conn, [items], **NO_CLOCK))) == 10
        [after] = conn.execute(scans.encode())
    assert after[0] == before[0]
    assert after[1] > before[1]


def test_touched_rows_without_a_pristine_copy_are_refused(conn: Connection) -> None:
    items = keep(conn, "line_items", ["id"], pristine=False)
    assert net_diff(conn, [items], **NO_CLOCK).total_rows == 0
    note(conn, items, "U", 1)
    with pytest.raises(BookkeepingBroken, match="No diff was made"):
        net_diff(conn, [items], **NO_CLOCK)


def test_odd_names_stay_names(conn: Connection) -> None:
    conn.execute("""CREATE TABLE "od""d" ("k %s" int PRIMARY KEY, "a{0}'b" text, "__x" jsonb)""")
    conn.execute("""INSERT INTO "od""d" VALUES (1, 'a', '{"__y": 1}')""")
    conn.execute("""CREATE TABLE odd AS SELECT * FROM "od""d" """)
    images = keep(conn, "odd", ["k %s"], pristine=False)
    conn.execute("""CREATE TABLE shadowdesk."pri""stine" AS SELECT * FROM odd""")
    images = replace(images, pristine=("shadowdesk", 'pri"stine'), base=("public", 'od"d'))
    conn.execute("""UPDATE "od""d" SET "a{0}'b" = 'b', "__x" = '{"__y": 2}'""")
    note(conn, images, "U", 1)
    [row] = net_diff(conn, [images], **NO_CLOCK).rows
    assert cells(row) == {"a{0}'b": ("a", "b"), "__x": ('{"__y": 1}', '{"__y": 2}')}
    assert row.cells[1].paths[0].path == ("__y",)


def test_a_real_diff_is_valid_under_its_schema_and_comes_back_from_json(conn: Connection) -> None:
    contracts, items = keep(conn, "contracts", ["tenant", "id"]), keep(conn, "line_items", ["id"])
    conn.execute("UPDATE contracts SET terms = '[1]', tags = NULL, status = 'x' WHERE id < 4")
    conn.execute("UPDATE line_items SET id = 700 WHERE id = 1; DELETE FROM line_items WHERE id = 2")
    note(conn, contracts, "U", (7, 1), (7, 2))
    note(conn, items, "U", 1, 700)
    note(conn, items, "D", 2, origin="cascade")
    diff = net_diff(conn, [contracts, items], **NO_CLOCK)
    document = diff.to_json()
    jsonschema.Draft202012Validator.check_schema(diff_schema())
    jsonschema.validate(document, diff_schema())
    assert Diff.from_json(document) == diff
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "total_rows": -1}, diff_schema())
