"""Tries the rights that each role must have and must not have, and takes everything back; used by `doctor.py`.

A privilege function answers for one grant; trying also finds ownership, inherited roles and policies. Every probe runs
in a transaction that is rolled back and touches no row (`WHERE false`).
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from shadow.fence import Fence
from shadow.predicate import Predicates, base
from shadow.tenant_key import key_text

Connection = psycopg.Connection[Any]

_CHANGES = {
    "UPDATE": sql.SQL("UPDATE audit.events SET seq = seq WHERE false"),
    "DELETE": sql.SQL("DELETE FROM audit.events WHERE false"),
    "TRUNCATE": sql.SQL("TRUNCATE audit.events"),
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at; `mend` says what to do when it is not ok."""

    name: str
    ok: bool
    detail: str
    mend: str = ""


def may(conn: Connection, statement: sql.SQL | sql.Composed) -> bool | None:
    """True when the statement runs, False when Postgres denies the right to it, None when it fails otherwise."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute("SET LOCAL lock_timeout = '2s'")
            conn.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return False
    except psycopg.Error:
        return None
    return True


def _check(name: str, found: bool | None, wanted: bool, detail: str, mend: str) -> Check:
    if found is None:
        return Check(
            name=name, ok=False, detail=f"{detail}: could not be tried", mend="Run it again; a lock may be held."
        )
    return Check(name=name, ok=found is wanted, detail=f"{detail}: {'allowed' if found else 'denied'}", mend=mend)


def app_tables(
    conn: Connection, schemas: Sequence[str], closed: Container[tuple[str, str]] = ()
) -> list[sql.Identifier]:
    """Ordinary and partitioned tables of the app's schemas, but for the `closed` ones."""
    rows = conn.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY(%s) ORDER BY 1, 2", (list(schemas),)
    ).fetchall()  # fmt: skip
    return [sql.Identifier(schema, name) for schema, name in rows if (schema, name) not in closed]


def reader_rights(conn: Connection, schemas: Sequence[str]) -> Iterator[Check]:
    """The reader may change nothing and make nothing."""
    mend = "Revoke what was granted beside `shadowdesk install`; the reader must not own tables."
    tables = app_tables(conn, schemas)
    written = [t.as_string(conn) for t in tables if may(conn, sql.SQL("DELETE FROM {} WHERE false").format(t))]
    yield Check(
        name="reader was refused a DELETE everywhere", ok=not written,
        detail=", ".join(written[:5]) or f"tried on {len(tables)} tables", mend=mend,
    )  # fmt: skip
    for what, statement in _making(schemas[0]):
        yield _check(f"reader may not make {what}", may(conn, statement), False, "tried", mend)


def _making(schema: str) -> Iterator[tuple[str, sql.SQL | sql.Composed]]:
    name = sql.Identifier(schema, "shadowdesk_doctor")
    yield "a table among the app's", sql.SQL("CREATE TABLE {} (x int)").format(name)
    yield "a schema", sql.SQL("CREATE SCHEMA shadowdesk_doctor")


def applier_rights(
    conn: Connection, schemas: Sequence[str], closed: Container[tuple[str, str]] = ()
) -> Iterator[Check]:
    """The applier may change rows and make its ephemeral schema, and nothing beyond.

    It needs no right on the `closed` tables, (schema, name), which the reader may not read: no shadow holds them.
    """
    mend = "Run `shadowdesk install --apply` again and revoke what was granted beside it."
    tables = app_tables(conn, schemas, closed)
    denied = [t.as_string(conn) for t in tables if not may(conn, sql.SQL("DELETE FROM {} WHERE false").format(t))]
    yield Check(
        name="applier may change every app table", ok=not denied,
        detail=", ".join(denied[:5]) or f"tried on {len(tables)} tables", mend=mend,
    )  # fmt: skip
    schema = sql.SQL("CREATE SCHEMA fence_doctor")
    yield _check("applier may make the fence schema", may(conn, schema), True, "tried and rolled back", mend)
    table = sql.SQL("CREATE TABLE {} (x int)").format(sql.Identifier(schemas[0], "shadowdesk_doctor"))
    yield _check("applier may not make a table among the app's", may(conn, table), False, "tried", mend)
    secrets = sql.SQL("SELECT rolpassword FROM pg_authid WHERE false")
    yield _check("applier may not read password hashes", may(conn, secrets), False, "pg_authid", mend)
    receipts = sql.SQL("DELETE FROM shadowdesk.receipts WHERE false")
    yield _check("applier may not take receipts back", may(conn, receipts), False, "DELETE", mend)


def audit_rights(role: str, url: str) -> Iterator[Check]:
    """Neither role of the control database may change or remove a line of the audit trail."""
    mend = "Revoke it: only INSERT and SELECT on audit.events, and only for shadowdesk_audit."
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
        for word, statement in _CHANGES.items():
            yield _check(f"{role} may not {word} audit lines", may(conn, statement), False, "tried", mend)


def conditions(conn: Connection, fence: Fence) -> Iterator[Check]:
    """Every predicate of the fence, the operator's own conditions included, is SQL that production understands."""
    wrong = []
    key = conn.execute(
        sql.SQL("SELECT {} FROM {} LIMIT 1").format(key_text(fence.key), base(fence.tables[fence.root]))
    ).fetchone()
    for name, table in fence.tables.items():
        if key is not None and table.owned and (table.when or table.declared):
            asked = sql.SQL("SELECT FROM {} AS t WHERE {} LIMIT 0").format(
                base(table), Predicates(fence, str(key[0])).inside(table, "t")
            )
            if not may(conn, asked):
                wrong.append(name)
    yield Check(
        name="conditions of declared links", ok=not wrong, detail=", ".join(wrong) or "understood by production",
        mend="Correct `when` in [fence.tables.X]: it is SQL over the row's own columns, or the looked up row's.",
    )  # fmt: skip


def settings(conn: Connection) -> Iterator[Check]:
    """Settings of production that dry runs and replays rest on."""
    row = conn.execute(
        "SELECT current_setting('max_connections')::int, (SELECT count(*) FROM pg_stat_activity WHERE backend_type ="
        " 'client backend')::int, current_setting('superuser_reserved_connections')::int"
    ).fetchone()
    most, used, reserved = row or (0, 0, 0)
    yield Check(
        name="connections left", ok=most - reserved - used >= 10, detail=f"{used} of {most} in use",
        mend="Raise max_connections, or put fewer servers on this production: a dry run holds one, a load one more.",
    )  # fmt: skip
    blocked = conn.execute(
        "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.rolname = current_user WHERE c.relrowsecurity"
        " AND c.relkind IN ('r', 'p') AND NOT r.rolbypassrls AND NOT r.rolsuper"
        " AND (c.relforcerowsecurity OR c.relowner <> r.oid) AND c.relnamespace NOT IN"
        " (SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema', 'shadowdesk'))"
    ).fetchone()
    tables = int(blocked[0]) if blocked else 0
    yield Check(
        name=f"row level security lets {conn.info.user} read", ok=tables == 0, detail=f"{tables} tables with policies",
        mend=f"ALTER ROLE {conn.info.user} BYPASSRLS: a filtered read would look like rows that are not there.",
    )  # fmt: skip
