"""What the gate and the rep may know of the tables: built by the desk from the fence of the dry run."""

from dataclasses import replace
from functools import lru_cache

from mcp_server.views import ColumnDescription, TableDescription
from shadow.fence import DIRECT, ROOT, Fence, FencedTable
from shadow.statement import Surface, SurfaceTable


def gate_surface(fence: Fence, tenant_key: str, allow_functions: frozenset[str]) -> Surface:
    """The gate's view of one tenant's surface."""
    return replace(_of_any_tenant(fence), tenant_key=tenant_key, allow_functions=allow_functions)


@lru_cache(maxsize=4)
def _of_any_tenant(fence: Fence) -> Surface:
    """Made once per schema version: a thousand tables would cost every statement a tenth of a second."""
    shown = {name: table for name, table in fence.tables.items() if table.surface and table.fence_class != "outside"}
    return Surface(
        tables={name: _table(fence, table) for name, table in shown.items()},
        tenant_key="",
        # an app's overload of a built-in name would be chosen unseen: such names are not offered
        functions={n: v for n, v in fence.catalog.functions.items() if n not in fence.catalog.routines},
        allow_functions=frozenset(),
        server_version=fence.catalog.server_version,
        outside=frozenset(fence.tables) - frozenset(shown),
        parts={part: name for part, name in fence.catalog.parts.items() if name in shown},
    )


def _table(fence: Fence, table: FencedTable) -> SurfaceTable:
    columns = table.table.columns
    return SurfaceTable(
        name=table.table.name,
        columns={c.name: c.type for c in columns},
        key=table.table.key,
        unique_keys=table.table.unique_keys,
        unique_with_tenant=tuple(key for key in table.table.unique_keys if _proves_tenant(fence, table, key)),
        not_null=frozenset(c.name for c in columns if c.not_null),
        tenant_columns=table.tenant_columns,
        writable=table.writable,
        fence_class=table.fence_class,
        defaults={c.name: c.default for c in columns if c.default is not None},
        always=frozenset(c.name for c in columns if c.identity == "a"),
        read_only=table.read_only if table.owned else "",
    )


def _proves_tenant(fence: Fence, table: FencedTable, key: frozenset[str]) -> bool:
    """True when a row with this key can only be the tenant's: it holds the tenant columns or a fenced parent's key.

    ON CONFLICT on any other unique key would act on another tenant's hidden row (notes on security, design 4.6).
    """
    if table.fence_class in (ROOT, DIRECT):
        return key.issuperset(table.tenant_columns)
    if table.when:
        return False  # the same key may be another parent's under another condition
    return len(table.paths) == 1 and set(table.paths[0].columns) <= key


def describe(fence: Fence, names: list[str]) -> list[TableDescription]:
    """The named tables in words for reps and models; definitions only, never rows."""
    return [_describe(fence, fence.tables[name]) for name in names]


def _describe(fence: Fence, table: FencedTable) -> TableDescription:
    notes = {
        "shared": "Shared with other tenants: read-only here.",
        "root": "The tenant's own row.",
    }
    note = notes.get(table.fence_class, "")
    if table.owned and not table.writable:
        note = f"Read-only: {table.read_only or 'kept off the surface'}."
    return TableDescription(
        table=table.table.name,
        fence_class=table.fence_class,
        writable=table.writable,
        columns=tuple(
            ColumnDescription(
                name=c.name, type=c.type, nullable=not c.not_null, key=c.name in table.table.key,
                has_default=bool(c.default or c.identity or c.name in table.tenant_columns),
            )
            for c in table.table.columns
        ),
        references=tuple(
            f"{', '.join(fk.columns)} -> {fk.parent}.{', '.join(fk.parent_columns)}"
            for fk in table.table.foreign_keys
            if fence.tables[fk.parent].surface
        ),
        note=note,
    )  # fmt: skip
