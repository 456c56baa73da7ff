"""Row changes made ready for a template: capped, neutralised values grouped by table and kind; used by `present.py`.

Nothing here is HTML: the templates escape. Values of rows are data of strangers, so control and bidirectional
characters are made visible and long values are cut before they reach a template.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from differ.model import CellChange, Diff, PathChange, RowChange
from differ.text import neutralise

#: Characters of one cell that a page shows; the digest covers the whole value all the same.
CELL_CHARACTERS = 600

KINDS = {"update": "changed", "insert": "added", "delete": "deleted"}
REMARKS = {
    "clock": "the clock: set anew at replay",
    "wall": "the clock while it runs: set anew at replay",
    "generated": "drawn by the database",
}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One value as text on one line; `mark` stands in its place for NULL and the empty string."""

    text: str
    mark: str = ""


@dataclass(frozen=True, kw_only=True)
class PathShown:
    """One change inside a json, array or composite value."""

    path: str
    kind: str
    before: Shown | None
    after: Shown | None


@dataclass(frozen=True, kw_only=True)
class CellShown:
    """One changed cell; a side that does not exist (an insert's before) is None."""

    before: Shown | None
    after: Shown | None
    paths: tuple[PathShown, ...]
    more_paths: int
    remark: str


@dataclass(frozen=True, kw_only=True)
class RowShown:
    """One changed row; `cells` stand in the group's column order, None for an unchanged cell."""

    key: Shown
    word: str
    rekeyed: str
    cells: tuple[CellShown | None, ...]
    origins: str


@dataclass(frozen=True, kw_only=True)
class GroupShown:
    """The rows of one table that changed in one way; `columns` are those that change in at least one of them."""

    title: str
    key_columns: str
    columns: tuple[str, ...]
    rows: tuple[RowShown, ...]


def shown(value: str | None) -> Shown:
    """One database value as a page shows it; None is SQL NULL."""
    if value is None:
        return Shown(text="", mark="NULL")
    if value == "":
        return Shown(text="", mark="empty text")
    return Shown(text=neutralise(value, CELL_CHARACTERS))


def groups(diff: Diff) -> tuple[GroupShown, ...]:
    """The rows of one page of a diff, by table and kind in the order of their first row."""
    gathered: dict[tuple[str, str], list[RowChange]] = {}
    for row in diff.rows:
        gathered.setdefault((row.table, row.kind), []).append(row)
    sinks = {table.table for table in diff.tables if table.sink}
    return tuple(_group(table, kind, rows, sink=table in sinks) for (table, kind), rows in gathered.items())


def counted(number: int, noun: str) -> str:
    """`1 row`, `2 rows`, `1,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _group(table: str, kind: str, rows: list[RowChange], *, sink: bool) -> GroupShown:
    columns = tuple(dict.fromkeys(cell.column for row in rows for cell in row.cells))
    where = " (a log that only triggers write: counted, its values are not compared)" if sink else ""
    return GroupShown(
        title=f"{neutralise(table, 120)}: {counted(len(rows), 'row')} {KINDS[kind]} on this page{where}",
        key_columns=neutralise(", ".join(name for name, _ in rows[0].key), 120) or "Row",
        columns=tuple(neutralise(column, 120) for column in columns),
        rows=tuple(_row(row, columns) for row in rows),
    )


def _row(row: RowChange, columns: tuple[str, ...]) -> RowShown:
    cells = {cell.column: _cell(cell, row.kind) for cell in row.cells}
    return RowShown(
        key=shown(_key_text(row.key)),
        word=KINDS[row.kind],
        rekeyed=_rekeyed(row),
        cells=tuple(cells.get(column) for column in columns),
        origins=neutralise("; ".join(row.origins), 300),
    )


def _rekeyed(row: RowChange) -> str:
    """A key change is a delete and an insert; each of the two says where its other half is."""
    if row.rekeyed_to is not None:
        return f"its key becomes {neutralise(_key_text(row.rekeyed_to), 120)}"
    if row.rekeyed_from is not None:
        return f"its key was {neutralise(_key_text(row.rekeyed_from), 120)}"
    return ""


def _key_text(key: Iterable[tuple[str, str | None]]) -> str:
    return ", ".join("NULL" if text is None else text for _, text in key)


def _cell(cell: CellChange, kind: str) -> CellShown:
    return CellShown(
        before=None if kind == "insert" else shown(cell.before),
        after=None if kind == "delete" else shown(cell.after),
        paths=tuple(_path(path) for path in cell.paths),
        more_paths=cell.more_paths,
        remark=REMARKS.get(cell.kind, ""),
    )


def _path(change: PathChange) -> PathShown:
    return PathShown(
        path=neutralise(".".join(str(step) for step in change.path) or "whole value", 200),
        kind=change.kind,
        before=None if change.kind == "added" else shown(change.before),
        after=None if change.kind == "removed" else shown(change.after),
    )
