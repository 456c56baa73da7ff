"""The gate's walk: every node of the parse tree, one by one, against a list of node classes that may occur.

Called by `shadow.gate`. What is not listed is refused, so a new piece of grammar stays outside until someone adds it.
"""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from postgast import pg_query_pb2 as pg

from shadow.gate_calls import check_call, check_from_function, check_sql_value
from shadow.gate_moving import check_moving, see_call, see_case, see_cast, see_operator, see_siblings
from shadow.gate_names import SYSTEM_COLUMNS, check_operator, check_type, is_catalog
from shadow.gate_reading import Reading
from shadow.gate_scope import Scope, from_relations, strings, target_relation, unwrap, with_scope
from shadow.gate_text import refused, shown
from shadow.gate_writes import check_delete, check_insert, check_merge, check_update, written_table
from shadow.statement import Slot, SurfaceTable

#: A node to look at, the scope it sees, and whether it is evaluated exactly once.
Visit = tuple[Any, Scope, bool]
Visitor = Callable[[Any, Scope, bool, Reading], Iterable[Visit]]

#: Node classes that need no rule of their own: only their children are looked at.
_PLAIN = frozenset(
    """
    A_ArrayExpr A_Indices A_Star BoolExpr BooleanTest CaseWhen
    GroupingFunc GroupingSet IndexElem InferClause Integer JoinExpr List MergeSupportFunc MergeWhenClause MinMaxExpr
    MultiAssignRef NamedArgExpr NullTest OnConflictClause RangeSubselect ResTarget ReturningClause ReturningOption
    RowExpr SetToDefault String WindowDef
    """.split()
)
_HINTS = {
    "LockingClause": ("FOR UPDATE and FOR SHARE lock rows.", "Leave the clause out: the replay locks what it changes."),
    "IntoClause": ("SELECT INTO creates a table.", "Leave INTO out."),
    "RangeTableSample": ("TABLESAMPLE picks rows by chance.", "Pick rows with WHERE, or with ORDER BY and LIMIT."),
    "CurrentOfExpr": ("WHERE CURRENT OF needs a cursor.", "Name the rows by their key."),
    "ColumnDef": ("A function in FROM has a column definition list.", "Use jsonb_each or ->> and casts instead."),
}


def walk(statement: Any, reading: Reading) -> None:
    """Judges every node of one statement; raises StatementRefused at the first that may not occur."""
    stack: list[Visit] = [(statement, Scope(surface=reading.surface), False)]
    while stack:
        node, scope, once = stack.pop()
        name = type(node).__name__
        visitor = _VISITORS.get(name)
        if visitor is not None:
            stack += visitor(node, scope, once, reading)
        elif name in _PLAIN:
            stack += _children(node, scope, once)
        else:
            happened, instead = _HINTS.get(
                name,
                (f"The statement uses {name}, which is not accepted.", "Use plain SQL expressions and JSON functions."),
            )
            raise refused(happened, instead)


def _children(node: Any, scope: Scope, once: bool, without: frozenset[str] = frozenset()) -> Iterable[Visit]:
    for field, value in node.ListFields():
        if field.message_type is None or field.name in without:
            continue
        for child in value if _repeated(value) else (value,):
            inner = unwrap(child) if isinstance(child, pg.Node) else child
            if inner is not None:
                yield inner, scope, once


def _repeated(value: Any) -> bool:
    return not hasattr(value, "ListFields")


def _query_scopes(node: Any, scope: Scope) -> tuple[Scope, list[Visit]]:
    """The scope inside a statement's WITH clause, and its WITH queries to visit."""
    if not node.HasField("with_clause"):
        return scope, []
    inner, queries = with_scope(node.with_clause, scope)
    return inner, [(query, sees, False) for query, sees in queries]


def _from_visits(items: Iterable[Any], outer: Scope, inner: Scope) -> Iterable[Visit]:
    """FROM items: sub-selects see `outer` unless LATERAL, conditions and functions see `inner`."""
    waiting = [unwrap(item) for item in items]
    while waiting:
        item = waiting.pop()
        if isinstance(item, pg.JoinExpr):
            waiting += [unwrap(item.larg), unwrap(item.rarg)]
            yield from _children(item, inner, False, frozenset({"larg", "rarg"}))
        elif isinstance(item, pg.RangeSubselect) and not item.lateral:
            yield item, outer, False
        elif item is not None:
            yield item, inner, False


def _select(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    outer, visits = _query_scopes(node, scope)
    inner = outer.inner(from_relations(node.from_clause, outer))
    visits += _from_visits(node.from_clause, outer, inner)
    if node.op != pg.SETOP_NONE:
        visits += [(node.larg, outer, False), (node.rarg, outer, False)]
    visits += _children(node, inner, False, frozenset({"with_clause", "from_clause", "larg", "rarg"}))
    if node.HasField("limit_count") and not node.sort_clause:
        reading.warnings["LIMIT without ORDER BY: which rows it takes is left to chance."] = None
    if node.distinct_clause and unwrap(node.distinct_clause[0]) is not None and not node.sort_clause:
        reading.warnings["DISTINCT ON without ORDER BY: which of the rows it keeps is left to chance."] = None
    return visits


def _insert(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    outer, visits = _query_scopes(node, scope)
    table = _target(node.relation, outer, reading)
    inner = outer.inner(target_relation(node.relation, reading.surface, ("excluded", "old", "new")))
    check_insert(node, table, reading, inner)
    reading.returning |= node.HasField("returning_clause")
    query = unwrap(node.select_stmt)
    if isinstance(query, pg.SelectStmt) and query.values_lists and not query.HasField("with_clause"):
        visits += [(row.list, outer, True) for row in query.values_lists]
        visits += _children(query, outer, False, frozenset({"values_lists"}))
    elif query is not None:
        visits.append((query, outer, False))
    visits += _children(node, inner, False, frozenset({"with_clause", "relation", "select_stmt"}))
    return visits


def _update(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    outer, visits = _query_scopes(node, scope)
    table = _target(node.relation, outer, reading)
    relations = target_relation(node.relation, reading.surface, ("old", "new"))
    inner = outer.inner(relations + from_relations(node.from_clause, outer))
    check_update(node, table, reading, inner)
    return visits + _rest(node, outer, inner, "from_clause", reading)


def _delete(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    outer, visits = _query_scopes(node, scope)
    table = _target(node.relation, outer, reading)
    relations = target_relation(node.relation, reading.surface, ("old", "new"))
    inner = outer.inner(relations + from_relations(node.using_clause, outer))
    check_delete(node, table, reading)
    return visits + _rest(node, outer, inner, "using_clause", reading)


def _merge(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    outer, visits = _query_scopes(node, scope)
    table = _target(node.relation, outer, reading)
    relations = target_relation(node.relation, reading.surface, ("old", "new"))
    inner = outer.inner(relations + from_relations([node.source_relation], outer))
    check_merge(node, table, reading, inner)
    return visits + _rest(node, outer, inner, "source_relation", reading)


def _rest(node: Any, outer: Scope, inner: Scope, source: str, reading: Reading) -> list[Visit]:
    """What's left of a data change: its sources, expressions, RETURNING and the target's alias."""
    reading.returning |= node.HasField("returning_clause")
    items = getattr(node, source)
    visits = list(_from_visits([items] if source == "source_relation" else items, outer, inner))
    visits += _children(node, inner, False, frozenset({"with_clause", "relation", source}))
    return visits


def _range_var(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    if not node.schemaname and node.relname not in reading.surface.tables and scope.cte(node.relname) is not None:
        _check_only(node)
    else:
        _slot(node, reading)
        reading.reads.add(node.relname)
    _check_alias(node.alias.aliasname, node.relname, reading)
    return ()


def _target(relation: Any, scope: Scope, reading: Reading) -> SurfaceTable:
    """The table a data change writes: noted as a slot and as written."""
    if scope.cte(relation.relname) is not None:
        raise refused(
            f"{shown(relation.relname)} is a WITH query, not a table.", "Name the table itself as the target."
        )
    _slot(relation, reading)
    _check_alias(relation.alias.aliasname, relation.relname, reading)
    return written_table(relation, reading)


def _check_only(node: Any) -> None:
    if not node.inh:
        raise refused("ONLY looks past a table's partitions.", "Write the bare table name without ONLY.")


def _slot(node: Any, reading: Reading) -> None:
    """Notes one table reference; refuses what's not on the surface."""
    name, surface = node.relname, reading.surface
    if node.schemaname or node.catalogname:
        raise refused(
            f"The table {shown(name)} is qualified with a schema.", "Write the bare table name; it is found by itself."
        )
    _check_only(node)
    if name in surface.tables:
        start = node.location
        reading.slots[start] = Slot(start=start, end=reading.token_end(start), schema=None, table=name)
        return
    if name in surface.outside:
        raise refused(
            f"The table {shown(name)} does not belong to a tenant and is not part of the shadow.",
            "Work with the tables that describe_tables lists.",
        )
    if whole := surface.parts.get(name):
        raise refused(
            f"{shown(name)} is a part of the table {shown(whole)} and cannot be named by itself.",
            f"Work with {shown(whole)}, which shows the rows of all its parts.",
        )
    if is_catalog(name):
        raise refused(f"{shown(name)} is a catalog of Postgres itself.", "describe_tables tells what the tables hold.")
    near = difflib.get_close_matches(name[:100], surface.tables, n=1)
    raise refused(
        f"There is no table {shown(name)} here.",
        f"Did you mean {near[0]}?" if near else "describe_tables lists the tables.",
    )


def _alias(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    _check_alias(node.aliasname, None, reading)
    return ()


def _check_alias(name: str, own: str | None, reading: Reading) -> None:
    """Refuses an alias that reads like a catalog or like another table than `own`, the one it stands for."""
    if is_catalog(name):
        raise refused(f"The alias {shown(name)} poses as a catalog of Postgres.", "Choose another alias.")
    if name != own and (name in reading.surface.tables or name in reading.surface.outside):
        raise refused(f"The alias {shown(name)} is the name of another table.", "Choose another alias.")


def _range_function(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    for item in node.functions:
        if item.list.items:
            check_from_function(unwrap(item.list.items[0]), reading)
    return _children(node, scope, False)


def _column_ref(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    names = strings(node.fields)
    for name in names:
        if name in SYSTEM_COLUMNS:
            raise refused(
                f"{shown(name)} is a system column; it differs between the shadow and production.",
                "Name rows by the columns of their key.",
            )
    if len(node.fields) > 2:
        raise refused(f"{shown('.'.join(names))} is qualified with a schema.", "Write table.column, or alias.column.")
    if len(node.fields) == 2:
        _check_qualified(names, scope)
    return ()


def _check_qualified(names: tuple[str, ...], scope: Scope) -> None:
    relations = scope.named(names[0])
    if not relations:
        raise refused(f"No table or alias {shown(names[0])} is in sight here.", "Add it to FROM, or correct the name.")
    if len(names) == 1:
        return  # t.*
    for relation in relations:
        if names[1] not in relation.columns:
            known = ", ".join(list(relation.columns)[:40])
            raise refused(
                f"{shown(names[0])} has no column {shown(names[1])}; Postgres would take that for a function call.",
                f"Its columns are: {known} (name others with AS)." if known else "Name its columns: AS t(a, b).",
            )


def _param(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    if not 1 <= node.number <= len(reading.params):
        raise refused(
            f"The statement uses ${node.number}, but {len(reading.params)} parameters were sent.",
            "Send one value for each of $1, $2, … in params.",
        )
    reading.params_used.add(node.number)
    check_moving(node, reading)
    return ()


def _literal(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    check_moving(node, reading)
    return ()


def _case(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    see_case(node, reading, scope)
    return _children(node, scope, once)


def _indirection(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    if any(step.WhichOneof("node") != "a_indices" for step in node.indirection):
        raise refused("(expression).name can call a function.", "Write alias.column, or call the function by its name.")
    return _children(node, scope, once)


def _a_expr(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    if node.kind not in (
        pg.AEXPR_BETWEEN,
        pg.AEXPR_NOT_BETWEEN,
        pg.AEXPR_BETWEEN_SYM,
        pg.AEXPR_NOT_BETWEEN_SYM,
    ):
        check_operator(strings(node.name))
    see_operator(node, reading, scope)
    return _children(node, scope, once, frozenset({"name"}))


def _choice(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    see_siblings([unwrap(arg) for arg in node.args], reading, scope)
    return _children(node, scope, once)


def _sub_link(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    if node.oper_name:
        check_operator(strings(node.oper_name))
    return _children(node, scope, False, frozenset({"oper_name"}))


def _sort_by(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    if node.use_op:
        raise refused("ORDER BY … USING names an operator.", "Write ORDER BY … ASC or DESC.")
    return _children(node, scope, once)


def _type_cast(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    see_cast(node, reading, scope)
    return _children(node, scope, once)


def _type_name(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    if node.setof or node.pct_type:
        raise refused("A type is written with SETOF or %TYPE.", "Write the plain type name.")
    check_type(strings(node.names), reading.surface)
    for mod in node.typmods:
        if mod.WhichOneof("node") != "a_const":
            raise refused("A type's size is not a plain number.", "Write it as a number: numeric(12,2).")
    return ()


def _collate(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    if len(node.collname) > 1:
        raise refused("A collation is qualified with a schema.", "Write the bare collation name.")
    return _children(node, scope, once, frozenset({"collname"}))


def _call(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    check_call(node, reading, once)
    see_call(node, strings(node.funcname)[-1], reading, scope)
    return _children(node, scope, once, frozenset({"funcname"}))


def _sql_value(node: Any, scope: Scope, once: bool, reading: Reading) -> Iterable[Visit]:
    check_sql_value(node, reading)
    return ()


_VISITORS: dict[str, Visitor] = {
    "SelectStmt": _select,
    "InsertStmt": _insert,
    "UpdateStmt": _update,
    "DeleteStmt": _delete,
    "MergeStmt": _merge,
    "RangeVar": _range_var,
    "RangeFunction": _range_function,
    "Alias": _alias,
    "ColumnRef": _column_ref,
    "ParamRef": _param,
    "A_Const": _literal,
    "CaseExpr": _case,
    "A_Indirection": _indirection,
    "A_Expr": _a_expr,
    "CoalesceExpr": _choice,
    "MinMaxExpr": _choice,
    "SubLink": _sub_link,
    "SortBy": _sort_by,
    "TypeCast": _type_cast,
    "TypeName": _type_name,
    "CollateClause": _collate,
    "FuncCall": _call,
    "SQLValueFunction": _sql_value,
}
