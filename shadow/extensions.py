"""Extensions of production that a sandbox must have, or may leave out; the mirror asks before it copies definitions."""

import re
from collections.abc import Iterable
from typing import Any

import psycopg

from shadow.errors import SandboxUnavailable

#: What an operator watches or maintains a server with: no row, default or trigger of an app needs it in a shadow.
OPERATIONAL = frozenset({
    "adminpack", "hypopg", "old_snapshot", "pg_cron", "pg_hint_plan", "pg_qualstats", "pg_repack", "pg_squeeze",
    "pg_stat_kcache", "pg_stat_monitor", "pg_stat_statements", "pg_wait_sampling", "pgaudit", "pglogical", "plprofiler",
    "powa", "sslinfo",
})  # fmt: skip
#: Extensions whose functions open connections or files: a trigger in a shadow may not call them (design 3).
REACHING = ("dblink", "file_fdw", "http", "pg_background", "pg_cron", "pg_net", "plproxy", "postgres_fdw", "aws_s3",
            "aws_lambda", "azure_storage", "pg_amqp", "pg_tle", "adminpack")  # fmt: skip


def left_out(production: psycopg.Connection[Any], sandbox: psycopg.Connection[Any]) -> frozenset[str]:
    """Operational extensions that the sandbox does not have: the mirror does without them.

    Raises SandboxUnavailable, naming them, when production uses others that the sandbox's server does not offer.
    """
    used = {name for (name,) in production.execute("SELECT extname FROM pg_extension").fetchall()}
    offered = {name for (name,) in sandbox.execute("SELECT name FROM pg_available_extensions").fetchall()}
    missing = used - offered
    if needed := sorted(missing - OPERATIONAL):
        names = ", ".join(needed)
        raise SandboxUnavailable(
            f"Production uses {'extensions' if len(needed) > 1 else 'the extension'} {names}, which the sandbox's"
            f" server (PostgreSQL {sandbox.info.server_version // 10000}) does not have.",
            "No shadow was made and production was not changed.",
            f"Point `sandbox.url` at a server that has {names}: postgresql://… of a test server with the package"
            " installed, or an image made from it.",
        )
    return frozenset(missing)


def without(dump: bytes, names: Iterable[str]) -> bytes:
    """The dump without the lines that create or comment on these extensions."""
    for name in names:
        quoted = re.escape(f'"{name}"' if not re.fullmatch(r"[a-z_][a-z0-9_]*", name) else name).encode()
        dump = re.sub(
            rb"(?m)^(?:CREATE EXTENSION IF NOT EXISTS|COMMENT ON EXTENSION) " + quoted + rb"\b[^\n]*;$", b"", dump
        )
    return dump


def close_ways_out(conn: psycopg.Connection[Any]) -> None:
    """Takes every right to the reaching extensions' functions: a trigger that calls one is refused, not obeyed."""
    functions = conn.execute(
        "SELECT d.objid::regprocedure::text FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid"
        " WHERE d.deptype = 'e' AND d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass"
        " AND e.extname = ANY(%s)", (list(REACHING),)
    ).fetchall()  # fmt: skip
    for (signature,) in functions:
        conn.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
