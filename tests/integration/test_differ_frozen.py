"""Frozen rows, and the row hashes that SQL and Python must agree on, on Postgres."""

import datetime
import itertools
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from deepdiff import DeepDiff
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from differ.digest import table_root, tables_root
from differ.frozen import frozen_rows
from differ.model import FrozenRow, TableImages
from differ.net import net_diff
from tests.differ_bookkeeping import NO_CLOCK, Connection, connect, keep, note
from tests.postgres import MakeDatabase

SCHEMA = """
CREATE TABLE accounts (
  region text, id int, name text, amount numeric, ratio float8, doc jsonb, tags text[], at timestamptz, blob bytea,
  PRIMARY KEY (region, id));
CREATE TABLE plain (id int PRIMARY KEY, v text);
"""
CLOCK = datetime.datetime(2025, 3, 3, 3, 3, 3, 333333, tzinfo=datetime.UTC)
CLOCKS: dict[str, Any] = {
    "clocks": {"timestamp with time zone": frozenset({"2025-03-03 03:03:03.333333+00"})},
    "set_columns": frozenset(),
}

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0]) | st.sampled_from(["a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "__z"]), inner, max_size=3),
    max_leaves=6,
)
CELLS = st.fixed_dictionaries(
    {
        "name": st.none() | TEXT,
        "amount": st.none() | st.sampled_from([Decimal("1"), Decimal("1.0"), Decimal("NaN"), Decimal("-2.50")]),
        "ratio": st.none() | st.sampled_from([0.0, -0.0, 1.5, float("inf")]),
        "doc": st.none() | DOCUMENTS,
        "tags": st.none() | st.lists(st.sampled_from(["a", "b", "c", "null"]), max_size=4),
        "at": st.none() | st.sampled_from([CLOCK, CLOCK + datetime.timedelta(microseconds=1)]),
        "blob": st.none() | st.binary(max_size=3),
    }
)
KEYS = st.tuples(st.sampled_from(["a", "B", "é", "a b", ""]), st.integers(-2, 12))
TABLES = st.dictionaries(KEYS, CELLS, max_size=6)


@pytest.fixture
def conn(database: MakeDatabase) -> Iterator[Connection]:
    with connect(database(SCHEMA)) as connection:
        yield connection


def fill(conn: Connection, table: str, rows: dict[tuple[str, int], dict[str, Any]]) -> None:
    conn.execute(f"TRUNCATE {table}".encode())
    for (region, number), cells in rows.items():
        values = {**cells, "doc": None if cells["doc"] is None else Jsonb(cells["doc"])}
        conn.execute(
            f"INSERT INTO {table} (region, id, {', '.join(values)}) VALUES (%s, %s{', %s' * len(values)})".encode(),
            [region, number, *values.values()],
        )


def root_again(images: TableImages, rows: list[FrozenRow]) -> str:
    own = [row for row in rows if row.table == images.table]
    return table_root(images.table, images.columns, images.key, own, images.generated)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=TABLES, after=TABLES)
def test_python_finds_the_same_roots_and_deepdiff_reports_nothing_we_do_not(
    conn: Connection, before: dict[Any, Any], after: dict[Any, Any]
) -> None:
    conn.execute("DROP SCHEMA shadowdesk CASCADE; CREATE SCHEMA shadowdesk")
    fill(conn, "accounts", before)
    accounts = keep(conn, "accounts", ["region", "id"])
    fill(conn, "accounts", after)
    note(conn, accounts, "U", *{*before, *after, ("never", 1)}, rehearsal=True)
    diff = net_diff(conn, [accounts], rehearsal=True, **CLOCKS)
    rows = list(frozen_rows(conn, [accounts], **CLOCKS))
    assert len(rows) == len({*before, *after}) + 1
    roots = {"accounts": root_again(accounts, rows)} if diff.tables else {}
    assert {summary.table: summary.root for summary in diff.tables} == roots
    assert diff.tables_root == tables_root(roots)
    assert {tuple(text for _, text in row.key) for row in diff.rows} == {row.key for row in rows if row.changed}
    assert reported(conn) <= explained(diff.rows)


def reported(conn: Connection) -> set[tuple[Any, ...]]:
    """(key, column, path) of all that DeepDiff reports between the typed rows that exist on both sides."""
    places = set()
    with conn.cursor(row_factory=dict_row) as cursor:
        sides = [
            {(row["region"], str(row["id"])): row for row in cursor.execute(f"SELECT * FROM {table}".encode())}
            for table in ("shadowdesk.pristine_accounts", "accounts")
        ]
    for key in sides[0].keys() & sides[1].keys():
        tree = DeepDiff(
            sides[0][key],
            sides[1][key],
            view="tree",
            threshold_to_diff_deeper=0,
            ignore_private_variables=False,
        )
        for levels in tree.values():
            for level in levels:
                if level.t1 != level.t1 and level.t2 != level.t2:
                    continue  # NaN that stays NaN is no change, and DeepDiff's own switch knows floats only
                column, *path = level.path(output_format="list")
                places.add((key, column, to_list(path) if column in ("doc", "tags") else ()))
    return places


def to_list(path: Any) -> tuple[Any, ...]:
    """The path up to the first list in it: which items of two lists belong together is a matter of alignment."""
    return tuple(itertools.takewhile(lambda step: not isinstance(step, int), path))


def explained(rows: Any) -> set[tuple[Any, ...]]:
    found = set()
    for row in rows:
        key = tuple(text for _, text in row.key)
        for cell in row.cells:
            found |= {(key, cell.column, to_list(path.path)) for path in cell.paths}
            if not cell.paths:
                found.add((key, cell.column, ()))
    return found


def test_no_op_and_vanished_rows_are_frozen_too_in_the_order_of_their_keys_text(conn: Connection) -> None:
    conn.execute("INSERT INTO plain SELECT n, 'v' FROM generate_series(1, 12) n")
    plain = keep(conn, "plain", ["id"])
    conn.execute("UPDATE plain SET v = 'w' WHERE id = 2; DELETE FROM plain WHERE id = 10")
    note(conn, plain, "U", 2, 9, 10, 2, 77, rehearsal=True)
    note(conn, plain, "U", 3, rehearsal=False)
    rows = list(frozen_rows(conn, [plain], **NO_CLOCK))
    assert [(row.key, row.before, row.after, row.changed) for row in rows] == [
        (("10",), ("10", "v"), None, True),
        (("2",), ("2", "v"), ("2", "w"), True),
        (("77",), None, None, False),
        (("9",), ("9", "v"), ("9", "v"), False),
    ]


def test_sinks_are_left_out_and_tables_come_by_name(conn: Connection) -> None:
    sink = keep(conn, "plain", ["id"], sink=True)
    accounts = keep(conn, "accounts", ["region", "id"])
    conn.execute("CREATE TABLE zebra (id int PRIMARY KEY); CREATE TABLE ant (id int PRIMARY KEY)")
    zebra, ant = keep(conn, "zebra", ["id"]), keep(conn, "ant", ["id"])
    for images in (zebra, sink, ant):
        note(conn, images, "I", 1, rehearsal=True)
    tables = [row.table for row in frozen_rows(conn, [zebra, accounts, sink, ant], **NO_CLOCK)]
    assert tables == ["ant", "zebra"]


def test_only_changed_clock_cells_are_of_the_clock(conn: Connection) -> None:
    cells = {"name": "a", "amount": None, "ratio": None, "doc": None, "tags": None, "at": CLOCK, "blob": None}
    fill(conn, "accounts", {("a", 1): cells, ("a", 2): {**cells, "at": None}})
    accounts = keep(conn, "accounts", ["region", "id"])
    conn.execute("UPDATE accounts SET name = 'b', at = %s", [CLOCK])
    note(conn, accounts, "U", ("a", 1), ("a", 2), rehearsal=True)
    rows = list(frozen_rows(conn, [accounts], **CLOCKS))
    assert [row.kinds[7] for row in rows] == ["value", "clock"]
    [summary] = net_diff(conn, [accounts], rehearsal=True, **CLOCKS).tables
    assert summary.root == root_again(accounts, rows)


def test_another_clock_gives_the_same_root_and_another_value_does_not(conn: Connection) -> None:
    cells = {"name": "a", "amount": None, "ratio": None, "doc": None, "tags": None, "at": None, "blob": None}
    fill(conn, "accounts", {("a", 1): cells})
    accounts = keep(conn, "accounts", ["region", "id"])
    note(conn, accounts, "U", ("a", 1))

    def root(second: str, clock: str) -> str:
        conn.execute("UPDATE accounts SET at = %s", [f"2025-01-01 00:00:{second}+00"])
        clocks = {"timestamp with time zone": frozenset({f"2025-01-01 00:00:{clock}+00"})}
        return net_diff(conn, [accounts], clocks=clocks, set_columns=frozenset()).tables_root

    assert root("01.001", "01.001") == root("02.002", "02.002")
    assert root("01.001", "03.003") != root("02.002", "03.003")


def test_rows_drawn_in_triggers_give_the_same_root_whatever_their_ids(conn: Connection) -> None:
    sink = keep(conn, "plain", ["id"], sink=True, generated=["id"])

    def root(first: int) -> str:
        conn.execute("TRUNCATE plain, shadowdesk.touched_plain")
        conn.execute("INSERT INTO plain SELECT %s + n, 'v' || n FROM generate_series(1, 4) n", [first])
        note(conn, sink, "I", *range(first + 1, first + 5), origin="trigger:log")
        return net_diff(conn, [sink], **NO_CLOCK).tables_root

    assert root(0) == root(7)


def test_frozen_rows_stream_inside_a_callers_transaction_and_leave_it_open(conn: Connection) -> None:
    conn.execute("INSERT INTO plain VALUES (1, 'a')")
    plain = keep(conn, "plain", ["id"])
    note(conn, plain, "U", 1, rehearsal=True)
    with conn.transaction():
        conn.execute("UPDATE plain SET v = 'b'")
        [row] = frozen_rows(conn, [plain], **NO_CLOCK)
        assert row.after == ("1", "b")
    assert conn.execute("SELECT v FROM plain").fetchone() == ("b",)
