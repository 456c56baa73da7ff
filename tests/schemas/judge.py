"""What happened to a database, read by nobody of ours: every cell of every table as text, before and after.

The judge of the schema tests: production after a replay must equal a full copy on which the plain statements ran, and
the confirmed diff must be exactly what changed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from differ.model import Diff
from shadow.session import pin_session

Row: TypeAlias = tuple[str | None, ...]
Cell: TypeAlias = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """All rows of the app's tables by qualified name (rows of partitions count for their parent)."""

    columns: Mapping[str, tuple[str, ...]]
    rows: Mapping[str, Counter[Row]]


def picture(url: str, schemas: Sequence[str], times: Sequence[str] = ()) -> Picture:
    """Reads every row; cells that show one of `times` in any type read `<clock>`."""
    with psycopg.connect(url) as conn:
        pin_session(conn, schemas)
        tables = conn.execute(
            "SELECT n.nspname, c.relname, c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname = ANY(%s) ORDER BY 1, 2",
            (list(schemas),),
        ).fetchall()
        clocks = {text for time in times for text in _clock_texts(conn, time)}
        columns, rows = {}, {}
        for schema, name, inherited in tables:
            table = sql.Identifier(schema, name)
            names = [d.name for d in conn.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(table)).description or ()]
            cells = sql.SQL(", ").join(_text(column) for column in names) if names else sql.SQL("NULL")
            only = sql.SQL("ONLY ") if inherited else sql.SQL("")
            found = conn.execute(sql.SQL("SELECT {} FROM {}{} AS t").format(cells, only, table)).fetchall()
            columns[f"{schema}.{name}"] = tuple(names)
            rows[f"{schema}.{name}"] = Counter(
                tuple("<clock>" if cell in clocks else cell for cell in row) for row in found
            )
        return Picture(columns=columns, rows=rows)


def _text(column: str) -> sql.Composed:
    """concat keeps the blanks of character(n), which a cast to text strips."""
    cell = sql.Identifier("t", column)
    return sql.SQL(
        "CASE WHEN {0}::text IS NOT NULL AND pg_typeof({0}) = 'character'::regtype THEN concat({0}) ELSE {0}::text END"
    ).format(cell)


def _clock_texts(conn: psycopg.Connection[Any], clock: str) -> Row:
    row = conn.execute(
        "SELECT t::text, t::timestamp::text, t::date::text, t::time::text, t::timetz::text FROM (SELECT %s::timestamptz AS t) s",
        (clock,),
    ).fetchone()
    return row or ()


def masked(found: Picture, cells: Set[Cell]) -> dict[str, Counter[Row]]:
    """The rows with some columns left out: ids that a trigger draws differ between production and its copy."""
    result = {}
    for table, rows in found.rows.items():
        hidden = {n for n, column in enumerate(found.columns[table]) if (table, column) in cells}
        counted: Counter[Row] = Counter()
        for row, times in rows.items():
            counted[tuple("<drawn>" if n in hidden else cell for n, cell in enumerate(row))] += times
        result[table] = counted
    return result


def run_plainly(url: str, statements: Iterable[str], search_path: Sequence[str]) -> str:
    """Runs the statements in one transaction as the owner; returns that transaction's time."""
    with psycopg.connect(url) as conn:
        pin_session(conn, search_path)
        row = conn.execute("SELECT now()::text").fetchone()
        for text in statements:
            conn.execute(text.encode())
    assert row is not None
    return str(row[0])


def assert_says(
    diff: Diff, before: Picture, after: Picture, names: Mapping[str, str], keys: Mapping[str, tuple[str, ...]]
) -> None:
    """The diff lists every row that changed between the pictures, with its cells, and no other.

    `names` maps the diff's table names to qualified ones, `keys` to key columns. Rows without a key and rows made by
    triggers, whose ids differ, are compared by number.
    """
    said = {name: [row for row in diff.rows if names[row.table] == name] for name in before.rows}
    for table, rows in said.items():
        gone, new = before.rows[table] - after.rows[table], after.rows[table] - before.rows[table]
        key = next((keys[name] for name, qualified in names.items() if qualified == table), ())
        loose = not key or any(cell.kind == "generated" for row in rows for cell in row.cells)
        if loose:
            assert sum(new.values()) - sum(gone.values()) == sum(
                {"insert": 1, "update": 0, "delete": -1}[row.kind] for row in rows
            ), table
            continue
        place = [before.columns[table].index(column) for column in key]
        was = {tuple(row[p] for p in place): row for row in gone}
        became = {tuple(row[p] for p in place): row for row in new}
        assert {tuple(text for _, text in row.key) for row in rows} == was.keys() | became.keys(), table
        for row in rows:
            found = tuple(text for _, text in row.key)
            _assert_cells(row, before.columns[table], was.get(found), became.get(found))


def _assert_cells(row: Any, columns: Sequence[str], was: Row | None, became: Row | None) -> None:
    kind = "insert" if was is None else "delete" if became is None else "update"
    assert row.kind == kind, (row.table, row.key)
    told = {cell.column: cell for cell in row.cells}
    for n, column in enumerate(columns):
        then, now = was[n] if was else None, became[n] if became else None
        cell = told.get(column)
        if cell is None:
            assert then == now, (row.table, row.key, column)
        elif cell.kind == "value":
            for told_text, text in ((cell.before, then), (cell.after, now)):
                assert text in (told_text, "<clock>"), (row.table, row.key, column)
