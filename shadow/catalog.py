"""What production's catalog says about the app's tables; read once per schema version by the desk, as the reader."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import psycopg
from psycopg.rows import dict_row

from shadow.sql import block
from shadow.unreadable import LeftOut, read_left_out

_CLOCK = r"(?:now\(\)|transaction_timestamp\(\)|(?:current_(?:date|timestamp|time)|localtime(?:stamp)?)\b(?:\(\d\))?)"
_CAST = r"(?:::[a-z][a-z0-9 ()]*)?"
_UTC = r"'(?:utc|gmt|etc/utc)'::text"
#: Defaults that are the transaction's clock itself: their cells are clock cells, never pins (design 4.3.3).
_PURE_CLOCK = re.compile(
    rf"\(*{_CLOCK}\)*{_CAST}\)*{_CAST}"
    rf"|\(?\(*{_CLOCK}\)* at time zone {_UTC}\)?{_CAST}|timezone\({_UTC}, {_CLOCK}\){_CAST}",
    re.IGNORECASE,
)
#: Defaults that reckon with the clock (in two weeks, this year's number): recorded, like every other drawn value.
_WITH_CLOCK = re.compile(rf"(?<!\w)(?:{_CLOCK}|statement_timestamp\(\))", re.IGNORECASE)
_SESSION = re.compile(
    r"(?<!['\w])(current_user|session_user|current_role|\"current_user\"\(\)|system_user|current_setting\(|pg_backend_pid\(|"
    r"inet_client_addr\()",
    re.IGNORECASE,
)
_CALL = re.compile(r'([a-zA-Z_][\w]*)"?\s*\(')
#: A number of a sequence inside a default, with the sequence's name as a literal.
NEXTVAL = re.compile(r"nextval\(('(?:[^']|'')*')::regclass\)")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column; `draws` says where an omitted value comes from: '', 'sequence', 'volatile' or 'clock'.

    `clock` is the date/time type that the column has, or that its domain is made of; '' for every other column.
    """

    name: str
    type: str
    not_null: bool
    default: str | None
    identity: str
    generated: str
    nested: bool
    sequence: tuple[str, str] | None
    draws: str
    clock: str = ""
    #: Whether the reader may look at the sequence.
    sequence_seen: bool = True


@dataclass(frozen=True, kw_only=True)
class ForeignKey:
    """A foreign key, child to parent; `on_delete`/`on_update` are pg_constraint's letters (a r c n d)."""

    name: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    on_delete: str
    on_update: str
    deferred: bool


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One trigger and the source of its function."""

    name: str
    function: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table; `key` is the primary key, else the first unique NOT NULL index, else empty.

    `kind` is pg_class's relkind, or 'i' for a parent in table inheritance; `partitions` are a partitioned table's own
    (schema, name); `rules` says that rewrite rules change what a statement on it does.
    """

    name: str
    schema: str
    relation: str
    oid: int
    kind: str
    estimated_rows: int
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    unique_keys: tuple[frozenset[str], ...]
    foreign_keys: tuple[ForeignKey, ...]
    triggers: tuple[Trigger, ...]
    partitions: tuple[tuple[str, str], ...] = ()
    rules: bool = False
    #: Names of the tables that inherit from it.
    heirs: tuple[str, ...] = ()
    #: The reader may not read it: no shadow holds it.
    unreadable: bool = False
    #: The table without which no shadow can hold this one as production has it; '' where it needs none.
    rests_on: str = ""

    @property
    def stored_in(self) -> tuple[tuple[str, str], ...]:
        """The (schema, name) of every relation that holds rows of this table."""
        return self.partitions or ((self.schema, self.relation),)

    def column(self, name: str) -> Column:
        """The column of that name; KeyError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All app tables by display name (bare where that is unambiguous, else schema.table)."""

    tables: Mapping[str, Table]
    functions: Mapping[str, str]
    routines: Mapping[str, str]
    fingerprint: str
    server_version: int
    schemas: tuple[str, ...]
    #: Tables and views, of any schema, that the reader may not read or that need one of those: not in the mirror.
    left_out: tuple[str, ...] = ()

    @cached_property
    def partition_of(self) -> dict[str, str]:
        """Every partition's bare name in lower case → its table: triggers may name it."""
        return {part.lower(): name for name, table in self.tables.items() for _, part in table.partitions}

    @cached_property
    def parts(self) -> dict[str, str]:
        """Every partition's and inheriting table's bare name → the table whose rows it holds."""
        found = {part: name for name, table in self.tables.items() for part in table.heirs}
        found |= {part: name for name, table in self.tables.items() for _, part in table.partitions}
        return {part: name for part, name in found.items() if part not in self.tables}

    @cached_property
    def clock_types(self) -> dict[str, str]:
        """Every column type that can show the transaction's clock → the date/time type below it."""
        return {c.type: c.clock for t in self.tables.values() for c in t.columns if c.clock}


def read_fingerprint(conn: psycopg.Connection[Any], schemas: Sequence[str]) -> str:
    """The schema version: changes with any DDL on the app's schemas."""
    row = conn.execute(block("catalog_fingerprint"), {"schemas": list(schemas)}).fetchone()
    return str(row[0]) if row else ""


def read_catalog(conn: psycopg.Connection[Any], schemas: Sequence[str]) -> Catalog:
    """Reads every app table of `schemas` (the first names are production's search_path)."""
    with conn.cursor(row_factory=dict_row) as cur:
        tables = cur.execute(block("catalog_tables"), {"schemas": list(schemas)}).fetchall()
        oids = {"oids": [row["oid"] for row in tables]}
        columns = _by_oid(cur.execute(block("catalog_columns"), oids).fetchall())
        keys = _by_oid(cur.execute(block("catalog_keys"), oids).fetchall())
        links = _by_oid(cur.execute(block("catalog_foreign_keys"), oids).fetchall())
        triggers = _by_oid(cur.execute(block("catalog_triggers"), oids).fetchall())
        functions = {r["name"]: r["volatility"] for r in cur.execute(block("catalog_functions")).fetchall()}
        routines = cur.execute(block("catalog_routines"), {"schemas": list(schemas)}).fetchall()
    left_out = read_left_out(conn)
    names = _display_names(tables, schemas)
    volatile = {**functions, **{r["name"]: r["volatility"] for r in routines}}
    found = {
        names[row["oid"]]: _standing(_table(row, names, columns, keys, links, triggers, volatile), left_out)
        for row in tables
    }
    return Catalog(
        tables=found,
        functions=functions,
        routines={r["name"]: r["source"] for r in routines},
        fingerprint=read_fingerprint(conn, schemas),
        server_version=conn.info.server_version,
        schemas=tuple(schemas),
        left_out=left_out.names,
    )


def _standing(table: Table, left_out: LeftOut) -> Table:
    """The table with what the reader's rights make of it."""
    if not left_out.objects:
        return table
    return replace(table, unreadable=table.oid in left_out.unreadable, rests_on=left_out.resting.get(table.oid, ""))


def _by_oid(rows: Iterable[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["oid"], []).append(row)
    return found


def _display_names(tables: Sequence[dict[str, Any]], schemas: Sequence[str]) -> dict[int, str]:
    """Bare names resolve as production's search_path would; a hidden twin keeps its schema's name."""
    ranked = sorted(tables, key=lambda row: list(schemas).index(row["schema"]))
    taken: set[str] = set()
    names: dict[int, str] = {}
    for row in ranked:
        bare = row["name"]
        names[row["oid"]] = bare if bare not in taken else f"{row['schema']}.{bare}"
        taken.add(bare)
    return names


def _table(
    row: dict[str, Any],
    names: Mapping[int, str],
    columns: Mapping[int, list[dict[str, Any]]],
    keys: Mapping[int, list[dict[str, Any]]],
    links: Mapping[int, list[dict[str, Any]]],
    triggers: Mapping[int, list[dict[str, Any]]],
    volatile: Mapping[str, str],
) -> Table:
    oid = row["oid"]
    own_keys = keys.get(oid, [])
    usable = [k for k in own_keys if k["is_primary"] or k["not_null"]]
    return Table(
        name=names[oid],
        schema=row["schema"],
        relation=row["name"],
        oid=oid,
        kind=row["kind"],
        estimated_rows=row["estimated_rows"],
        columns=tuple(_column(c, volatile) for c in columns.get(oid, [])),
        key=tuple(usable[0]["columns"]) if usable else (),
        unique_keys=tuple(frozenset(k["columns"]) for k in own_keys),
        foreign_keys=tuple(_link(link, names) for link in links.get(oid, []) if link["parent_oid"] in names),
        triggers=tuple(
            Trigger(name=t["name"], function=t["function"], source=t["source"])
            for t in triggers.get(oid, [])
            if t["enabled"] != "D"
        ),
        rules=row["rules"],
        partitions=tuple((schema, name) for schema, name in row["partitions"] or ()),
        heirs=tuple(row["heirs"] or ()),
    )


def _link(link: dict[str, Any], names: Mapping[int, str]) -> ForeignKey:
    return ForeignKey(
        name=link["name"],
        columns=tuple(link["columns"]),
        parent=names[link["parent_oid"]],
        parent_columns=tuple(link["parent_columns"]),
        on_delete=link["on_delete"],
        on_update=link["on_update"],
        deferred=link["deferred"],
    )


def _column(row: dict[str, Any], volatile: Mapping[str, str]) -> Column:
    sequence = (row["sequence_schema"], row["sequence_name"]) if row["sequence_name"] else None
    return Column(
        name=row["name"],
        type=row["type"],
        not_null=row["not_null"],
        default=None if row["generated"] else row["default_text"],
        identity=row["identity"],
        generated=row["generated"],
        nested=row["nested"],
        sequence=sequence,
        draws="" if row["generated"] else _draws(row["default_text"], sequence, volatile),
        clock=row["clock"],
        sequence_seen=row["sequence_seen"],
    )


def _draws(default: str | None, sequence: tuple[str, str] | None, volatile: Mapping[str, str]) -> str:
    if sequence is not None:
        return "sequence"
    if default is None:
        return ""
    if _PURE_CLOCK.fullmatch(default):
        return "clock"
    drawn = _WITH_CLOCK.search(default) or any(volatile.get(name) == "v" for name in _CALL.findall(default))
    return "volatile" if drawn else ""


def unrepeatable(column: Column, routines: Mapping[str, str]) -> bool:
    """True when the default says who runs the statement, or a function of the app draws its number by itself.

    Neither can be foreseen for production: a statement has to give such a column its value.
    """
    called = _CALL.findall(column.default or "")
    hidden = column.sequence is None and any("nextval" in routines.get(name, "").lower() for name in called)
    return hidden or bool(_SESSION.search(column.default or ""))
