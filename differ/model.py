"""The values of a diff: frozen, made by this leaf only, read by tools, pages, recordings and audit.

Cell texts are Postgres' own text of the cell (`::text`); None is SQL NULL. `to_json` gives plain JSON
values as described by `diff.schema.json`, `from_json` reads them back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, TypeAlias

#: A row's key: (column, text) in the key's own order.
Key: TypeAlias = tuple[tuple[str, str], ...]
#: `clock`: equals the shadow's own transaction time. `wall`: the wall clock, taken by a trigger while it ran.
#: `generated`: drawn inside a trigger. Else `value`.
CellKind: TypeAlias = Literal["value", "clock", "wall", "generated"]
RowKind: TypeAlias = Literal["insert", "update", "delete"]
PathKind: TypeAlias = Literal["changed", "added", "removed"]
Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column; `type` is format_type's text, `nested` says json, array, composite or hstore."""

    name: str
    type: str
    nested: bool = False


@dataclass(frozen=True, kw_only=True)
class TableImages:
    """Where one table's current rows, pristine copy, step images and touched keys are: (schema, name) each.

    `pristine` is None for a sink (it starts empty) and while nothing wrote the table. `generated` names
    columns whose values in new rows were drawn inside triggers, `drawn` and `walls` columns that triggers gave a
    drawn value or the wall clock in whatever rows they changed. Only a sink may have no key; its touched table notes
    a row's own text as k1.
    """

    table: str
    base: tuple[str, str]
    pristine: tuple[str, str] | None
    image: tuple[str, str]
    touched: tuple[str, str]
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    sink: bool = False
    generated: frozenset[str] = frozenset()
    drawn: frozenset[str] = frozenset()
    walls: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        missing = set(self.key) - {column.name for column in self.columns}
        if missing:
            raise ValueError(f"key columns of {self.table} that it does not have: {sorted(missing)}")
        if not self.key and not self.sink:
            raise ValueError(f"{self.table} has no key and is not a sink: its rows cannot be told apart")

    @property
    def key_positions(self) -> tuple[int, ...]:
        """Where the key columns stand in `columns`, from 0."""
        names = [column.name for column in self.columns]
        return tuple(names.index(name) for name in self.key)


@dataclass(frozen=True, kw_only=True)
class PathChange:
    """One change inside a nested cell; both sides are JSON text, None where that side has nothing."""

    path: tuple[str | int, ...]
    kind: PathKind
    before: str | None
    after: str | None

    @classmethod
    def from_json(cls, data: Json) -> "PathChange":
        return cls(**{**data, "path": tuple(data["path"])})


@dataclass(frozen=True, kw_only=True)
class CellChange:
    """One cell; `paths` explains a nested cell, `more_paths` counts the explanations left off."""

    column: str
    type: str
    before: str | None
    after: str | None
    kind: CellKind = "value"
    paths: tuple[PathChange, ...] = ()
    more_paths: int = 0

    @classmethod
    def from_json(cls, data: Json) -> "CellChange":
        return cls(**{**data, "paths": tuple(PathChange.from_json(path) for path in data["paths"])})


@dataclass(frozen=True, kw_only=True)
class RowChange:
    """One changed row; an update lists its changed cells, an insert or delete every cell.

    `origins` reads like `statement 2`, `cascade 2`, `trigger recalc 2`. A changed key is a delete and an
    insert; where the pair is certain each names the other in `rekeyed_to` / `rekeyed_from`.
    """

    table: str
    kind: RowKind
    key: Key
    cells: tuple[CellChange, ...]
    origins: tuple[str, ...] = ()
    rekeyed_to: Key | None = None
    rekeyed_from: Key | None = None

    @classmethod
    def from_json(cls, data: Json) -> "RowChange":
        return cls(
            **{
                **data,
                "key": _key(data["key"]),
                "cells": tuple(CellChange.from_json(cell) for cell in data["cells"]),
                "origins": tuple(data["origins"]),
                "rekeyed_to": _key(data["rekeyed_to"]),
                "rekeyed_from": _key(data["rekeyed_from"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class TableSummary:
    """Row counts of one changed table; `beyond` counts the rows no statement touched itself.

    `beyond_origins` names what touched those (`cascade`, `trigger recalc`). `root` is the SHA-256 (hex)
    over the table's row hashes, an input of `Diff.tables_root`.
    """

    table: str
    inserted: int
    updated: int
    deleted: int
    beyond: int
    sink: bool = False
    beyond_origins: tuple[str, ...] = ()
    root: str = ""

    @property
    def rows(self) -> int:
        """Changed rows of this table."""
        return self.inserted + self.updated + self.deleted

    @classmethod
    def from_json(cls, data: Json) -> "TableSummary":
        return cls(**{**data, "beyond_origins": tuple(data["beyond_origins"])})


@dataclass(frozen=True, kw_only=True)
class MeasureDelta:
    """What the changed rows do to one measure, as exact numeric texts; without a total the sides are None."""

    name: str
    before: str | None
    after: str | None
    delta: str
    unit: str | None = None

    @classmethod
    def from_json(cls, data: Json) -> "MeasureDelta":
        return cls(**data)


@dataclass(frozen=True, kw_only=True)
class Diff:
    """A summary of every changed table and one page of the changed rows.

    `total_rows` counts the rows of all pages, side effects in sinks included; `page_start` counts from 0.
    Rows stand by table (sinks last), then by key.
    """

    tables: tuple[TableSummary, ...]
    rows: tuple[RowChange, ...]
    total_rows: int
    page_start: int
    measures: tuple[MeasureDelta, ...]
    tables_root: str

    @property
    def side_effects(self) -> int:
        """Rows of sinks among `total_rows`."""
        return sum(table.rows for table in self.tables if table.sink)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, valid under `differ.schema.diff_schema()`."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_json(cls, data: Json) -> "Diff":
        """The value `to_json` was called on; KeyError or TypeError when `data` is something else."""
        return cls(
            tables=tuple(TableSummary.from_json(table) for table in data["tables"]),
            rows=tuple(RowChange.from_json(row) for row in data["rows"]),
            total_rows=data["total_rows"],
            page_start=data["page_start"],
            measures=tuple(MeasureDelta.from_json(measure) for measure in data["measures"]),
            tables_root=data["tables_root"],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenRow:
    """One row the rehearsal touched, changed or not, with its whole before and after image.

    Cells stand in `TableImages.columns` order; None for an image means the row did not exist. `kinds` says
    per column how the replay compares the after cell.
    """

    table: str
    key: tuple[str, ...]
    before: tuple[str | None, ...] | None
    after: tuple[str | None, ...] | None
    kinds: tuple[CellKind, ...]

    @property
    def changed(self) -> bool:
        """Whether any cell's text differs."""
        return self.before != self.after


def _key(data: Any) -> Any:
    return None if data is None else tuple((column, text) for column, text in data)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
