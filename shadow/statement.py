"""What the gate knows about one statement, and how its text is rendered for a schema.

Made by `shadow.gate`; read by the dry run, the rehearsal and the replay, which render the same text for other schemas.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["select", "insert", "update", "delete", "merge"]


@dataclass(frozen=True, kw_only=True)
class SurfaceTable:
    """One table that statements may name.

    `columns` maps each column, in the view's order, to format_type's text; `key` is the key rows are known by;
    `unique_keys` are all unique keys; `unique_with_tenant` those of them that contain the tenant columns or a fenced
    parent's key, so that ON CONFLICT cannot meet a row outside the fence; `defaults` maps columns to the text of
    their default expression; `always` are identity columns GENERATED ALWAYS, whose ids only we may give;
    `read_only` is why an owned table may not be written.
    """

    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    unique_keys: tuple[frozenset[str], ...]
    unique_with_tenant: tuple[frozenset[str], ...]
    not_null: frozenset[str]
    tenant_columns: tuple[str, ...]
    writable: bool
    fence_class: str
    defaults: Mapping[str, str]
    always: frozenset[str] = frozenset()
    read_only: str = ""


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Everything a statement may touch, as the desk read it from the server.

    `functions` maps the names of pg_catalog's functions to the worst volatility among their overloads
    ('i', 's' or 'v'); `allow_functions` are names the owner's configuration adds; `outside` are tables that exist
    but are not on the surface; `parts` names the table of each partition or inheriting table; `tenant_key` is the text
    of the tenant's key.
    """

    tables: Mapping[str, SurfaceTable]
    tenant_key: str
    functions: Mapping[str, str]
    allow_functions: frozenset[str]
    server_version: int
    outside: frozenset[str]
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GateLimits:
    """How large a statement may be: bytes and tokens of its text, nesting, parameters, and literal bounds.

    `max_param_bytes` is for all parameters together; `max_generated` bounds generate_series, repeat, lpad and rpad.
    `give_ids` lets a statement name ids of identity ALWAYS columns: for the inverse of a proposal only.
    """

    max_bytes: int = 65_536
    max_tokens: int = 10_000
    max_depth: int = 250
    max_params: int = 1_000
    max_param_bytes: int = 262_144
    max_generated: int = 10_000
    give_ids: bool = False


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One table reference: the UTF-8 byte range of the relation's name as written, without its alias."""

    start: int
    end: int
    schema: str | None
    table: str


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One call whose value is recorded: its UTF-8 byte range and type; `function` can be evaluated as it stands.

    `value` is None until the dry run has evaluated it: Postgres' own text of the value afterwards.
    """

    start: int
    end: int
    function: str
    value: str | None
    type: str


@dataclass(frozen=True, kw_only=True)
class Look:
    """Rows a statement looks at: those of `table` (under `alias`) that meet `condition`; all of them where it is ''."""

    table: str
    alias: str
    condition: str


@dataclass(frozen=True, kw_only=True)
class GatedStatement:
    """A statement that passed the gate: the author's text and parameters, and what was read from them.

    `inserts` holds, per INSERT target, the number of VALUES rows or None where only running tells; `set_columns`
    every (table, column) assigned; `key_updates` the tables an UPDATE assigns a column of a unique key of;
    `overriding` the byte places where OVERRIDING SYSTEM VALUE is inserted, so that a reserved id can be given to an
    identity column GENERATED ALWAYS (Postgres docs, INSERT).
    """

    text: str
    params: tuple[str | None, ...]
    kind: Kind
    slots: tuple[Slot, ...]
    pins: tuple[Pin, ...]
    reads: frozenset[str]
    writes: frozenset[str]
    deletes: frozenset[str]
    set_columns: frozenset[tuple[str, str]]
    key_updates: frozenset[str]
    inserts: tuple[tuple[str, int | None], ...]
    warnings: tuple[str, ...]
    returning: bool
    overriding: tuple[int, ...] = ()
    looks: tuple[Look, ...] = ()


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(pin: Pin) -> str:
    if pin.value is None:
        raise ValueError(f"the pin of {pin.function} at byte {pin.start} has no value yet")
    value = pin.value.replace("'", "''")
    return f"('{value}'::{pin.type})"


def render(gated: GatedStatement, schema_of: Mapping[str, str]) -> bytes:
    """The author's bytes with each table name qualified by `schema_of[table]` and each pin replaced by its literal.

    Aliases and qualifiers such as `contracts.id` stay as they are: a view of that name answers to them.
    Raises KeyError for a table without a schema and ValueError for a pin without a value.
    """
    raw = gated.text.encode("utf-8")
    pieces = [(s.start, s.end, f"{_identifier(schema_of[s.table])}.{_identifier(s.table)}") for s in gated.slots]
    pieces += [(p.start, p.end, _literal(p)) for p in gated.pins]
    pieces += [(place, place, " OVERRIDING SYSTEM VALUE") for place in gated.overriding]
    out = bytearray()
    done = 0
    for start, end, replacement in sorted(pieces):
        out += raw[done:start] + replacement.encode("utf-8")
        if _runs_into(out, raw[end : end + 1]):
            out += b" "
        done = end
    return bytes(out + raw[done:])


def _runs_into(out: bytearray, following: bytes) -> bool:
    """Whether what was put in would be one word with what follows: `contracts"a"` has no space for its alias."""
    quoted = following in (b'"', b"'") and out.endswith(following)
    return quoted or (out[-1:].isalnum() and (following.isalnum() or following in (b'"', b"'", b"_", b"$")))
