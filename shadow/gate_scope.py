"""Which names a part of a statement can see: tables, aliases and WITH queries with their columns.

Needed because `t.name` calls a function named `name` when `t` has no such column. A scope may hold more relations
than Postgres would see there; a name counts as a column only if every relation it could mean has it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from postgast import pg_query_pb2 as pg

from shadow.gate_names import CLOCKS, is_catalog
from shadow.gate_text import refused, shown
from shadow.statement import Surface

#: Column name -> type text ('' when unknown), in order.
Columns = Mapping[str, str]

#: Names of result columns that functions declare themselves; an alias does not rename those.
_JSON_COLUMNS = {
    **dict.fromkeys(("json_each", "json_each_text", "jsonb_each", "jsonb_each_text"), ("key", "value")),
    **{f"{kind}_array_elements{suffix}": ("value",) for kind in ("json", "jsonb") for suffix in ("", "_text")},
}
_NAMED_NODES = {
    "CoalesceExpr": "coalesce",
    "A_ArrayExpr": "array",
    "RowExpr": "row",
    "GroupingFunc": "grouping",
    "MergeSupportFunc": "merge_action",
}
_UNNAMED = "?column?"


@dataclass(frozen=True, kw_only=True)
class Relation:
    """Something with columns under a name: a table, an alias, a sub-select, a function's result."""

    name: str
    columns: Columns


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Relations and WITH queries visible at one level; `parent` is the level around it."""

    surface: Surface
    relations: tuple[Relation, ...] = ()
    ctes: Mapping[str, Columns] = field(default_factory=dict)
    parent: "Scope | None" = None

    def levels(self) -> Iterable["Scope"]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def inner(self, relations: Iterable[Relation]) -> "Scope":
        """A level inside this one."""
        return Scope(surface=self.surface, relations=tuple(relations), parent=self)

    def cte(self, name: str) -> Columns | None:
        """Columns of the nearest WITH query of that name."""
        return next((level.ctes[name] for level in self.levels() if name in level.ctes), None)

    def named(self, name: str) -> list[Relation]:
        """Every relation of that name, nearest first."""
        return [one for level in self.levels() for one in level.relations if one.name == name]

    def type_of(self, column: str, relation: str | None = None) -> str:
        """Type text of a column as the nearest relation has it; '' when unknown."""
        for level in self.levels():
            for one in level.relations:
                if column in one.columns and relation in (None, one.name):
                    return one.columns[column]
        return ""


def unwrap(node: Any) -> Any:
    """The concrete message inside a Node; None for an empty one."""
    which = node.WhichOneof("node")
    return getattr(node, which) if which else None


def strings(nodes: Iterable[Any]) -> tuple[str, ...]:
    """The texts of a list of String nodes; other nodes are left out."""
    return tuple(n.string.sval for n in nodes if n.WhichOneof("node") == "string")


def with_scope(clause: Any, outer: Scope) -> tuple[Scope, list[tuple[Any, Scope]]]:
    """The scope a WITH clause makes, and its queries, each with the scope it sees: the queries before it."""
    scope = outer
    queries: list[tuple[Any, Scope]] = []
    if clause.recursive:
        raise refused(
            "WITH RECURSIVE could run without end.",
            "Ask in several steps, or use generate_series with literal bounds.",
        )
    for item in clause.ctes:
        cte = item.common_table_expr
        if cte.HasField("search_clause") or cte.HasField("cycle_clause"):
            raise refused("SEARCH and CYCLE belong to WITH RECURSIVE.", "Leave the clause out.")
        _check_cte_name(cte.ctename, scope)
        query = unwrap(cte.ctequery)
        queries.append((query, scope))
        columns = _renamed(columns_of(query, scope), strings(cte.aliascolnames))
        scope = Scope(surface=outer.surface, ctes={cte.ctename: columns}, parent=scope)
    return scope, queries


def _check_cte_name(name: str, scope: Scope) -> None:
    surface = scope.surface
    if name in surface.tables or name in surface.outside or is_catalog(name):
        raise refused(
            f"The WITH query {shown(name)} hides the table of that name.", "Give the WITH query another name."
        )
    if scope.cte(name) is not None:
        raise refused(f"Two WITH queries are named {shown(name)}.", "Give each WITH query its own name.")


def _renamed(columns: Columns, names: tuple[str, ...]) -> Columns:
    old = list(columns.items())
    new = [(name, old[at][1] if at < len(old) else "") for at, name in enumerate(names)]
    return dict(new + old[len(names) :])


def from_relations(items: Iterable[Any], outer: Scope) -> list[Relation]:
    """Relations of a FROM list; `outer` is what sub-selects in it can see."""
    found: list[Relation] = []
    waiting = [unwrap(item) for item in items][::-1]
    joins: list[Any] = []
    while waiting:
        item = waiting.pop()
        if isinstance(item, pg.JoinExpr):
            joins.append(item)
            waiting += [unwrap(item.rarg), unwrap(item.larg)]
        elif item is not None:
            found.append(_relation(item, outer.inner(found) if getattr(item, "lateral", False) else outer))
    for join in joins:
        if join.HasField("join_using_alias") or join.HasField("alias"):
            found += _join_aliases(join, from_relations([join.larg, join.rarg], outer))
    return found


def _join_aliases(join: Any, sides: list[Relation]) -> Iterable[Relation]:
    merged = {name: kind for one in sides for name, kind in one.columns.items()}
    if join.HasField("join_using_alias"):
        using = {name: merged.get(name, "") for name in strings(join.using_clause)}
        yield Relation(name=join.join_using_alias.aliasname, columns=using)
    if join.HasField("alias"):
        yield Relation(name=join.alias.aliasname, columns=_renamed(merged, strings(join.alias.colnames)))


def _relation(item: Any, outer: Scope) -> Relation:
    if not isinstance(item, pg.RangeVar | pg.RangeSubselect | pg.RangeFunction):
        return Relation(name="", columns={})  # the walk refuses it
    alias, names = item.alias.aliasname, strings(item.alias.colnames)
    if isinstance(item, pg.RangeVar):
        table = outer.surface.tables.get(item.relname)
        columns = table.columns if table else (outer.cte(item.relname) or {})
        return Relation(name=alias or item.relname, columns=_renamed(columns, names))
    if isinstance(item, pg.RangeSubselect):
        return Relation(name=alias, columns=_renamed(columns_of(unwrap(item.subquery), outer), names))
    return _function_relation(item, alias, names)


def _function_relation(item: Any, alias: str, names: tuple[str, ...]) -> Relation:
    """A function's result with the names it surely has: json's own, else its alias, else the function's."""
    calls = [unwrap(f.list.items[0]) for f in item.functions if f.list.items]
    calls = [call for call in calls if isinstance(call, pg.FuncCall)]
    own = [strings(call.funcname)[-1] for call in calls]
    columns: dict[str, str] = dict.fromkeys(names, "")
    if not names and len(own) == 1:
        several = own[0] == "unnest" and len(calls[0].args) > 1
        columns = dict.fromkeys(_JSON_COLUMNS.get(own[0], (own[0] if several or not alias else alias,)), "")
    if item.ordinality:
        columns |= {"ordinality": "bigint"}
    return Relation(name=alias or (own[0] if own else ""), columns=columns)


def target_relation(relation: Any, surface: Surface, also: tuple[str, ...] = ()) -> list[Relation]:
    """The target of a data change under its alias, and under the names in `also` (excluded, old, new)."""
    columns = surface.tables[relation.relname].columns if relation.relname in surface.tables else {}
    return [Relation(name=n, columns=columns) for n in (relation.alias.aliasname or relation.relname, *also)]


def columns_of(query: Any, outer: Scope) -> Columns:
    """Output columns of a query, as Postgres names them; a data change outputs its RETURNING list."""
    if query is None:
        return {}
    scope = with_scope(query.with_clause, outer)[0] if query.HasField("with_clause") else outer
    while isinstance(query, pg.SelectStmt) and query.op != pg.SETOP_NONE:
        query = query.larg
        scope = with_scope(query.with_clause, scope)[0] if query.HasField("with_clause") else scope
    if isinstance(query, pg.SelectStmt):
        if query.values_lists:
            return {f"column{at}": "" for at in range(1, len(query.values_lists[0].list.items) + 1)}
        return _target_columns(query.target_list, scope.inner(from_relations(query.from_clause, scope)))
    relations = target_relation(query.relation, outer.surface, ("old", "new"))
    if isinstance(query, pg.UpdateStmt):
        relations += from_relations(query.from_clause, scope)
    elif isinstance(query, pg.DeleteStmt):
        relations += from_relations(query.using_clause, scope)
    elif isinstance(query, pg.MergeStmt):
        relations += from_relations([query.source_relation], scope)
    return _target_columns(query.returning_clause.exprs, scope.inner(relations))


def _target_columns(targets: Iterable[Any], scope: Scope) -> Columns:
    columns: dict[str, str] = {}
    for item in targets:
        target = item.res_target
        value = unwrap(target.val)
        if isinstance(value, pg.ColumnRef) and value.fields[-1].WhichOneof("node") == "a_star":
            names = strings(value.fields)
            for one in scope.relations if not names else scope.named(names[0])[:1]:
                columns |= one.columns
            continue
        kind = type_of(value, scope)
        columns[target.name or _figure_name(value)[0]] = kind
    return columns


def type_of(value: Any, scope: Scope) -> str:
    """Type text of a column reference or a cast; '' for anything else."""
    if isinstance(value, pg.ColumnRef):
        names = strings(value.fields)
        return scope.type_of(names[-1], names[0] if len(names) > 1 else None) if names else ""
    if isinstance(value, pg.TypeCast):
        return strings(value.type_name.names)[-1] + ("[]" if value.type_name.array_bounds else "")
    return ""


def _figure_name(value: Any) -> tuple[str, int]:
    """An output column's name and its strength, as Postgres' FigureColname finds them (parse_target.c)."""
    if isinstance(value, pg.ColumnRef):
        return (strings(value.fields) or (_UNNAMED,))[-1], 2
    if isinstance(value, pg.FuncCall):
        name = strings(value.funcname)[-1]
        return (_UNNAMED if name in CLOCKS else name), 2  # a recorded literal has another name
    if isinstance(value, pg.TypeCast):
        name, strength = _figure_name(unwrap(value.arg))
        return (name, strength) if strength > 1 else (strings(value.type_name.names)[-1], 1)
    if isinstance(value, pg.CollateClause | pg.A_Indirection):
        return _figure_name(unwrap(value.arg))
    if isinstance(value, pg.CaseExpr):
        name, strength = _figure_name(unwrap(value.defresult))
        return (name, strength) if strength > 1 else ("case", 1)
    if isinstance(value, pg.MinMaxExpr):
        return ("greatest" if value.op == pg.IS_GREATEST else "least"), 2
    if isinstance(value, pg.A_Expr) and value.kind == pg.AEXPR_NULLIF:
        return "nullif", 2
    if isinstance(value, pg.SubLink):
        return _sublink_name(value)
    fixed = _NAMED_NODES.get(type(value).__name__)
    return (fixed, 2) if fixed else (_UNNAMED, 0)


def _sublink_name(value: Any) -> tuple[str, int]:
    if value.sub_link_type == pg.EXISTS_SUBLINK:
        return "exists", 2
    if value.sub_link_type == pg.ARRAY_SUBLINK:
        return "array", 2
    query = unwrap(value.subselect)
    if value.sub_link_type == pg.EXPR_SUBLINK and isinstance(query, pg.SelectStmt) and query.target_list:
        target = query.target_list[0].res_target
        return (target.name, 2) if target.name else _figure_name(unwrap(target.val))
    return _UNNAMED, 0
