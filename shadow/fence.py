"""The fence: which rows of which tables belong to a tenant, derived from foreign keys and corrected by the operator.

Built once per schema version by the desk; `predicate.py` turns it into SQL, `certificate` prints it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from shadow.catalog import Catalog, ForeignKey, Table
from shadow.links import DeclaredLink, FenceInvalid, Via, declared_links
from shadow.tenant_key import key_columns

ROOT, DIRECT, REACHED, SHARED, SINK, OUTSIDE = "root", "direct", "reached", "shared", "sink", "outside"
OWNED = frozenset({ROOT, DIRECT, REACHED})
_WRITES = re.compile(r"\binsert\s+into\s+(?:only\s+)?((?:\"[^\"]+\"|\w+)(?:\.(?:\"[^\"]+\"|\w+))?)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class TableRule:
    """One correction from TOML; None leaves what the catalog says."""

    fence_class: str | None = None
    #: The tenant's column, or all of them in the order of the root's key.
    column: str | tuple[str, ...] | None = None
    via: Via | None = None
    rows: str | None = None
    surface: bool | None = None
    when: str | None = None
    #: "everybody": rows without a tenant may be read by all of them and written by none.
    null_tenant: str | None = None


@dataclass(frozen=True, kw_only=True)
class FenceRules:
    """The operator's tenancy: root table, its key and label, an optional tenant column name, corrections.

    A key of several columns is a tuple; `tenant_column` then names as many, in the same order.
    """

    root: str
    key: str | tuple[str, ...] = "id"
    label: str | None = None
    tenant_column: str | tuple[str, ...] | None = None
    tables: Mapping[str, TableRule] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FencedTable:
    """One table's class; `paths` lead to the tenant (reached), `links` point at owned tables (checked too).

    `tenant_columns` hold the tenant's key (root, direct), in the order of the fence's `key`.
    """

    table: Table
    fence_class: str
    tenant_columns: tuple[str, ...] = ()
    paths: tuple[ForeignKey, ...] = ()
    links: tuple[ForeignKey, ...] = ()
    declared: tuple[DeclaredLink, ...] = ()
    when: str | None = None
    everybody: bool = False
    whole: bool = False
    surface: bool = True
    corrected: bool = False

    @property
    def owned(self) -> bool:
        """True when the rows are the tenant's own."""
        return self.fence_class in OWNED

    @property
    def references(self) -> tuple[ForeignKey, ...]:
        """Foreign keys, declared links and what these look up: every table whose rows this one's rows may need."""
        lookups = tuple(link.lookup for link in self.declared if link.lookup is not None)
        return (*self.table.foreign_keys, *self.declared, *lookups)

    @property
    def writable(self) -> bool:
        """True when statements may write it: owned, on the surface, and nothing makes it read-only."""
        return self.owned and self.surface and not self.read_only

    @property
    def waits(self) -> bool:
        """True when a row may be written before the parent that it points at: its key is checked at COMMIT."""
        return self.owned and any(fk.deferred for fk in (*self.paths, *self.links))

    @property
    def read_only(self) -> str:
        """Why statements may not change the rows, in words; '' where nothing but its class could forbid it."""
        if self.table.kind == "i":
            return "other tables inherit from it, so a row of it may be stored in any of them"
        if self.table.rules:
            return "rewrite rules would do something else than the statement says"
        if not self.table.key:
            return "no primary key and no unique NOT NULL index to verify rows by"
        return ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fence:
    """Every app table's class for one schema version; equal only to itself, so that what follows from it is kept."""

    root: str
    key: tuple[str, ...]
    label: str | None
    tables: Mapping[str, FencedTable]
    catalog: Catalog

    def children(self, parent: str) -> list[tuple[FencedTable, ForeignKey]]:
        """Tables whose foreign keys lead to `parent`, with the key."""
        return [(t, fk) for t, fk in self.referring(parent) if fk in t.table.foreign_keys]

    def referring(self, parent: str) -> list[tuple[FencedTable, ForeignKey]]:
        """Tables whose foreign keys, declared links or lookups lead to `parent`, with the link."""
        return self._referring.get(parent, [])

    @cached_property
    def _referring(self) -> dict[str, list[tuple[FencedTable, ForeignKey]]]:
        found: dict[str, list[tuple[FencedTable, ForeignKey]]] = {}
        for table in self.tables.values():
            for fk in table.references:
                found.setdefault(fk.parent, []).append((table, fk))
        return found


def build_fence(catalog: Catalog, rules: FenceRules) -> Fence:
    """Classes from the catalog, then the operator's corrections; FenceInvalid when a rule names nothing."""
    if rules.root not in catalog.tables:
        raise FenceInvalid(f"[fence] root: there is no table {rules.root!r} in schemas {', '.join(catalog.schemas)}.")
    key = _root_key(catalog.tables[rules.root], rules)
    for name in rules.tables:
        if name not in catalog.tables:
            raise FenceInvalid(f"[fence.tables.{name}]: there is no such table.")
    corrections, rules = rules.tables, _without_unreadable(catalog, rules)
    fenced = {rules.root: FencedTable(table=catalog.tables[rules.root], fence_class=ROOT, tenant_columns=key)}
    _add_direct(fenced, catalog, rules, key)
    _add_reached(fenced, catalog, rules)
    fenced = {name: replace(t, links=_links(t, fenced)) for name, t in fenced.items()}
    _add_shared(fenced, catalog, rules)
    _add_sinks(fenced, catalog, rules)
    for name, table in catalog.tables.items():
        fenced.setdefault(name, FencedTable(table=table, fence_class=OUTSIDE, surface=False))
    tables = {name: _correct(fenced[name], corrections.get(name)) for name in sorted(fenced)}
    for name, one in tables.items():
        if one.fence_class != OUTSIDE and one.table.rests_on:
            raise FenceInvalid(
                f"[fence] no shadow can hold {name}: it needs {one.table.rests_on}, which shadowdesk_reader may not"
                " read. Grant it SELECT there and USAGE on the schema, or leave the table out:"
                f' [fence.tables.{name}] class = "outside".'
            )
    return Fence(root=rules.root, key=key, label=rules.label, tables=tables, catalog=catalog)


def _without_unreadable(catalog: Catalog, rules: FenceRules) -> FenceRules:
    """The rules with every table that the reader may not read outside. Raises FenceInvalid where one wants it in."""
    closed = [name for name, table in catalog.tables.items() if table.unreadable]
    for name in closed:
        wanted = rules.tables.get(name, TableRule())
        if name == rules.root or wanted.column or wanted.via or wanted.fence_class not in (None, OUTSIDE):
            raise FenceInvalid(
                f"[fence] {name}: shadowdesk_reader may not read it. Grant it SELECT on the table and USAGE on its"
                " schema, or leave it outside."
            )
    return replace(rules, tables={**rules.tables, **dict.fromkeys(closed, TableRule(fence_class=OUTSIDE))})


def _root_key(root: Table, rules: FenceRules) -> tuple[str, ...]:
    """The columns that tell tenants apart. Raises FenceInvalid where they do not exist or would join tenants."""
    key = key_columns(rules.key)
    if lost := [column for column in key if column not in {c.name for c in root.columns}]:
        raise FenceInvalid(f"[fence] key: table {root.name!r} has no column {lost[0]!r}.")
    if not any(frozenset(key) == unique for unique in root.unique_keys) or len(set(key)) != len(key):
        alone = f"{key[0]!r} alone does" if len(key) == 1 else f"{', '.join(key)} together do"
        raise FenceInvalid(
            f"[fence] key: {alone} not tell the rows of {root.name!r} apart: it would join tenants; name exactly the"
            ' columns of a unique index, several as a list: key = ["region", "number"].'
        )
    if loose := [column for column in key if len(key) > 1 and not root.column(column).not_null]:
        raise FenceInvalid(
            f"[fence] key: {loose[0]!r} of {root.name!r} may be NULL; in a key of several columns none may."
        )
    if rules.tenant_column and len(key_columns(rules.tenant_column)) != len(key):
        raise FenceInvalid(f"[fence] tenant_column: name {len(key)} columns, in the order of `key`.")
    return key


def _in_key_order(fk: ForeignKey, key: tuple[str, ...]) -> tuple[str, ...]:
    """The child's columns in the order of the tenant's key; () where the foreign key names other columns."""
    ours = dict(zip(fk.parent_columns, fk.columns, strict=True))
    return tuple(ours[column] for column in key) if ours.keys() == set(key) else ()


def _proves_tenant(table: FencedTable, fk: ForeignKey, root: FencedTable) -> bool:
    """True for the foreign key that says the same as the tenant's own columns."""
    return table.fence_class == DIRECT and _in_key_order(fk, root.tenant_columns) == table.tenant_columns


def _class_rule(rules: FenceRules, name: str) -> str | None:
    rule = rules.tables.get(name)
    return rule.fence_class if rule else None


def _add_direct(fenced: dict[str, FencedTable], catalog: Catalog, rules: FenceRules, key: tuple[str, ...]) -> None:
    for name, table in catalog.tables.items():
        wanted = _class_rule(rules, name)
        if name == rules.root or wanted not in (None, DIRECT):
            continue
        rule = rules.tables.get(name)
        columns = _tenant_columns(table, rule, rules, key)
        if not columns:
            if wanted == DIRECT:
                raise FenceInvalid(f"[fence.tables.{name}]: class direct needs `column`, the tenant's column.")
            continue
        if rule and rule.null_tenant and len(key) > 1:
            raise FenceInvalid(f"[fence.tables.{name}] null_tenant: only for a tenant's key of one column.")
        fenced[name] = FencedTable(
            table=table, fence_class=DIRECT, tenant_columns=columns, when=rule.when if rule else None,
            declared=_declared(rule, name, catalog), everybody=bool(rule and rule.null_tenant),
        )  # fmt: skip


def _tenant_columns(table: Table, rule: TableRule | None, rules: FenceRules, key: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that hold the tenant's key: the operator's word, a foreign key, the name; () where there are none."""
    present = {c.name for c in table.columns}
    if rule and rule.column:
        columns = key_columns(rule.column)
        if lost := [column for column in columns if column not in present]:
            raise FenceInvalid(f"[fence.tables.{table.name}] column: there is no column {lost[0]!r}.")
        if len(columns) != len(key):
            raise FenceInvalid(f"[fence.tables.{table.name}] column: name {len(key)} columns, in the order of `key`.")
        return columns
    usual = key_columns(rules.tenant_column) if rules.tenant_column else ()
    if not (rule and rule.via):
        found = [c for fk in table.foreign_keys if fk.parent == rules.root and (c := _in_key_order(fk, key))]
        if found:
            return usual if usual in found else found[0]
    guessed = not (rule and rule.via and rule.fence_class is None)
    return usual if guessed and present.issuperset(usual) else ()


def _add_reached(fenced: dict[str, FencedTable], catalog: Catalog, rules: FenceRules) -> None:
    """Level by level outwards from the tenant, so that every path leads strictly nearer and none is a cycle.

    A table with declared links waits until each of them leads to an owned table: the operator named them all.
    """
    open_tables = {
        name: (rules.tables.get(name), _declared(rules.tables.get(name), name, catalog))
        for name in catalog.tables
        if name not in fenced and _class_rule(rules, name) in (None, REACHED)
    }
    while True:
        level: dict[str, FencedTable] = {}
        for name, (rule, declared) in open_tables.items():
            table = catalog.tables[name]
            paths: tuple[ForeignKey, ...] = tuple(fk for fk in declared or table.foreign_keys if fk.parent in fenced)
            if paths and (not declared or len(paths) == len(declared)):
                when = rule.when if rule else None
                level[name] = FencedTable(table=table, fence_class=REACHED, paths=paths, declared=declared, when=when)
        if not level:
            break
        fenced.update(level)
        for name in level:
            del open_tables[name]
    for name, (_, declared) in open_tables.items():
        lost = [fk.parent for fk in declared if fk.parent not in fenced]
        if lost:
            raise FenceInvalid(f"[fence.tables.{name}] via: {', '.join(lost)} does not lead to a tenant by itself.")


def _declared(rule: TableRule | None, name: str, catalog: Catalog) -> tuple[DeclaredLink, ...]:
    return declared_links(rule.via, name, catalog) if rule and rule.via else ()


def _links(table: FencedTable, fenced: Mapping[str, FencedTable]) -> tuple[ForeignKey, ...]:
    """Foreign keys into owned tables that membership alone does not already prove."""
    sole_path = table.paths[0] if len(table.paths) == 1 else None
    return tuple(
        fk
        for fk in (*table.table.foreign_keys, *table.declared)
        if fk.parent in fenced and fk != sole_path
        and not (fenced[fk.parent].fence_class == ROOT and _proves_tenant(table, fk, fenced[fk.parent]))
    )  # fmt: skip


def _add_shared(fenced: dict[str, FencedTable], catalog: Catalog, rules: FenceRules) -> None:
    """Tables that owned rows refer to, and the tables those refer to in turn: read-only company."""
    frontier = list(fenced.values())
    for name, given in rules.tables.items():
        if given.fence_class == SHARED and name not in fenced:
            fenced[name] = FencedTable(table=catalog.tables[name], fence_class=SHARED, whole=given.rows == "all")
            frontier.append(fenced[name])
    while frontier:
        table = frontier.pop()
        for fk in table.references:
            if fk.parent in fenced or _class_rule(rules, fk.parent) not in (None, SHARED):
                continue
            rule = rules.tables.get(fk.parent)
            shared = FencedTable(
                table=catalog.tables[fk.parent], fence_class=SHARED, whole=bool(rule and rule.rows == "all")
            )
            fenced[fk.parent] = shared
            frontier.append(shared)


def trigger_targets(table: Table, catalog: Catalog) -> set[str]:
    """Table names that the trigger functions of `table` insert into, as far as their sources say."""
    found: set[str] = set()
    for trigger in table.triggers:
        for written in _WRITES.findall(trigger.source):
            parts = [part.strip('"') for part in re.findall(r'"[^"]+"|\w+', written)]
            names = (".".join(parts), parts[-1])
            found.update(name for name in names if name in catalog.tables)
            if parts[-1].lower() in catalog.partition_of:
                found.add(catalog.partition_of[parts[-1].lower()])
    return found


def trigger_mentions(table: Table, catalog: Catalog) -> set[str]:
    """Table names that stand anywhere in the trigger sources of `table` or of the routines they name."""
    sources = [trigger.source for trigger in table.triggers]
    for name, source in catalog.routines.items():
        if any(re.search(rf"\b{re.escape(name)}\s*\(", text) for text in sources):
            sources.append(source)
    words = {word.lower() for text in sources for word in re.findall(r"\w+", text)}
    named = {name for name, other in catalog.tables.items() if other.relation.lower() in words}
    return named | {catalog.partition_of[word] for word in words & catalog.partition_of.keys()}


def _add_sinks(fenced: dict[str, FencedTable], catalog: Catalog, rules: FenceRules) -> None:
    for table in list(fenced.values()):
        for name in trigger_targets(table.table, catalog):
            if name not in fenced and _class_rule(rules, name) in (None, SINK):
                fenced[name] = FencedTable(table=catalog.tables[name], fence_class=SINK, surface=False)
    for name, rule in rules.tables.items():
        if rule.fence_class == SINK and name not in fenced:
            fenced[name] = FencedTable(table=catalog.tables[name], fence_class=SINK, surface=False)


def _correct(table: FencedTable, rule: TableRule | None) -> FencedTable:
    if rule is None:
        return table
    if rule.null_tenant and table.fence_class != DIRECT:
        raise FenceInvalid(
            f"[fence.tables.{table.table.name}] null_tenant: only a table with the tenant's column has it."
        )
    surface = table.surface if rule.surface is None else rule.surface and table.surface
    return replace(table, surface=surface, corrected=True)


def certificate(fence: Fence) -> str:
    """The fence in words, one table a paragraph: class, how it is reached, which edges are checked or cut."""
    lines = [f"Fence of schema version {fence.catalog.fingerprint[:12]}: root {fence.root}.{_listed(fence.key)}", ""]
    for name, table in fence.tables.items():
        marks = [mark for mark, on in (("corrected", table.corrected), ("hidden", not table.surface)) if on]
        lines.append(f"{name}: {table.fence_class}" + (f" ({', '.join(marks)})" if marks else ""))
        lines.extend(f"    {sentence}" for sentence in _sentences(fence, table))
    return "\n".join(lines) + "\n"


def _sentences(fence: Fence, table: FencedTable) -> list[str]:
    found = []
    if table.tenant_columns:
        found.append(f"rows where {_listed(table.tenant_columns)} is the tenant's key")
    if table.everybody:
        found.append(f"rows where {_listed(table.tenant_columns)} is NULL are for everybody: read-only")
    found.extend(f"path  {_edge(fk)}" for fk in table.paths)
    found.extend(f"check {_edge(fk)}: must point inside the fence or be NULL" for fk in table.links)
    followed = {fk.name for fk in (*table.paths, *table.links)}
    for fk in table.table.foreign_keys:
        proven = fk.parent == fence.root and _proves_tenant(table, fk, fence.tables[fence.root])
        if fk.name not in followed and fk.parent != table.table.name and not proven:
            found.append(f"cut   {_edge(fk)}: {fence.tables[fk.parent].fence_class}")
    if table.fence_class == SHARED:
        found.append("all rows, read-only" if table.whole else "rows the tenant's rows refer to, read-only")
    if table.table.unreadable:
        found.append("shadowdesk_reader may not read it: no shadow holds it")
    if table.fence_class == SINK:
        found.append("written by triggers only: empty in the shadow, new rows counted")
    if table.owned and table.read_only and table.surface:
        found.append(f"read-only: {table.read_only}")
    return found


def _listed(columns: tuple[str, ...]) -> str:
    return columns[0] if len(columns) == 1 else f"({', '.join(columns)})"


def _edge(fk: ForeignKey) -> str:
    edge = f"({', '.join(fk.columns)}) -> {fk.parent}({', '.join(fk.parent_columns)})"
    if not isinstance(fk, DeclaredLink):
        return edge
    through = f" through {_edge(fk.lookup)}" if fk.lookup else ""
    return f"{edge}, declared{through}" + (f", when {fk.when}" if fk.when else "")
