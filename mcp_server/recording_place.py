"""A recording's own place to run: a throw-away server whose production holds the recorded schema and rows.

A recording may come from anywhere, and the throw-away server's owner may start programs as whoever runs this. So its
SQL is never given to psql, whose backslash commands are a shell, and is restored, loaded and read by a role without
rights; what the owner would have to compute with functions of the recording's own is refused unless it is trusted.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from differ.text import neutralise
from mcp_server.errors import ConfigurationInvalid
from mcp_server.production import Production, ProductionSettings
from mcp_server.recording import rules_from_json
from mcp_server.shadows import Shadows, ShadowSettings
from mcp_server.surface import gate_surface
from shadow.embedded import open_sandbox, throw_away_folder
from shadow.errors import StatementRefused
from shadow.fence import Fence
from shadow.gate import gate
from shadow.sandbox import Sandbox, SandboxLimits

_ROLE = "recorded"
#: What pg_dump writes for psql alone; every other backslash outside of a text is an error of syntax here.
_FOR_PSQL = re.compile(r"^\\(un)?restrict [A-Za-z0-9]+\r?$", re.MULTILINE)
#: Functions and operators made by the recording (extensions' own left out) that the owner evaluates as it copies rows:
#: in checks, generated columns, indexes, statistics, casts, types, and in triggers that fire always.
_EVALUATED = """
SELECT EXISTS (
  SELECT FROM pg_catalog.pg_depend d
  WHERE d.refclassid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass)
    AND d.refobjid >= 16384 AND d.deptype <> 'e'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                    WHERE e.deptype = 'e' AND e.classid = d.refclassid AND e.objid = d.refobjid)
    AND d.classid NOT IN ('pg_catalog.pg_rewrite'::regclass, 'pg_catalog.pg_proc'::regclass,
                          'pg_catalog.pg_policy'::regclass)
    AND NOT (d.classid = 'pg_catalog.pg_trigger'::regclass AND EXISTS (
      SELECT FROM pg_catalog.pg_trigger t WHERE t.oid = d.objid AND t.tgenabled IN ('O', 'D')))
    AND NOT (d.classid = 'pg_catalog.pg_attrdef'::regclass AND EXISTS (
      SELECT FROM pg_catalog.pg_attrdef f JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid
        AND a.attnum = f.adnum WHERE f.oid = d.objid AND a.attgenerated = '')))
"""
_OF_THE_PROBE = """
SELECT EXISTS (
  SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
  WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND r.ev_class = 'pg_temp.probe'::regclass
    AND d.refclassid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass)
    AND d.refobjid >= 16384)
"""


@contextmanager
def recorded_place(
    document: Mapping[str, Any], definitions: str, *, trusted: bool
) -> Iterator[tuple[Production, Shadows]]:
    """One throw-away server that plays production and sandbox; the recorded rows are all that production holds.

    Raises ConfigurationInvalid where the recording cannot be restored, or is not `trusted` and would have to be.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(throw_away_folder("shadowdesk-recording-"))
        server = stack.enter_context(open_sandbox(folder / "postgres"))
        password = secrets.token_urlsafe(24)
        with psycopg.connect(server.owner_url, autocommit=True) as conn:
            _make_role(conn, password)
        own = make_conninfo(server.owner_url, dbname="recorded", user=_ROLE, password=password)
        url = make_conninfo(server.owner_url, dbname="recorded") if trusted else own
        _restore(url, definitions)
        if not trusted:
            _refuse_evaluated(url)
        _load(url, document)
        settings = ProductionSettings(
            reader_url=url, rules=rules_from_json(document["fence"]), search_path=tuple(document["search_path"])
        )
        production = Production(settings, probed=False)  # one throw-away server, nobody's rows
        stack.callback(production.close)
        if not trusted:
            _refuse_expressions(url, document, production.fence())
        sandbox = Sandbox(server.owner_url, SandboxLimits())
        shadows = Shadows(production, sandbox, server.bin_dir, ShadowSettings(pool=0))
        stack.callback(shadows.close)
        yield production, shadows


def _make_role(conn: psycopg.Connection[Any], password: str) -> None:
    role = sql.Identifier(_ROLE)
    conn.execute(
        sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD {}").format(
            role, sql.Literal(password)
        )
    )
    # Triggers and keys are off while it loads; only the owner may say so.
    conn.execute(sql.SQL("ALTER ROLE {} SET session_replication_role = replica").format(role))
    conn.execute(sql.SQL("CREATE DATABASE recorded TEMPLATE template0 OWNER {}").format(role))
    conn.execute("REVOKE CONNECT, TEMPORARY ON DATABASE recorded FROM PUBLIC")  # the shadows' roles are on this server


def _restore(url: str, definitions: str) -> None:
    try:
        with psycopg.connect(url) as conn:
            conn.execute(_FOR_PSQL.sub("", definitions).encode())
    except (psycopg.Error, UnicodeEncodeError) as error:
        diagnostics = getattr(error, "diag", None)
        why = (diagnostics.message_primary if diagnostics else None) or type(error).__name__
        raise ConfigurationInvalid(
            f"The recorded definitions cannot be restored: {neutralise(why, 300)}.",
            "No statement of the recording ran.",
            "They run as a role without special rights, and psql's own commands are not read. If this is a recording"
            " of yours that needs more, run it with --trust.",
        ) from None


def _load(url: str, document: Mapping[str, Any]) -> None:
    """Puts the recorded rows into the restored tables, triggers and key checks off."""
    try:
        _copy(url, document)
    except (psycopg.Error, KeyError) as error:
        state = getattr(error, "sqlstate", None)
        raise ConfigurationInvalid(
            f"The recorded rows do not fit the definitions{f' (SQLSTATE {state})' if state else ''}.",
            "No statement of the recording ran.",
            "Export it again, or run it on a schema that still takes its rows.",
        ) from None


def _copy(url: str, document: Mapping[str, Any]) -> None:
    with psycopg.connect(url) as conn:
        if conn.info.user != _ROLE:  # that role has it set already, and may not set it
            conn.execute("SET session_replication_role = replica")
        path = sql.SQL(", ").join(sql.Identifier(name) for name in document["search_path"])
        conn.execute(sql.SQL("SET search_path = {}").format(path))
        for name, table in document["rows"].items():
            target = sql.Identifier(*name.split("."))
            columns = sql.SQL(", ").join(sql.Identifier(c) for c in table["columns"])
            with conn.cursor() as cur, cur.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(target, columns)) as copy:
                for row in table["rows"]:
                    copy.write_row(row)
        _advance(conn)


def _advance(conn: psycopg.Connection[Any]) -> None:
    """Sequences behind the loaded rows: new keys must not meet recorded ones."""
    owned = conn.execute(
        "SELECT format('%I.%I', n.nspname, c.relname), a.attname, s.oid::regclass::text FROM pg_class s"
        " JOIN pg_depend d ON d.objid = s.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')"
        " JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid WHERE s.relkind = 'S'"
    ).fetchall()
    for table, column, sequence in owned:
        conn.execute(
            sql.SQL("SELECT setval({}::regclass, (SELECT max({}) FROM {}) + 1000000) FROM {} LIMIT 1").format(
                sql.Literal(sequence), sql.Identifier(column), sql.SQL(table), sql.SQL(table)
            )
        )


def _refuse_evaluated(url: str) -> None:
    """Refuses a schema whose own functions the throw-away server's owner would run as it copies rows."""
    with psycopg.connect(url) as conn:
        row = conn.execute(_EVALUATED).fetchone()
    if row is None or row[0]:
        raise _untrusted("Its schema computes checks, indexes or other values with functions of its own")


def _refuse_expressions(url: str, document: Mapping[str, Any], fence: Fence) -> None:
    """Refuses measures and conditions that are more than an expression: they run as the server's owner too."""
    path = sql.SQL(", ").join(sql.Identifier(name) for name in document["search_path"])
    surface = gate_surface(fence, document["tenant"], frozenset())
    for what, query in _expressions(document, fence):
        try:
            gate(query, (), surface, query=True)
            with psycopg.connect(url) as conn:
                conn.execute(sql.SQL("SET search_path = {}").format(path))
                conn.execute(f"CREATE TEMP VIEW probe AS {query}".encode())
                row = conn.execute(_OF_THE_PROBE).fetchone()
                conn.rollback()
        except (StatementRefused, psycopg.Error):
            row = None
        if row is None or row[0]:
            raise _untrusted(f"{neutralise(what, 120)} is no plain expression over its table")


def _expressions(document: Mapping[str, Any], fence: Fence) -> Iterator[tuple[str, str]]:
    """Every SQL expression that the document brings beside its statements, as a query over its own table."""
    for measure in document["measures"]:
        where = str(measure.get("where") or "").strip() or "true"
        yield f"The measure {measure['name']}", _query(measure["table"], str(measure["sum"]), where)
    for name, table in fence.tables.items():
        if table.when:
            yield f"The condition of {name}", _query(name, table.when, "true")
        for link in table.declared:
            if link.when:
                over = link.lookup.parent if link.lookup else name
                yield f"The condition of a link of {name}", _query(over, link.when, "true")


def _query(table: str, *expressions: str) -> str:
    name = sql.Identifier(*table.split(".")).as_string(None)
    chosen = ", ".join(f"({one}) AS a{number}" for number, one in enumerate(expressions))
    return f"SELECT {chosen} FROM {name}"  # noqa: S608 - never run: the gate and a view in a rolled back transaction


def _untrusted(happened: str) -> ConfigurationInvalid:
    return ConfigurationInvalid(
        f"{happened}.",
        "No statement of the recording ran: such code would run with your own rights.",
        "Run it with --trust if you would run a program from where it comes, or with --config on a database of yours.",
    )
