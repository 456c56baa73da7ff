"""Which rows a statement looks at: per table reference the conditions on that table alone; called by `shadow.gate`.

A row that a statement or a query only read is not locked by the replay, but the person is told when it changed since
(`shadow/freshness.py`). A condition that also names another table, or holds a sub-select, is left out: more rows
then count as looked at, never fewer.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import postgast
from postgast import pg_query_pb2 as pg

from shadow.gate_scope import strings, unwrap
from shadow.statement import Look, Surface

_QUERIES = (pg.SelectStmt, pg.UpdateStmt, pg.DeleteStmt, pg.MergeStmt)


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """One table reference of a level; `renamed` when its alias gives the columns other names."""

    table: str
    alias: str
    renamed: bool
    target: bool = False


def looks_of(statement: Any, params: tuple[str | None, ...], surface: Surface) -> tuple[Look, ...]:
    """A look for every table reference with a key, equal ones once.

    The target of a change is left out where its conditions are all about itself: the rows it looked at are then the
    rows it touched, which the replay compares anyway.
    """
    found: dict[Look, None] = {}
    for query in _queries(statement):
        references, conditions = _level(query, surface)
        for reference in references:
            if surface.tables[reference.table].key:
                texts, whole = _conditions_on(reference, references, conditions, params, surface)
                if not (reference.target and whole):
                    found[Look(table=reference.table, alias=reference.alias, condition=" AND ".join(texts))] = None
    return tuple(found)


def _queries(statement: Any) -> Iterator[Any]:
    waiting = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _QUERIES):
            yield node
        waiting += _inner(node)


def _inner(node: Any) -> Iterator[Any]:
    for field, value in node.ListFields():
        if field.message_type is None:
            continue
        for child in [value] if hasattr(value, "ListFields") else value:
            inner = unwrap(child) if isinstance(child, pg.Node) else child
            if inner is not None:
                yield inner


def _level(query: Any, surface: Surface) -> tuple[list[_Reference], list[Any]]:
    """The table references of one query level and the conditions that every one of its rows meets."""
    references: list[_Reference] = []
    conditions: list[Any] = []
    if isinstance(query, pg.SelectStmt):
        waiting = [unwrap(item) for item in query.from_clause]
    else:
        references = [replace(one, target=True) for one in _reference(query.relation, surface)]
        sources: Iterable[Any] = [query.source_relation] if isinstance(query, pg.MergeStmt) else (
            query.from_clause if isinstance(query, pg.UpdateStmt) else query.using_clause
        )  # fmt: skip
        waiting = [unwrap(item) for item in sources]
    if not isinstance(query, pg.MergeStmt) and query.HasField("where_clause"):
        conditions += _conjuncts(unwrap(query.where_clause))
    while waiting:
        item = waiting.pop()
        if isinstance(item, pg.JoinExpr):
            waiting += [unwrap(item.larg), unwrap(item.rarg)]
            if item.jointype == pg.JOIN_INNER and item.HasField("quals"):
                conditions += _conjuncts(unwrap(item.quals))
        elif isinstance(item, pg.RangeVar):
            references += _reference(item, surface)
    return references, conditions


def _reference(item: Any, surface: Surface) -> list[_Reference]:
    if item.relname not in surface.tables:
        return []  # a WITH query, which is a level of its own
    alias = item.alias.aliasname or item.relname
    return [_Reference(table=item.relname, alias=alias, renamed=bool(item.alias.colnames))]


def _conjuncts(condition: Any) -> Iterator[Any]:
    if isinstance(condition, pg.BoolExpr) and condition.boolop == pg.AND_EXPR:
        for arg in condition.args:
            yield from _conjuncts(unwrap(arg))
    else:
        yield condition


def _conditions_on(
    reference: _Reference,
    references: list[_Reference],
    conditions: list[Any],
    params: tuple[str | None, ...],
    surface: Surface,
) -> tuple[list[str], bool]:
    """Texts of the conditions on this table alone, and whether those are all there are."""
    mine = [
        one for one in conditions
        if not reference.renamed and _owner(one, references, surface) == reference.alias
    ]  # fmt: skip
    return [_text(one, params) for one in mine], len(mine) == len(conditions) and len(references) == 1


def _owner(condition: Any, references: list[_Reference], surface: Surface) -> str | None:
    """The alias of the one table that a condition names; None for several, for none, and for sub-selects."""
    owners: set[str | None] = set()
    waiting = [condition]
    while waiting:
        node = waiting.pop()
        if isinstance(node, pg.SubLink):
            return None
        if isinstance(node, pg.ColumnRef):
            owners.add(_named(strings(node.fields), references, surface))
        waiting += _inner(node)
    return owners.pop() if len(owners) == 1 else None


def _named(names: tuple[str, ...], references: list[_Reference], surface: Surface) -> str | None:
    if len(names) == 2:
        return next((one.alias for one in references if one.alias == names[0]), None)
    having = [one.alias for one in references if names and names[-1] in surface.tables[one.table].columns]
    return having[0] if len(having) == 1 else None


def _text(condition: Any, params: tuple[str | None, ...]) -> str:
    """The condition as SQL, its parameters as literals of unknown type, which is what they are."""
    carrier = postgast.parse("SELECT 1 WHERE true")
    place = unwrap(carrier.stmts[0].stmt).where_clause
    field = next(one.name for one in pg.Node.DESCRIPTOR.fields if one.message_type is condition.DESCRIPTOR)
    place.Clear()
    getattr(place, field).CopyFrom(condition)
    _fill(place, params)
    return f"({postgast.deparse(carrier).split(' WHERE ', 1)[1]})"


def _fill(message: Any, params: tuple[str | None, ...]) -> None:
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for child in [value] if hasattr(value, "ListFields") else value:
            if isinstance(child, pg.Node) and child.WhichOneof("node") == "param_ref":
                text = params[child.param_ref.number - 1]
                child.Clear()
                if text is None:
                    child.a_const.isnull = True
                else:
                    child.a_const.sval.sval = text
            else:
                _fill(child, params)
