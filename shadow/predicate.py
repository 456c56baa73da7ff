"""The fence as SQL: which rows are the tenant's, and the views that both sides run statements through.

Called by the clone (which rows to copy), the shadow's surface and production's fence schema (design 4.6): one
generator, so that what a view cannot do on production is refused in the shadow already.
"""

from collections.abc import Mapping
from itertools import count

from psycopg import sql

from shadow.catalog import ForeignKey
from shadow.fence import DIRECT, ROOT, SHARED, Fence, FencedTable
from shadow.links import DeclaredLink
from shadow.tenant_key import key_parts


class Predicates:
    """Predicates for one tenant; the tenant's key is a literal, never a setting that a statement could change.

    Raises TenantNotFound where `tenant_key` is no key of this fence.
    """

    def __init__(self, fence: Fence, tenant_key: str) -> None:
        self._fence = fence
        root = fence.tables[fence.root].table
        self._literals = tuple(
            sql.SQL("{}::{}").format(sql.Literal(part), sql.SQL(root.column(column).type))
            for column, part in zip(fence.key, key_parts(tenant_key, fence.key), strict=True)
        )
        self._numbers = count(1)
        self._pending = False

    def tenant_literals(self, table: FencedTable) -> dict[str, sql.Composable]:
        """The tenant's columns of a table, each with its part of the key as a typed literal."""
        return dict(zip(table.tenant_columns, self._literals, strict=True))

    def member(self, table: FencedTable, alias: str) -> sql.Composable:
        """True for the rows that belong to the tenant (owned) or that its rows refer to (shared)."""
        if table.fence_class in (ROOT, DIRECT):
            parts = [
                sql.SQL("{} = {}").format(sql.Identifier(alias, column), literal)
                for column, literal in self.tenant_literals(table).items()
            ]
            return self._when(table, sql.SQL(" AND ").join(parts))
        if table.fence_class == SHARED:
            return sql.SQL("true") if table.whole else self._referenced(table, alias, frozenset({table.table.name}))
        either = [self._leads(table, fk, alias) for fk in table.paths]
        return self._when(table, sql.SQL("({})").format(sql.SQL(" OR ").join(either)))

    def inside(self, table: FencedTable, alias: str, *, pending: bool = False) -> sql.Composable:
        """Membership, and every link into an owned table NULL or pointing at one of the tenant's rows.

        `pending`: a key that is checked at COMMIT only may also point at a row that nobody has, which a later
        statement of the same transaction may create.
        """
        self._pending = pending
        try:
            return self._inside(table, alias)
        finally:
            self._pending = False

    def readable(self, table: FencedTable, alias: str) -> sql.Composable:
        """Membership, and in a table with rows for everybody those too (capture refuses to change them)."""
        member = self.member(table, alias)
        if not table.everybody:
            return member
        column = sql.Identifier(alias, *table.tenant_columns)
        return sql.SQL("({} OR {} IS NULL)").format(member, column)

    def _inside(self, table: FencedTable, alias: str) -> sql.Composable:
        """Readable, and every link into an owned table NULL or pointing at a row that the tenant may read."""
        checks = [self.readable(table, alias)]
        for fk in table.links:
            free = [sql.SQL("{} IS NULL").format(sql.Identifier(alias, column)) for column in fk.columns]
            if (applies := link_applies(self._fence, fk, alias)) is not None:
                free.append(sql.SQL("({}) IS NOT TRUE").format(applies))
            checks.append(
                sql.SQL("({} OR {})").format(sql.SQL(" OR ").join(free), self._parent_exists(fk, alias, everybody=True))
            )
        return sql.SQL(" AND ").join(checks)

    def _leads(self, table: FencedTable, fk: ForeignKey, alias: str) -> sql.Composable:
        """The row's parent by this link is one of the tenant's own, and the link counts for this row."""
        exists, applies = self._parent_exists(fk, alias), link_applies(self._fence, fk, alias)
        return exists if applies is None else sql.SQL("({} AND {})").format(exists, applies)

    def _when(self, table: FencedTable, condition: sql.Composable) -> sql.Composable:
        if not table.when:
            return condition
        return sql.SQL("({} AND ({}))").format(condition, sql.SQL(table.when))

    def _parent_exists(self, fk: ForeignKey, alias: str, *, everybody: bool = False) -> sql.Composable:
        parent = self._fence.tables[fk.parent]
        inner = f"p{next(self._numbers)}"
        pending, self._pending = self._pending, False  # a parent that exists is judged as it is
        condition = self.readable(parent, inner) if everybody else self.member(parent, inner)
        found: sql.Composable = _exists(parent, inner, pairs(fk, inner, alias), condition)
        self._pending = pending
        if pending and fk.deferred:
            nobodys = _exists(parent, inner, pairs(fk, inner, alias), sql.SQL("true"))
            found = sql.SQL("({} OR NOT {})").format(found, nobodys)
        return found

    def _referenced(self, table: FencedTable, alias: str, seen: frozenset[str]) -> sql.Composable:
        """Rows of a shared table that the tenant's rows lead to; a cycle of shared tables is cut where it closes."""
        ways: list[sql.Composable] = []
        for child, fk in self._fence.referring(table.table.name):
            if not (child.owned or (child.fence_class == SHARED and child.table.name not in seen)):
                continue
            inner = f"c{next(self._numbers)}"
            keys = [
                sql.SQL("{} = {}").format(sql.Identifier(inner, theirs), sql.Identifier(alias, ours))
                for theirs, ours in zip(fk.columns, fk.parent_columns, strict=True)
            ]
            if child.owned or child.whole:
                condition = self.readable(child, inner)
            else:
                condition = self._referenced(child, inner, seen | {child.table.name})
            ways.append(_exists(child, inner, keys, condition))
        return sql.SQL("({})").format(sql.SQL(" OR ").join(ways)) if ways else sql.SQL("false")


def link_applies(fence: Fence, fk: ForeignKey, alias: str) -> sql.Composable | None:
    """The condition under which a declared link counts for the row; None where it always does.

    The operator's SQL is trusted.
    """
    if not isinstance(fk, DeclaredLink) or not fk.when:
        return None
    condition = sql.SQL("({})").format(sql.SQL(fk.when))
    if fk.lookup is None:
        return condition
    return _exists(fence.tables[fk.lookup.parent], "looked_up", pairs(fk.lookup, "looked_up", alias), condition)


def _exists(table: FencedTable, alias: str, keys: list[sql.Composed], condition: sql.Composable) -> sql.Composable:
    return sql.SQL("EXISTS (SELECT 1 FROM {} AS {} WHERE {} AND {})").format(
        base(table), sql.Identifier(alias), sql.SQL(" AND ").join(keys), condition
    )


def pairs(fk: ForeignKey, parent: str, child: str) -> list[sql.Composed]:
    """The link's columns, equal in parent and child."""
    return [
        sql.SQL("{} = {}").format(sql.Identifier(parent, theirs), sql.Identifier(child, ours))
        for ours, theirs in zip(fk.columns, fk.parent_columns, strict=True)
    ]


def base(table: FencedTable) -> sql.Identifier:
    """The table itself, schema-qualified."""
    return sql.Identifier(table.table.schema, table.table.relation)


def view_statements(
    fence: Fence,
    tenant_key: str,
    table: FencedTable,
    schema: str,
    defaults: Mapping[str, sql.Composable],
    *,
    shared_as_loaded: bool,
) -> list[sql.Composed]:
    """CREATE VIEW and its column defaults for one table in `schema`.

    `defaults` gives the expression drawn for an omitted column; it wins over the table's own default on INSERT
    (Postgres docs, CREATE VIEW: updatable views). The tenant column defaults to the tenant's key. In a shadow a
    shared table holds the referenced rows only (`shared_as_loaded`): its view need not look for the references,
    whose tables may not be loaded; a difference this could make is caught by the replay's comparison.
    """
    predicates = Predicates(fence, tenant_key)
    view = sql.Identifier(schema, table.table.name)
    columns = sql.SQL(", ").join(sql.Identifier("t", c.name) for c in table.table.columns)
    loaded = shared_as_loaded and table.fence_class == SHARED
    condition = sql.SQL("true") if loaded else predicates.inside(table, "t")
    make = sql.SQL("CREATE VIEW {} WITH (security_barrier = true) AS SELECT {} FROM {} AS t WHERE {}{}")
    check = sql.SQL(" WITH CASCADED CHECK OPTION") if table.owned else sql.SQL("")
    if not table.waits:
        statements = [make.format(view, columns, base(table), condition, check)]
    else:
        # What is seen is inside the fence; what is written may wait for its parent (LOCAL: only the outer condition).
        seen = sql.Identifier(schema, f"inside {table.table.oid}")
        check, pending = sql.SQL(" WITH LOCAL CHECK OPTION"), predicates.inside(table, "t", pending=True)
        statements = [
            make.format(seen, columns, base(table), condition, sql.SQL("")),
            make.format(view, columns, seen, pending, check),
        ]
    chosen = dict(defaults)
    if table.fence_class == DIRECT:
        chosen.update(predicates.tenant_literals(table))
    for column, expression in chosen.items():
        statements.append(
            sql.SQL("ALTER VIEW {} ALTER COLUMN {} SET DEFAULT {}").format(view, sql.Identifier(column), expression)
        )
    return statements
