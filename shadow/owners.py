"""Which tenants a production row belongs to, by every path at once: what the fence leaves out, and contradictions.

Called by `shadowdesk fence --count` and for a domain tool's `tenant_from`; reads production as the reader.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from shadow.fence import DIRECT, OUTSIDE, ROOT, Fence, FencedTable
from shadow.predicate import base, link_applies, pairs
from shadow.tenant_key import key_text


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Rows of one table: all, of exactly one tenant, for everybody, of nobody, reached by two tenants or more.

    None where nothing was counted: in a table outside the fence, `rows` is then production's own estimate.
    """

    table: str
    fence_class: str
    rows: int
    owned: int | None = None
    everybody: int | None = None
    nobody: int | None = None
    contradicted: int | None = None


def owners(fence: Fence, table: FencedTable, alias: str, depth: int = 0) -> sql.Composable:
    """A query, lateral to `alias`, of one text column `owner`: a line for each path that leads to a tenant."""
    when = sql.SQL("({})").format(sql.SQL(table.when)) if table.when else sql.SQL("true")
    if table.fence_class in (ROOT, DIRECT):
        known = [sql.SQL("{} IS NOT NULL").format(sql.Identifier(alias, column)) for column in table.tenant_columns]
        return sql.SQL("SELECT {} AS owner WHERE {} AND {}").format(
            key_text(table.tenant_columns, alias), sql.SQL(" AND ").join(known), when
        )
    ways = []
    for fk in table.paths:
        parent, inner = fence.tables[fk.parent], f"o{depth}"
        applies = link_applies(fence, fk, alias)
        ways.append(
            sql.SQL("SELECT up.owner FROM {} AS {} CROSS JOIN LATERAL ({}) AS up WHERE {} AND {} AND {}").format(
                base(parent), sql.Identifier(inner), owners(fence, parent, inner, depth + 1),
                sql.SQL(" AND ").join(pairs(fk, inner, alias)), applies or sql.SQL("true"), when,
            )
        )  # fmt: skip
    return sql.SQL(" UNION ALL ").join(ways)


def weight(conn: psycopg.Connection[Any], fence: Fence) -> tuple[int, int]:
    """What counting reads: estimated rows and bytes of the owned tables, parents not counted again."""
    owned = [t for t in fence.tables.values() if t.owned]
    names = [base(t).as_string(conn) for t in owned]
    row = conn.execute(
        "SELECT coalesce(sum(pg_table_size(n::regclass)), 0) FROM unnest(%s::text[]) n", (names,)
    ).fetchone()
    return sum(t.table.estimated_rows for t in owned), int(row[0]) if row else 0


def count_rows(conn: psycopg.Connection[Any], fence: Fence) -> Iterator[Counted]:
    """Every owned table's rows by whom they belong to; reads each of them once and its parents by key."""
    for name, table in fence.tables.items():
        if not table.owned:
            continue
        free: sql.Composable = sql.SQL("false")
        if table.everybody:
            free = sql.SQL("{} IS NULL").format(sql.Identifier("t", *table.tenant_columns))
        query = sql.SQL(
            "SELECT count(*), count(*) FILTER (WHERE owners = 1), count(*) FILTER (WHERE free AND owners = 0),"
            " count(*) FILTER (WHERE NOT free AND owners = 0), count(*) FILTER (WHERE owners > 1)"
            " FROM (SELECT {} AS free, (SELECT count(DISTINCT o.owner) FROM ({}) AS o) AS owners FROM {} AS t) counted"
        ).format(free, owners(fence, table, "t"), base(table))
        row = conn.execute(query).fetchone()
        rows, owned, everybody, nobody, contradicted = row or (0, 0, 0, 0, 0)
        yield Counted(
            table=name, fence_class=table.fence_class, rows=rows, owned=owned, everybody=everybody, nobody=nobody,
            contradicted=contradicted,
        )  # fmt: skip


def outside(fence: Fence) -> Iterator[Counted]:
    """The tables outside the fence, with production's estimate of their rows: nobody's dry run shows them."""
    for name, table in fence.tables.items():
        if table.fence_class == OUTSIDE:
            yield Counted(table=name, fence_class=OUTSIDE, rows=table.table.estimated_rows)
