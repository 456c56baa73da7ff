"""Composes this leaf's SQL for one table: names differ per table, the statements are the blocks of `sql/`.

Called by `net.py`, `frozen.py`, `measures.py` and `explain.py`; the only module that reads the blocks.
Everything is composed of identifiers and literals and runs without parameters, so that a `%` in a measure
stays what it is.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import sql

from differ.framing import KIND_LETTERS, frame, shape_hash
from differ.kinds import ClockRule
from differ.model import Column, TableImages
from differ.sql import block

_COMMA = sql.SQL(", ")
_PADDED = re.compile(r"character\(\d+\)")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """One table and the touched rows that count: one step's, or all up to a step, or the rehearsal's."""

    images: TableImages
    rule: ClockRule
    step: int | None = None
    upto: int | None = None
    rehearsal: bool = False
    #: The rows touched outnumber the table's pages: reading the table once is cheaper than a look-up per row.
    many: bool = False

    @property
    def picked(self) -> sql.Composable:
        """The condition on the touched table's rows."""
        condition: sql.Composable = sql.SQL("rehearsal" if self.rehearsal else "NOT rehearsal")
        if self.step is not None:
            condition += sql.SQL(" AND step = {}").format(self.step)
        if self.upto is not None:
            condition += sql.SQL(" AND step <= {}").format(self.upto)
        return condition

    @property
    def before(self) -> sql.Composable | None:
        """The relation of before rows; None where that side is empty."""
        if self.imaged:
            return sql.SQL("before_rows")
        return None if self.images.pristine is None else sql.Identifier(*self.images.pristine)

    @property
    def imaged(self) -> bool:
        """Whether the sides are one step's images; a sink without a key has none and shows what is left of its rows."""
        return self.step is not None and bool(self.images.key)

    @property
    def after(self) -> sql.Composable:
        """The relation of after rows."""
        return sql.SQL("after_rows") if self.imaged else sql.Identifier(*self.images.base)


def compose(scope: Scope, name: str, *, ordered: bool = False, **more: Any) -> sql.Composed:
    """The named block for one table, with its CTEs; `more` fills what only that block has.

    `ordered` takes the keys in their order from the start, so that a page can stop at its last row.
    """
    images = scope.images
    return sql.SQL(block(name)).format(
        sources=_sources(scope, ordered),
        touched=sql.Identifier(*images.touched),
        picked=scope.picked,
        keys=_key_names(images),
        changed=sql.SQL("before IS DISTINCT FROM after"),
        key_texts=_array([_key_text(position) for position in images.key_positions]),
        **more,
    )


def summary_parts(scope: Scope) -> dict[str, Any]:
    """What `table_summary` needs beyond the rest: the order of rows, each row's hash, the root's head."""
    images = scope.images
    steady = [p for p in images.key_positions if images.columns[p].name not in images.generated]
    places = [sql.Identifier(f"o{number}") for number in range(len(steady))]
    texts = zip(map(_key_text, steady), places, strict=True)
    return {
        "order_columns": sql.SQL("").join(sql.SQL('{} COLLATE "C" AS {}, ').format(*pair) for pair in texts),
        "order": sql.SQL("").join(sql.SQL("{}, ").format(place) for place in places),
        "row_hash": _row_hash(scope),
        "root_head": sql.Literal(frame(images.table)),
    }


def frozen_parts(scope: Scope) -> dict[str, Any]:
    """What `frozen` needs: the key's texts even of a row that is in neither image, and their byte order."""
    found = [
        sql.SQL("coalesce(before[{place}], after[{place}], {touched})").format(
            place=position + 1, touched=_text(sql.Identifier(f"k{number}"), scope.images.columns[position])
        )
        for number, position in enumerate(scope.images.key_positions, 1)
    ]
    return {"found_key": _array(found), "frozen_order": _bytes_of(found)}


def rest_hash(images: TableImages) -> sql.Composable:
    """A hash of every cell that is not of the key, of the side that exists."""
    places = [p for p in range(len(images.columns)) if p not in images.key_positions]
    return sql.SQL("sha256(convert_to(({})::text, 'UTF8'))").format(_array([_key_text(p) for p in places]))


def same_key(images: TableImages, alias: sql.Composable, keys: str = "k") -> sql.Composable:
    """Equality of a row's key columns with the touched key; without a key, of the row's own text."""
    if not images.key:
        return sql.SQL("({}.*)::text = {}.k1").format(alias, sql.Identifier(keys))
    return sql.SQL(" AND ").join(
        sql.SQL("{}.{} = {}.{}").format(alias, sql.Identifier(name), sql.Identifier(keys), sql.Identifier(f"k{number}"))
        for number, name in enumerate(images.key, 1)
    )


def block_of_type(name: LiteralString, type_name: str, **more: Any) -> sql.Composed:
    """The named block about values of one type, named as format_type does."""
    return sql.SQL(block(name)).format(type=trusted(type_name), **more)


def per_key(scope: Scope, keys: str = "k") -> sql.Composable:
    """What makes the planner look a table's rows up key by key; a step's CTEs have no index and are joined whole.

    Without a key as many of the equal rows count as were noted: others may have been there before.
    """
    if not scope.images.key:
        return sql.SQL("LIMIT {}").format(sql.Identifier(keys, "noted"))
    return sql.SQL("" if scope.imaged or scope.many else "OFFSET 0")


def trusted(text: LiteralString) -> sql.SQL:
    """SQL that the operator or Postgres' own catalog wrote: a measure's expression, a type's name."""
    return sql.SQL(text)


def _sources(scope: Scope, ordered: bool) -> sql.Composable:
    return sql.SQL(",\n").join([_touched_ctes(scope), _pairs(scope, ordered)])


def _touched_ctes(scope: Scope) -> sql.Composable:
    images = scope.images
    names: dict[str, Any] = {
        "keys": _key_names(images),
        "touched": sql.Identifier(*images.touched),
        "picked": scope.picked,
    }
    if not scope.imaged:
        return sql.SQL(block("net_sources")).format(**names)
    names |= {
        "step": sql.Literal(scope.step),
        "image": sql.Identifier(*images.image),
        "image_columns": _COMMA.join(
            sql.SQL("i.{} AS {}").format(sql.Identifier(f"c{number}"), sql.Identifier(column.name))
            for number, column in enumerate(images.columns, 1)
        ),
    }
    if images.pristine is None:
        return sql.SQL(block("step_sources_of_a_sink")).format(**names)
    return sql.SQL(block("step_sources")).format(
        columns=_COMMA.join(sql.SQL("r.{}").format(sql.Identifier(column.name)) for column in images.columns),
        pristine=sql.Identifier(*images.pristine),
        same_key=same_key(images, sql.SQL("r")),
        per_key=sql.SQL("" if scope.many else "OFFSET 0"),
        same_earlier_key=sql.SQL(" AND ").join(
            sql.SQL("e.{0} = k.{0}").format(sql.Identifier(f"k{number}")) for number in _numbers(images)
        ),
        **names,
    )


def _pairs(scope: Scope, ordered: bool) -> sql.Composable:
    images = scope.images
    in_order = sql.SQL("(SELECT * FROM keys ORDER BY {})").format(_key_names(images))
    names: dict[str, Any] = {
        "key_rows": in_order if ordered else sql.SQL("keys"),
        "typed_key": _COMMA.join(sql.Identifier("k", f"k{number}") for number in _numbers(images)),
        "after": scope.after,
    }
    if scope.many and scope.before is not None:
        return sql.SQL(block("pairs_of_many")).format(
            before=scope.before,
            one=sql.Identifier(images.key[0]),
            before_cells=_cells(images, "b"),
            after_cells=_cells(images, "a"),
            before_key=same_key(images, sql.SQL("b")),
            after_key=same_key(images, sql.SQL("a")),
            **names,
        )
    names |= {
        "cells": _cells(images, "r"),
        "same_key": same_key(images, sql.SQL("r")),
        "per_key": per_key(scope),
    }
    if scope.before is None:
        return sql.SQL(block("pairs_of_a_sink")).format(**names)
    return sql.SQL(block("pairs")).format(before=scope.before, **names)


def _cells(images: TableImages, alias: str) -> sql.Composable:
    return _array([_text(sql.Identifier(alias, column.name), column) for column in images.columns])


def _text(cell: sql.Composable, column: Column) -> sql.Composable:
    """Postgres' own text of a cell, compared by its bytes whatever the column's collation is.

    Blank-padded types are written with their blanks, as the replay reads them: their cast to text drops them.
    """
    if column.type == "bpchar" or _PADDED.fullmatch(column.type):
        return sql.SQL('textin(bpcharout({})) COLLATE "C"').format(cell)
    return sql.SQL('{}::text COLLATE "C"').format(cell)


def _row_hash(scope: Scope) -> sql.Composable:
    """The row's bytes as `digest.row_bytes` builds them, hashed; array_send prefixes every cell with its length."""
    images = scope.images
    marks = {place: mark for place in range(len(images.columns)) if (mark := _mark(scope, place)) is not None}
    key = [
        _unless(images.columns[place].name in images.generated, sql.SQL("before IS NULL"), _key_text(place))
        for place in images.key_positions
    ]
    return sql.SQL(
        "sha256({shape}::bytea || {key} || CASE WHEN before IS NULL THEN 'i'::bytea ELSE array_send(before) END"
        " || CASE WHEN after IS NULL THEN 'd'::bytea ELSE {after} || convert_to({kinds}, 'UTF8') END)"
    ).format(
        shape=sql.Literal(shape_hash(images.columns)),
        key=sql.SQL("array_send({})").format(_array(key)),
        after=sql.SQL("array_send({})").format(_after_cells(images, marks)),
        kinds=_kinds(images, marks),
    )


def _mark(scope: Scope, place: int) -> tuple[sql.Composable, str] | None:
    """When an after cell is not a value, and the letter of its kind; None for a column that always is one."""
    column = scope.images.columns[place]
    if column.name in scope.images.generated:
        return sql.SQL("before IS NULL"), KIND_LETTERS["generated"]
    for names, kind in ((scope.images.drawn, "generated"), (scope.images.walls, "wall")):
        if column.name in names:
            return sql.SQL("before[{0}] IS DISTINCT FROM after[{0}]").format(place + 1), KIND_LETTERS[kind]
    clocks = scope.rule.texts(scope.images.table, column)
    if not clocks:
        return None
    condition = sql.SQL("(after[{0}] = ANY({1}::text[]) AND before[{0}] IS DISTINCT FROM after[{0}]) IS TRUE")
    return condition.format(place + 1, sorted(clocks)), KIND_LETTERS["clock"]


def _after_cells(images: TableImages, marks: Mapping[int, tuple[sql.Composable, str]]) -> sql.Composable:
    if not marks:
        return sql.SQL("after")
    return _array(
        [
            _unless(
                place in marks,
                marks[place][0] if place in marks else sql.SQL("false"),
                sql.SQL("after[{}]").format(place + 1),
            )
            for place in range(len(images.columns))
        ]
    )


def _unless(marked: bool, condition: sql.Composable, cell: sql.Composable) -> sql.Composable:
    return sql.SQL("CASE WHEN {} THEN NULL ELSE {} END").format(condition, cell) if marked else cell


def _kinds(images: TableImages, marks: Mapping[int, tuple[sql.Composable, str]]) -> sql.Composable:
    value = KIND_LETTERS["value"]
    if not marks:
        return sql.Literal(value * len(images.columns))
    letters = [
        sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(marks[place][0], marks[place][1], value)
        if place in marks
        else sql.Literal(value)
        for place in range(len(images.columns))
    ]
    return sql.SQL("array_to_string({}, '')").format(_array(letters))


def _key_text(position: int) -> sql.Composable:
    return sql.SQL("coalesce(before[{0}], after[{0}])").format(position + 1)


def _bytes_of(texts: Iterable[sql.Composable]) -> sql.Composable:
    parts = _COMMA.join(sql.SQL("convert_to({}, 'UTF8')").format(text) for text in texts)
    return sql.SQL("ARRAY[{}]::bytea[]").format(parts)


def _array(parts: Iterable[sql.Composable]) -> sql.Composable:
    return sql.SQL("ARRAY[{}]::text[]").format(_COMMA.join(parts))


def _key_names(images: TableImages) -> sql.Composable:
    return _COMMA.join(sql.Identifier(f"k{number}") for number in _numbers(images))


def _numbers(images: TableImages) -> range:
    return range(1, max(1, len(images.key)) + 1)
