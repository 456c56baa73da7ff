"""Rows compared by one hash: equal only when every cell is, whatever the cells hold."""

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeAlias

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from mcp_server.production import Production
from shadow.embedded import EmbeddedServer
from shadow.fence import FencedTable, FenceRules
from shadow.rows_by_key import Image, read_rows, rows_equal
from tests.lifecycle import installed
from tests.postgres import MakeDatabase, databases_of

APP = """
CREATE TABLE tenants(id int PRIMARY KEY, name text);
CREATE TABLE notes(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants(id), a text, b text, code char(3));
INSERT INTO tenants VALUES (1, 'Acme');
"""
Rows: TypeAlias = list[tuple[str | None, str | None]]
HELD = sql.SQL("t.tenant_id = 1")


class Notes:
    def __init__(self, owner_url: str) -> None:
        production = Production(installed(owner_url, FenceRules(root="tenants", label="name")))
        self.table: FencedTable = production.fence().tables["notes"]
        production.close()
        self.conn = psycopg.connect(owner_url)

    def put(self, rows: Rows) -> list[tuple[str, ...]]:
        """Only these rows are there, numbered from 1; their keys."""
        self.conn.execute("DELETE FROM notes")
        numbered = [(n, *row) for n, row in enumerate(rows, 1)]
        with self.conn.cursor() as cursor:
            cursor.executemany("INSERT INTO notes VALUES (%s, 1, %s, %s, 'x')", numbered)
        return [(str(n),) for n, *_ in numbered]

    def images(self, rows: Rows) -> list[Image]:
        return [(str(n), "1", *row, "x  ") for n, row in enumerate(rows, 1)]

    def equal(self, keys: list[tuple[str, ...]], images: list[Image], condition: sql.Composable = HELD) -> bool:
        return rows_equal(self.conn, self.table, keys, images, condition, lock=False)


@pytest.fixture(scope="module")
def notes(production_server: EmbeddedServer) -> Iterator[Notes]:
    with databases_of(production_server) as make:
        notes = Notes(make(APP))
        yield notes
        notes.conn.close()


#: Cells made of what could make two texts look alike: separators, the mark of NULL, nothing, quotes.
CELLS = st.none() | st.text(alphabet='a\x1d\x1e\x1f"\\, ', max_size=3)
ROWS = st.lists(st.tuples(CELLS, CELLS), max_size=3)


@st.composite
def alike(draw: st.DrawFn) -> tuple[Rows, Rows]:
    """Rows, and others that a careless text could not tell from them: NULL spelt out, cells cut at another place."""
    there = draw(ROWS)
    return there, [draw(st.sampled_from(_spellings(*row))) for row in there]


def _spellings(a: str | None, b: str | None) -> Rows:
    spelt = ("\x1d" if a is None else None if a == "\x1d" else a, "\x1d" if b is None else b)
    pieces = f"{a}\x1f{b}".split("\x1f") if a is not None and b is not None else []
    cut: Rows = [("\x1f".join(pieces[:at]), "\x1f".join(pieces[at:])) for at in range(1, len(pieces))]
    return [(a, b), spelt, *cut]


@settings(max_examples=300, deadline=None)
@given(rows=st.tuples(ROWS, ROWS) | alike())
@example(rows=([(None, "b")], [("\x1d", "b")]))
@example(rows=([("\x1d", "b")], [(None, "b")]))
@example(rows=([("a\x1f", "b")], [("a", "\x1fb")]))
def test_different_rows_are_never_equal(notes: Notes, rows: tuple[Rows, Rows]) -> None:
    there, expected = rows
    notes.put(there)
    keys = [(str(n),) for n in range(1, max(len(there), len(expected)) + 1)]
    if notes.equal(keys, [*notes.images(expected), *[None] * (len(keys) - len(expected))]):
        assert there == expected
    else:
        cells = "".join(cell or "" for row in expected for cell in row)
        assert there != expected or any(mark in cells for mark in "\x1d\x1e\x1f")


@pytest.mark.parametrize("rows", [3, 701], ids=["few", "many"])
def test_rows_as_expected_are_equal_and_one_cell_makes_them_other(notes: Notes, rows: int) -> None:
    there: Rows = [(None if n % 3 else "", f"ünï {n}\n\t") for n in range(rows)]
    keys = notes.put(there)
    assert notes.equal(keys, notes.images(there))
    assert not notes.equal(keys, notes.images([*there[:-1], ("", there[-1][1])]))
    assert not notes.equal(keys, [*notes.images(there)[:-1], None])
    assert not notes.equal([*keys, ("9999",)], [*notes.images(there), ("9999", "1", "a", "b", "x  ")])
    assert notes.equal([*keys, ("9999",)], [*notes.images(there), None])


def test_a_condition_that_is_false_or_unknown_makes_them_other(notes: Notes) -> None:
    keys = notes.put([("a", "b"), ("c", None)])
    images = notes.images([("a", "b"), ("c", None)])
    assert notes.equal(keys, images)
    assert not notes.equal(keys, images, sql.SQL("t.b = 'b'"))  # unknown for the second
    assert not notes.equal(keys, images, sql.SQL("t.id < 2"))


def test_large_rows_are_left_to_be_looked_at_one_by_one(notes: Notes) -> None:
    there: Rows = [("x" * 50_000, "b"), ("a", "b")]
    keys = notes.put(there)
    assert not notes.equal(keys, notes.images(there))
    found = read_rows(notes.conn, notes.table, keys, HELD, lock=False)
    assert [row[2:] for row in found] == notes.images(there)


@pytest.mark.parametrize("rows", [2, 700], ids=["few", "many"])
def test_rows_are_locked_whether_equal_or_not(notes: Notes, rows: int) -> None:
    there: Rows = [("a", str(n)) for n in range(rows)]
    keys = notes.put(there)
    notes.conn.commit()
    try:
        equal = partial(rows_equal, notes.conn, notes.table, keys, condition=HELD, lock=True)
        for images in (notes.images(there), [None] * rows):
            equal(images=images)
            with psycopg.connect(notes.conn.info.dsn, password=notes.conn.info.password) as other:
                free: list[tuple[Any, ...]] = other.execute("SELECT id FROM notes FOR UPDATE SKIP LOCKED").fetchall()
            assert free == []
            notes.conn.rollback()
    finally:
        notes.conn.rollback()
        notes.put([])
        notes.conn.commit()


def test_a_table_of_more_columns_than_a_function_takes(production_database: MakeDatabase) -> None:
    columns = ", ".join(f"c{n} text" for n in range(210))
    url = production_database(
        "CREATE TABLE tenants(id int PRIMARY KEY, name text);"
        f"CREATE TABLE notes(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants(id), {columns});"
        "INSERT INTO tenants VALUES (1, 'Acme'); INSERT INTO notes(id, tenant_id, c7, c209) VALUES (1, 1, 'a', 'b');"
    )
    notes = Notes(url)
    image = ["1", "1", *[None] * 210]
    image[9], image[211] = "a", "b"
    assert notes.equal([("1",)], [tuple(image)])
    image[211] = None
    assert not notes.equal([("1",)], [tuple(image)])
    notes.conn.close()
