"""Runs one gated statement on a shadow, as its role, inside one transaction, and captures its effect.

Called by the desk for steps and queries. The text goes to Postgres byte for byte by the extended protocol, so that one
string is one statement (Postgres docs 54.2.3).
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import pq, sql

from shadow.errors import QuotaExceeded, StatementFailed, StatementRefused
from shadow.fenced import fenced, fenced_key
from shadow.freshness import note_looks
from shadow.needs import DELETE, READ, WRITE
from shadow.shadow import Shadow, gone, idle, slot_name
from shadow.statement import GatedStatement, render

_DENIED = re.compile(r"^permission denied for (?:table|view|relation|sequence) (.+)$")
#: What is refused besides tables: a trigger may want it, a shadow does not have it.
_OTHER = re.compile(
    r"^permission denied (?:for|to) ((?:function|procedure|sequence|schema|foreign \w+|set parameter) .+)$"
)
_ATTEMPTS = 12
#: Rows read from a cursor at a time.
_FETCHED = 100


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Result rows as Postgres text; `truncated` when a cap cut them."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    truncated: bool


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What one statement did: rows counted by Postgres, RETURNING or SELECT rows, tables loaded for it."""

    row_count: int
    rows: Rows | None
    loaded: tuple[str, ...]


def execute(
    conn: psycopg.Connection[Any], text: bytes, params: tuple[str | None, ...], cap: int = 1000
) -> tuple[int, Rows | None]:
    """Sends the recorded bytes unchanged; returns Postgres' row count and any rows (text format).

    Raises psycopg errors built from the server's answer.
    """
    values = [None if value is None else value.encode() for value in params] if params else None
    result = conn.pgconn.exec_params(text, values)
    if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        raise psycopg.errors.error_from_result(result)
    rows = _rows(conn, result, cap) if result.status == pq.ExecStatus.TUPLES_OK else None
    return result.command_tuples or 0, rows


def _rows(conn: psycopg.Connection[Any], result: pq.abc.PGresult, cap: int) -> Rows:
    shown = min(result.ntuples, cap)
    oids = [result.ftype(c) for c in range(result.nfields)]
    names = [conn.adapters.types.get(oid) for oid in oids]
    return Rows(
        columns=tuple((result.fname(c) or b"?column?").decode() for c in range(result.nfields)),
        types=tuple(info.name if info else str(oid) for info, oid in zip(names, oids, strict=True)),
        rows=tuple(
            tuple(None if (cell := result.get_value(r, c)) is None else cell.decode() for c in range(result.nfields))
            for r in range(shown)
        ),
        truncated=result.ntuples > shown,
    )


def fill_pins(shadow: Shadow, gated: GatedStatement) -> GatedStatement:
    """Evaluates each pinned call once, before the step's own transaction starts, and records its text."""
    if not gated.pins:
        return gated
    source = gated.text.encode()
    with shadow.owner.transaction():
        pins = []
        for pin in gated.pins:
            call = source[pin.start : pin.end].decode()
            row = shadow.owner.execute(sql.SQL("SELECT ({})::text").format(sql.SQL(call))).fetchone()
            pins.append(replace(pin, value=row[0] if row else None))
    return replace(gated, pins=tuple(pins))


def needs(shadow: Shadow, gated: GatedStatement) -> dict[str, int]:
    """Table → level for the tables a statement names."""
    wanted = dict.fromkeys(gated.reads, READ)
    for name in gated.writes:
        wanted[name] = WRITE
    for name in gated.deletes | gated.key_updates:
        wanted[name] = DELETE
    return wanted


def run_step(shadow: Shadow, gated: GatedStatement, step: int) -> Ran:
    """Runs one kept statement as step number `step`; commits its rows, touched keys and after images together.

    Raises StatementFailed (rolled back, nothing kept) or StatementRefused (a table outside the fence).
    """
    schema_of = dict.fromkeys(gated.reads | gated.writes, shadow.surface)
    text = render(gated, schema_of)
    loaded = list(shadow.ensure(needs(shadow, gated)))
    _reserve_for(shadow, gated)
    _look(shadow, gated, step, schema_of)

    def attempt() -> tuple[int, Rows | None]:
        clocks = clock_texts(shadow.role, shadow.clock_types)
        shadow.role.execute(
            "SELECT shadowdesk.begin_step(%s, %s, %s, %s)",
            (step, list(clocks), list(clocks.values()), sorted(gated.writes)),
        )
        done = execute(shadow.role, text, gated.params)
        shadow.role.execute("SET CONSTRAINTS ALL IMMEDIATE")  # deferred triggers belong to the step's images
        shadow.role.execute("SELECT shadowdesk.finish_step(%s)", (step,))
        return done

    row_count, rows = _in_transaction(shadow, attempt, loaded)
    return Ran(row_count=row_count, rows=rows, loaded=tuple(loaded))


def run_query(
    shadow: Shadow,
    gated: GatedStatement,
    limit: int,
    schemas: Callable[[], Mapping[str, str]] | None = None,
    max_bytes: int = 1 << 20,
) -> Ran:
    """Reads from the shadow through its surface; a cursor stops at `limit` rows or the row that passes `max_bytes`.

    `schemas` is called when the tables are loaded and says where each one is read instead.
    """
    loaded = list(shadow.ensure(needs(shadow, gated)))
    schema_of = schemas() if schemas else dict.fromkeys(gated.reads, shadow.surface)
    text = render(gated, schema_of)
    _look(shadow, gated, None, schema_of)

    def attempt() -> tuple[int, Rows | None]:
        execute(shadow.role, b"DECLARE shadowdesk_query NO SCROLL CURSOR FOR " + text, gated.params)
        rows = _fetched(shadow, limit, max_bytes)
        shadow.role.execute("CLOSE shadowdesk_query")
        return len(rows.rows), rows

    row_count, rows = _in_transaction(shadow, attempt, loaded)
    return Ran(row_count=min(row_count, limit), rows=rows, loaded=tuple(loaded))


def _fetched(shadow: Shadow, limit: int, max_bytes: int) -> Rows:
    """At most `limit` rows, a few at a time, so that wide rows do not fill this process's memory."""
    kept: list[tuple[str | None, ...]] = []
    room = max_bytes
    while True:
        wanted = min(_FETCHED, limit + 1 - len(kept))
        _, rows = execute(shadow.role, f"FETCH FORWARD {wanted} FROM shadowdesk_query".encode(), ())
        if rows is None:
            raise psycopg.InterfaceError("FETCH answered without rows")
        for row in rows.rows:
            room -= sum(len(cell.encode()) for cell in row if cell is not None)
            if len(kept) == limit or room < 0:
                return replace(rows, rows=tuple(kept), truncated=True)
            kept.append(row)
        if len(rows.rows) < wanted:
            return replace(rows, rows=tuple(kept), truncated=False)


def _look(shadow: Shadow, gated: GatedStatement, step: int | None, schema_of: Mapping[str, str]) -> None:
    """Notes what the statement looks at, before it runs. Raises ShadowExpired when the shadow is gone."""
    try:
        note_looks(shadow, gated.looks, step, schema_of)
    except psycopg.Error as error:
        raise failed(shadow, error) from None


def _in_transaction(
    shadow: Shadow, attempt: Callable[[], tuple[int, Rows | None]], loaded: list[str]
) -> tuple[int, Rows | None]:
    """One transaction as the shadow's role; a table refused for want of rows is loaded and the step tried again."""
    for _ in range(_ATTEMPTS):
        try:
            with shadow.role.transaction():
                done = attempt()
            return done
        except psycopg.errors.InsufficientPrivilege as error:
            loaded.extend(_load_refused(shadow, error))
        except psycopg.Error as error:
            if error.sqlstate == "SD001":
                slot = str(error.diag.message_primary)
                shadow.reserve(slot, max(8, 4 * shadow.unused(slot)))
                continue
            raise failed(shadow, error) from None
    raise StatementFailed(
        "The statement kept asking for more tables or ids.",
        "Nothing was kept.",
        "Split it into smaller steps.",
    )


def _reserve_for(shadow: Shadow, gated: GatedStatement) -> None:
    for table_name, expected in gated.inserts:
        table = shadow.fence.tables[table_name].table
        for column in table.columns:
            given = (table_name, column.name) in gated.set_columns
            if column.draws == "sequence" and not given:
                if column.name in table.key and shadow.made_by_triggers(table_name):
                    raise _two_makers(table_name)
                slot = slot_name(table_name, column.name)
                # what only running tells is reserved then (SD001): values left over would come before recorded ones
                missing = (expected or 0) - shadow.unused(slot)
                if missing > 0:
                    shadow.reserve(slot, missing)


def _load_refused(shadow: Shadow, error: psycopg.Error) -> list[str]:
    """The table a trigger or view was refused, loaded deeper; StatementRefused when it may not be touched."""
    match = _DENIED.match(str(error.diag.message_primary))
    name = match[1].strip('"') if match else None
    named = [
        t
        for t in shadow.fence.tables.values()
        if name in (t.table.relation, t.table.name, *(part for _, part in t.table.partitions))
    ]
    inside = {t.table.name: t for t in named if t.fence_class != "outside"}
    if not inside:
        other = _OTHER.match(str(error.diag.message_primary))
        raise StatementRefused(
            "The statement or a trigger it fires needs"
            f" {other[1] if other else 'something'} outside the tenant's fence.",
            "It was rolled back: nothing was kept.",
            "Ask an engineer: the fence certificate (`shadowdesk fence`) says which tables are inside.",
        ) from None
    deepest = {
        name: READ if table.fence_class == "shared" or table.table.rules else DELETE for name, table in inside.items()
    }
    deeper = {name: shadow.level(name) + 1 for name in inside if shadow.level(name) < deepest[name]}
    if not deeper:
        raise StatementRefused(
            f"Table {name} is {' and '.join(t.fence_class for t in inside.values())} and may not be written here"
            f"{'; it has rewrite rules' if any(t.table.rules for t in inside.values()) else ''}.",
            "The statement was rolled back: nothing was kept.",
            "Change only the tenant's own tables, or ask an engineer.",
        ) from None
    return shadow.ensure(deeper)


def clock_texts(conn: psycopg.Connection[Any], types: Mapping[str, str]) -> dict[str, str]:
    """The running transaction's time as Postgres writes it in each column type; `types` maps to the date/time type.

    A domain's own name is not used: its check may not hold for this moment.
    """
    if not types:
        return {}
    cells = sql.SQL(", ").join(sql.SQL("now()::{}::text").format(sql.SQL(t)) for t in types.values())
    row = conn.execute(sql.SQL("SELECT {}").format(cells)).fetchone()
    return dict(zip(types, row or (), strict=True))


def _no_key(table: str) -> StatementRefused:
    return StatementRefused(
        f"The statement, a cascade or a trigger would change or remove rows of {table}, which has no key to verify"
        " rows by.",
        "It was rolled back: nothing was kept.",
        f"Leave those rows alone, or ask an engineer: a primary key on {table} makes this possible.",
    )


def _two_makers(table: str) -> StatementRefused:
    return StatementRefused(
        f"Both statements and a trigger insert rows into {table}: nobody can say which row will have which id on"
        " production.",
        "It was rolled back: nothing was kept.",
        "Make the change in two dry runs, or ask an engineer.",
    )


def _for_everybody(table: str) -> StatementRefused:
    return StatementRefused(
        f"The statement, a cascade or a trigger would write rows of {table} that have no tenant and are for everybody.",
        "It was rolled back: nothing was kept.",
        "Narrow the statement to the tenant's own rows; rows for everybody can be read here, not written.",
    )


#: What the bookkeeping's own functions refuse, by SQLSTATE.
_REFUSALS: Mapping[str, Callable[[str], StatementRefused]] = {
    "SD003": _no_key, "SD004": _two_makers, "SD005": _for_everybody,
}  # fmt: skip
_WORDS: Mapping[str, str] = {
    "23502": "a required column would be empty",
    "23503": "a row it refers to is missing, or a row that others refer to would go",
    "23001": "a row that others refer to would go",
    "23505": "a unique value would appear twice",
    "23514": "a check rule says no",
    "23P01": "it would overlap another row where none may",
    "44000": "a row would leave the tenant's fence",
    "57014": "it ran longer than a statement may",
    "42703": "a column is unknown",
    "42883": "a function or operator does not exist for these types",
    "22P02": "a value has the wrong form for its column",
    "22003": "a number is out of range",
    "428C9": "a generated column cannot be given a value",
}


def _primary(error: psycopg.Error) -> str:
    """A message that may hold no cell's value: of the classes that only speak of the statement and its names."""
    if str(error.sqlstate).startswith("42"):
        return fenced(str(error.diag.message_primary or ""))
    constraint = error.diag.constraint_name
    return (
        f"constraint {fenced_key([constraint])}" if constraint else "the message may hold masked values and is left out"
    )


def failed(shadow: Shadow, error: psycopg.Error) -> Exception:
    """A driver error in our words: only the primary message of the shadow is shown, fenced, and never DETAIL.

    The message may repeat a value of a row, or be what an app's trigger made of one.
    """
    if error.sqlstate == "25P03":
        return idle()
    with suppress(psycopg.Error):
        if shadow.role.closed or error.sqlstate is None:
            return gone()
    refusal = _REFUSALS.get(str(error.sqlstate))
    if refusal is not None:
        return refusal(str(error.diag.message_primary))
    if error.sqlstate in ("53100", "53200", "53400", "54000"):
        return QuotaExceeded("The statement needs more room than a shadow has.", "Nothing was kept.", "Narrow it down.")
    if error.sqlstate == "55P03":
        return QuotaExceeded(
            "The statement waited for a lock on the shadow's rows for longer than it may (limits.lock_timeout_s).",
            "Nothing was kept: the shadow is as before this step, production was not touched.",
            "Somebody may be looking at this shadow with psql: let them finish, then run the statement again.",
        )
    why = _WORDS.get(str(error.sqlstate), "Postgres refused it")
    primary = _primary(error) if shadow.quiet else fenced(str(error.diag.message_primary or ""))
    told = StatementFailed(
        f"The statement failed on the shadow: {why} ({primary}; SQLSTATE {error.sqlstate}).",
        "It was rolled back: the shadow is as before this step, production was not touched.",
        "Correct the statement and run it again.",
    )
    told.taken = error.sqlstate in ("23505", "23P01")
    return told
