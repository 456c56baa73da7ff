"""Guesses a database's tenancy for `shadowdesk init`: root, tenant column, links without a key, measures.

Reads the catalog, and small samples of values where a name alone would not do; every guess carries its reason.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from shadow.catalog import Catalog, Column, Table
from shadow.fence import OUTSIDE, Fence, FenceRules, TableRule, build_fence
from shadow.links import FenceInvalid, LinkRule

#: Names of the thing that products are sold to, the likeliest first.
_TENANTS = (
    "tenant", "account", "organization", "organisation", "company", "workspace", "customer", "team", "merchant", "shop",
    "store", "client", "project", "user",
)  # fmt: skip
_MONEY = re.compile(r"(amount|price|total|balance|cost|fee|cents|subtotal|paid|due|credit|debit)", re.IGNORECASE)
_LABELS = ("name", "title", "label", "slug", "email", "code")
_SAMPLE = 200
#: A fence is drawn for each candidate; beyond the tables that most others refer to none reaches far.
_CANDIDATES = 20


@dataclass(frozen=True, kw_only=True)
class RootGuess:
    """A table that may be the tenant's, how many tables lead to it, and why it is thought so."""

    table: str
    key: tuple[str, ...]
    label: str
    reached: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class LinkGuess:
    """Declared links for one table, and why; `sure` when sampled values agreed."""

    table: str
    links: tuple[LinkRule, ...]
    reason: str
    sure: bool


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """All that `init` writes down."""

    roots: tuple[RootGuess, ...]
    tenant_column: str
    links: tuple[LinkGuess, ...]
    everybody: tuple[str, ...]
    measures: tuple[tuple[str, str], ...]
    #: Tables that no shadow can hold, each with the unreadable one that it needs.
    resting: tuple[tuple[str, str], ...]
    fence: Fence


def guess(conn: psycopg.Connection[Any], catalog: Catalog) -> Guesses | None:
    """What the tenancy may be; None where no table can be a tenant's."""
    roots = _roots(catalog)
    if not roots:
        return None
    root = roots[0]
    column = _tenant_column(catalog, root)
    rules = FenceRules(
        root=root.table, key=root.key, label=root.label, tenant_column=column or None, tables=_resting(catalog)
    )
    links: dict[str, LinkGuess] = {}
    fence = build_fence(catalog, rules)
    while True:  # a guessed link may make its table the parent that another guess needs
        before = dict(links)
        for one in list(_links(conn, fence, set(links))):
            if links.get(one.table) == one:
                continue
            drawn = replace(rules, tables={**rules.tables, one.table: TableRule(via=one.links)})
            try:
                fence = build_fence(catalog, drawn) if one.sure else fence
            except FenceInvalid:
                continue  # it would lead in a circle: what was guessed before stands
            links[one.table] = one
            rules = drawn if one.sure else rules
        if links == before:
            break
    everybody = tuple(_with_null_tenant(conn, fence))
    return Guesses(
        roots=roots, tenant_column=column, links=tuple(links.values()), everybody=everybody,
        measures=tuple(_measures(fence)), fence=fence,
        resting=tuple((name, catalog.tables[name].rests_on) for name in sorted(_resting(catalog))),
    )  # fmt: skip


def _resting(catalog: Catalog) -> dict[str, TableRule]:
    return {name: TableRule(fence_class=OUTSIDE) for name, table in catalog.tables.items() if table.rests_on}


def _roots(catalog: Catalog) -> tuple[RootGuess, ...]:
    found = []
    pointing = Counter(fk.parent for table in catalog.tables.values() for fk in table.foreign_keys)
    referred = {name for name, _ in pointing.most_common(_CANDIDATES)}
    for name, table in catalog.tables.items():
        likely = name in referred or _rank(table.relation) < len(_TENANTS)
        if not likely or not _tells_apart(table) or table.kind != "r" or table.unreadable or table.rests_on:
            continue
        column = _column_for(name) if len(table.key) == 1 else None
        rules = FenceRules(root=name, key=table.key, tenant_column=column, tables=_resting(catalog))
        fence = build_fence(catalog, rules)
        reached = sum(one.owned for one in fence.tables.values()) - 1
        rank = _rank(table.relation)
        if reached == 0 and rank == len(_TENANTS):
            continue
        named = f"named like a tenant ({_TENANTS[rank]})" if rank < len(_TENANTS) else "its name does not say so"
        reason = f"{reached} of {len(catalog.tables) - 1} other tables lead to it; {named}"
        label = next((c.name for wanted in _LABELS for c in table.columns if c.name.lower() == wanted), table.key[0])
        found.append(RootGuess(table=name, key=table.key, label=label, reached=reached, reason=reason))
    most = max((one.reached for one in found), default=0)

    # a tenant's name counts where about as much leads to it as to the best: countries reach everything as well
    def order(one: RootGuess) -> tuple[int, int, str]:
        return (_rank(one.table) if 2 * one.reached >= most else len(_TENANTS) + 1, -one.reached, one.table)

    return tuple(sorted(found, key=order))[:5]


def _tells_apart(table: Table) -> bool:
    """A key of one column, or of several of a table that is named like a tenant and is nobody's child by them."""
    if len(table.key) <= 1:
        return bool(table.key)
    linked = {column for fk in table.foreign_keys for column in fk.columns}
    return _rank(table.relation) < len(_TENANTS) and linked.isdisjoint(table.key)


def _rank(name: str) -> int:
    singular = _singular(name.lower().rsplit(".", 1)[-1])
    return next((n for n, one in enumerate(_TENANTS) if singular == one or singular.endswith(f"_{one}")), len(_TENANTS))


def _singular(name: str) -> str:
    if name.endswith("ies"):
        return f"{name[:-3]}y"
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name


def _column_for(name: str) -> str:
    return f"{_singular(name.rsplit('.', 1)[-1])}_id"


def _tenant_column(catalog: Catalog, root: RootGuess) -> str:
    if len(root.key) > 1:
        return ""
    column, kind = _column_for(root.table), catalog.tables[root.table].column(root.key[0]).type
    fits = [t for t in catalog.tables.values() if any(c.name == column and c.type == kind for c in t.columns)]
    return column if fits else ""


def _links(conn: psycopg.Connection[Any], fence: Fence, guessed: set[str]) -> Iterator[LinkGuess]:
    """For each table outside, or inside by a guess: polymorphic pairs first, then columns named after a table."""
    for name, table in fence.tables.items():
        if table.table.unreadable or table.table.rests_on:
            continue
        if (table.fence_class == OUTSIDE or name in guessed) and (
            found := _polymorphic(conn, fence, table.table) or _named(conn, fence, table.table)
        ):
            yield found


def _owned_parent(fence: Fence, child: Table, word: str, column: Column) -> Table | None:
    """The owned table that a word names and whose single key has the column's type."""
    for table in fence.tables.values():
        if (
            not table.owned
            or table.table == child
            or len(table.table.key) != 1
            or table.table.column(table.table.key[0]).type != column.type
        ):
            continue
        plain = _singular(table.table.relation.lower()).replace("_", "")
        if plain == _singular(word.rsplit("::", 1)[-1].lower()).replace("_", ""):
            return table.table
    return None


def _named(conn: psycopg.Connection[Any], fence: Fence, table: Table) -> LinkGuess | None:
    for column in table.columns:
        if not column.name.lower().endswith("_id") or any(column.name in fk.columns for fk in table.foreign_keys):
            continue
        parent = _owned_parent(fence, table, column.name[:-3], column)
        if parent is None:
            continue
        key = parent.key[0]
        seen, missing = _sampled(conn, table, column.name, parent, None)
        reason = f"column {column.name} without a foreign key"
        if seen and not missing:
            reason += f"; all of its {seen} sampled values occur in {parent.name}.{key}"
        else:
            reason += f"; {missing} of {seen} sampled values do not occur in {parent.name}.{key}"
        link = LinkRule(to=f"{column.name} -> {parent.name}.{key}")
        return LinkGuess(table=table.name, links=(link,), reason=reason, sure=bool(seen) and not missing)
    return None


def _polymorphic(conn: psycopg.Connection[Any], fence: Fence, table: Table) -> LinkGuess | None:
    columns = {c.name: c for c in table.columns}
    for name in columns:
        stem = name[:-5]
        if not name.endswith("_type") or f"{stem}_id" not in columns:
            continue
        query = sql.SQL(
            "SELECT DISTINCT v FROM (SELECT {}::text AS v FROM {} LIMIT 10000) s WHERE v IS NOT NULL"
        ).format(sql.Identifier(name), _named_table(table))
        values = [str(value) for (value,) in conn.execute(query).fetchall()]
        links, reasons = [], []
        for value in sorted(values)[:50]:
            parent = _owned_parent(fence, table, value, columns[f"{stem}_id"])
            if parent is None:
                continue
            seen, missing = _sampled(conn, table, f"{stem}_id", parent, (name, value))
            if seen and not missing:
                when = sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)).as_string(conn)
                links.append(LinkRule(to=f"{stem}_id -> {parent.name}.{parent.key[0]}", when=when))
                reasons.append(f"{parent.name} ({seen} sampled)")
        if links:
            reason = f"polymorphic {name}/{stem}_id: its sampled values occur in {', '.join(reasons)}"
            return LinkGuess(table=table.name, links=tuple(links), reason=reason, sure=True)
    return None


def _sampled(
    conn: psycopg.Connection[Any], table: Table, column: str, parent: Table, kind: tuple[str, str] | None
) -> tuple[int, int]:
    """How many distinct values were looked at, and how many of them have no parent."""
    where: sql.Composable = sql.SQL("TRUE")
    if kind is not None:
        where = sql.SQL("{}::text = {}").format(sql.Identifier(kind[0]), sql.Literal(kind[1]))
    query = sql.SQL(
        "SELECT count(*), count(*) FILTER (WHERE NOT EXISTS (SELECT FROM {parent} p WHERE p.{key} = s.v)) FROM"
        " (SELECT DISTINCT {column} AS v FROM {table} WHERE {column} IS NOT NULL AND {where} LIMIT {sample}) s"
    ).format(
        parent=_named_table(parent), key=sql.Identifier(parent.key[0]), column=sql.Identifier(column),
        table=_named_table(table), where=where, sample=sql.Literal(_SAMPLE),
    )  # fmt: skip
    seen, missing = conn.execute(query).fetchone() or (0, 0)
    return int(seen), int(missing)


def _with_null_tenant(conn: psycopg.Connection[Any], fence: Fence) -> Iterator[str]:
    """Tables with the tenant's column where some rows have none."""
    for name, table in fence.tables.items():
        if table.fence_class != "direct" or len(table.tenant_columns) > 1:
            continue
        column = table.tenant_columns[0]
        if table.table.column(column).not_null:
            continue
        query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} IS NULL)").format(
            _named_table(table.table), sql.Identifier(column)
        )
        row = conn.execute(query).fetchone()
        if row and row[0]:
            yield name


def _measures(fence: Fence) -> Iterator[tuple[str, str]]:
    for name, table in fence.tables.items():
        for column in table.table.columns if table.writable else ():
            numeric = column.type.startswith(("numeric", "money", "integer", "bigint", "double"))
            if numeric and column.type != "money" and _MONEY.search(column.name):
                yield name, column.name


def _named_table(table: Table) -> sql.Identifier:
    return sql.Identifier(table.schema, table.relation)
