"""The mirror: a template database holding one production schema version's definitions and no rows.

Made by the desk when production's fingerprint is new: `pg_dump --schema-only` piped into the matching `psql`, then
our bookkeeping; functions lose SECURITY DEFINER, so that none acts with more than the shadow's own rights.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shadow.errors import SandboxUnavailable
from shadow.extensions import close_ways_out, left_out, without
from shadow.fence import Fence
from shadow.sql import block
from shadow.unreadable import read_left_out

_LOCK = 0x5344_0001
#: pg_database.datlocprovider → CREATE DATABASE's words for it (Postgres docs 23.1.4).
_LOCALES: dict[str, tuple[sql.SQL, sql.SQL | None]] = {
    "c": (sql.SQL("libc"), None),
    "i": (sql.SQL("icu"), sql.SQL("ICU_LOCALE")),
    "b": (sql.SQL("builtin"), sql.SQL("BUILTIN_LOCALE")),
}
#: Options of columns only speak to the planner, and minor releases add some that other servers do not know: Debian's
#: 15.20 marks every column with `pg_attver`, which 18.6 refuses (tried).
_COLUMN_OPTIONS = re.compile(
    rb"(?m)^ALTER (?:(?:FOREIGN )?TABLE|INDEX|MATERIALIZED VIEW)[^;\n]* ALTER COLUMN [^;\n]+ SET \(\w+=[^;\n]*\);$"
)
_SETTINGS = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
}


def mirror_name(fence: Fence) -> str:
    """The template database's name: changes with production's schema, what is left out of it, and our bookkeeping."""
    text = fence.catalog.fingerprint + block("bookkeeping") + str(fence.catalog.server_version)
    text += "".join(f"\n{name}" for name in fence.catalog.left_out)
    return f"mirror_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def ensure_mirror(admin: psycopg.Connection[Any], admin_url: str, reader_url: str, fence: Fence, bin_dir: Path) -> str:
    """The mirror's database name, made first when the sandbox has none for this schema version.

    `admin` is the sandbox owner's connection to `admin_url`. Raises SandboxUnavailable when production's definitions
    cannot be dumped or restored; a half-made mirror is never used (it is renamed into place when complete).
    """
    name = mirror_name(fence)
    if _exists(admin, name):
        return name
    admin.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    try:
        if not _exists(admin, name):
            _make(admin, admin_url, reader_url, fence, bin_dir, name)
    finally:
        admin.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    return name


def _exists(admin: psycopg.Connection[Any], name: str) -> bool:
    return admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None


def _make(
    admin: psycopg.Connection[Any], admin_url: str, reader_url: str, fence: Fence, bin_dir: Path, name: str
) -> None:
    check_versions(admin, fence.catalog.server_version, bin_dir)
    building = f"{name}_building"
    with psycopg.connect(reader_url) as production:
        superfluous = left_out(production, admin)
    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(building)))
    _create(admin, building, reader_url)
    target = make_conninfo(admin_url, dbname=building)
    dump = without(dump_definitions(reader_url, bin_dir), superfluous)
    if admin.info.server_version < 170000:
        # pg_dump 17 and newer sets what older servers do not know, once, before the first definition.
        dump = dump.replace(b"\nSET transaction_timeout = 0;\n", b"\n", 1)
    restore_definitions(dump, target, bin_dir)
    with psycopg.connect(target, autocommit=True) as conn:
        _harden(conn)
        conn.execute(block("bookkeeping"))
    admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(building)))
    admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(building), sql.Identifier(name)))


def check_versions(admin: psycopg.Connection[Any], production: int, bin_dir: Path) -> None:
    """Refuses a pg_dump or a sandbox that is older than production (`production`: its server_version_num).

    pg_dump does not read servers of a newer major version than its own (Postgres docs, pg_dump, Notes).
    """
    wanted, sandbox = production // 10000, admin.info.server_version // 10000
    said = subprocess.run([str(bin_dir / "pg_dump"), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    if found is None or int(found[1]) < wanted:
        raise SandboxUnavailable(
            f"pg_dump in {bin_dir} is version {found[1] if found else 'unknown'}, production is PostgreSQL {wanted}:"
            " it cannot read it.",
            "No shadow was made and production was not changed.",
            f"Set SHADOWDESK_POSTGRES_BIN to the bin directory of PostgreSQL {wanted} or newer.",
        )
    if sandbox < wanted:
        raise SandboxUnavailable(
            f"The sandbox is PostgreSQL {sandbox}, older than production's {wanted}.",
            "No shadow was made and production was not changed.",
            f"Point sandbox.url at PostgreSQL {wanted} or newer: embedded, docker://postgres:{wanted}, or a server.",
        )


def check_apart(admin: psycopg.Connection[Any], reader_url: str) -> None:
    """Refuses a sandbox on production's own server while the shadows' roles could connect to the app's database.

    Every role may connect to a database until its owner takes that right from PUBLIC (Postgres docs 5.8).
    """
    with psycopg.connect(reader_url) as production:
        open_to_all = production.execute(
            "SELECT datname FROM pg_database d WHERE datname = current_database() AND EXISTS ("
            " SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba)))"
            " WHERE grantee = 0 AND privilege_type = 'CONNECT')"
        ).fetchone()
        if open_to_all is None or not same_server(production, admin):
            return
        name = sql.Identifier(open_to_all[0]).as_string(production)
    raise SandboxUnavailable(
        f"The sandbox is on production's own server, where every role may connect to database {name}.",
        "No shadow was made and production was not changed.",
        f"As its owner: GRANT CONNECT ON DATABASE {name} to the app's own roles, then REVOKE CONNECT, TEMPORARY ON"
        f" DATABASE {name} FROM PUBLIC; or give the sandbox a server of its own.",
    )


def same_server(one: psycopg.Connection[Any], other: psycopg.Connection[Any]) -> bool:
    """True when both connections lead to the same running server."""
    asked = "SELECT system_identifier::text || pg_postmaster_start_time()::text FROM pg_control_system()"
    return one.execute(asked).fetchone() == other.execute(asked).fetchone()


def _create(admin: psycopg.Connection[Any], name: str, reader_url: str) -> None:
    """An empty database that compares and folds letters as production does, where the sandbox's server can.

    Where it cannot, the replay's comparison tells: upper() or ORDER BY may answer differently there.
    """
    with psycopg.connect(reader_url) as production:
        row = production.execute(
            "SELECT datcollate, datctype, coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),"
            " coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale')"
            " FROM pg_database d WHERE datname = current_database()"
        ).fetchone()
    plain = sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
    if row is None or row[2] not in _LOCALES:
        admin.execute(plain)
        return
    provider, option = _LOCALES[row[2]]
    like = sql.SQL("{} LOCALE_PROVIDER {} LC_COLLATE {} LC_CTYPE {}").format(plain, provider, row[0], row[1])
    if option is not None:
        like = sql.SQL("{} {} {}").format(like, option, row[3])
    try:
        admin.execute(like)
    except psycopg.Error:
        admin.execute(plain)


def _environment(url: str) -> dict[str, str]:
    """The connection by environment: a password never stands in the process list."""
    parts = conninfo_to_dict(url)
    known = {_SETTINGS[key]: str(value) for key, value in parts.items() if key in _SETTINGS and value is not None}
    return {**os.environ, "LC_ALL": "C", **known}


def dump_definitions(reader_url: str, bin_dir: Path) -> bytes:
    """Production's definitions as a psql script, no rows, without what the reader may not read.

    Raises SandboxUnavailable.
    """
    with psycopg.connect(reader_url) as production:
        left_out = read_left_out(production)
    if not left_out.objects:
        return _COLUMN_OPTIONS.sub(b"", _dump(reader_url, bin_dir, []))
    with TemporaryDirectory(prefix="shadowdesk-") as folder:
        # Only an archive names its entries by their numbers, so that those of left out objects can be taken away;
        # comments have none of their own.
        archive, contents = Path(folder, "archive"), Path(folder, "contents")
        _dump(reader_url, bin_dir, ["--no-comments", "--format=custom", f"--file={archive}", *left_out.patterns()])
        restore, environment = str(bin_dir / "pg_restore"), {**os.environ, "LC_ALL": "C"}
        listed = subprocess.run([restore, "--list", str(archive)], env=environment, capture_output=True, check=True)
        contents.write_bytes(left_out.kept(listed.stdout))
        script = subprocess.run(
            [restore, "--file=-", "--no-owner", f"--use-list={contents}", str(archive)],
            env=environment, capture_output=True, check=True,
        )  # fmt: skip
    return _COLUMN_OPTIONS.sub(b"", script.stdout)


def _dump(reader_url: str, bin_dir: Path, more: Sequence[str]) -> bytes:
    arguments = [
        str(bin_dir / "pg_dump"), "--schema-only", "--no-owner", "--no-privileges", "--no-publications",
        "--no-subscriptions", "--no-security-labels", "--no-tablespaces", "--exclude-schema=shadowdesk",
        "--exclude-schema=fence_*", *more,
    ]  # fmt: skip
    done = subprocess.run(arguments, env=_environment(reader_url), capture_output=True, check=False)
    if done.returncode != 0:
        raise SandboxUnavailable(
            f"Production's definitions could not be read: {_last_line(done.stderr)}.",
            "No shadow was made and production was not changed.",
            "Run `shadowdesk doctor`: it names what the reader may not read, and pg_dump must not be older than the"
            " server.",
        )
    return done.stdout


def restore_definitions(dump: bytes, target: str, bin_dir: Path) -> None:
    """Runs such a script on an empty database, all or nothing. Raises SandboxUnavailable."""
    arguments = [str(bin_dir / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction"]
    done = subprocess.run(arguments, input=dump, env=_environment(target), capture_output=True, check=False)
    if done.returncode != 0:
        raise SandboxUnavailable(
            f"The sandbox could not take production's definitions: {_last_line(done.stderr)}.",
            "No shadow was made and production was not changed.",
            "Ask an engineer: the sandbox's server must be at least as new as production's and know its languages and"
            " locales; `sandbox.url` may name another one.",
        )


def _last_line(stderr: bytes) -> str:
    """The first error line of psql or pg_dump, which names definitions, never rows (no rows are read)."""
    lines = [line for line in stderr.decode(errors="replace").splitlines() if "rror" in line]
    return (lines or stderr.decode(errors="replace").splitlines() or ["no message"])[0][:300]


def _open_views(conn: psycopg.Connection[Any]) -> None:
    """Lets triggers go through the app's views with the rights of the shadow's role on the tables below.

    So a table that is not loaded is refused and loaded, never silently empty (security_invoker: PostgreSQL 15 on).
    """
    if conn.info.server_version < 150000:
        return
    views = conn.execute(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'v' AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')"
    ).fetchall()
    for (view,) in views:
        conn.execute(f"ALTER VIEW {view} SET (security_invoker = true)")
        conn.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {view} TO PUBLIC")


def _harden(conn: psycopg.Connection[Any]) -> None:
    definers = conn.execute(
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
    ).fetchall()
    for (signature,) in definers:
        conn.execute(f"ALTER ROUTINE {signature} SECURITY INVOKER")
    close_ways_out(conn)
    # A shadow holds one tenant's rows only: policies written for the app's own roles would hide them from triggers.
    secured = conn.execute("SELECT oid::regclass::text FROM pg_class WHERE relrowsecurity").fetchall()
    for (relation,) in secured:
        conn.execute(sql.SQL("ALTER TABLE {} DISABLE ROW LEVEL SECURITY").format(sql.SQL(relation)))
    _open_views(conn)
    events = conn.execute("SELECT evtname FROM pg_event_trigger").fetchall()
    for (event,) in events:
        conn.execute(sql.SQL("DROP EVENT TRIGGER {}").format(sql.Identifier(event)))
    # Rows come and go back with session_replication_role = replica, when no trigger of the app may act; otherwise
    # only those act that would on production.
    triggers = conn.execute(
        "SELECT t.tgrelid::regclass::text, t.tgname, t.tgenabled = 'A' FROM pg_trigger t"
        " WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgenabled IN ('A', 'R')"
    ).fetchall()
    for relation, trigger, always in triggers:
        verb = sql.SQL("ENABLE" if always else "DISABLE")
        conn.execute(sql.SQL("ALTER TABLE {} {} TRIGGER {}").format(sql.SQL(relation), verb, sql.Identifier(trigger)))
    # Steps commit one by one: checks of deferred keys wait for the rehearsal's one transaction (design 4.5).
    checks = conn.execute(
        "SELECT t.tgrelid::regclass::text, t.tgname FROM pg_trigger t JOIN pg_constraint k ON k.oid = t.tgconstraint"
        " JOIN pg_proc p ON p.oid = t.tgfoid WHERE k.contype = 'f' AND k.condeferred"
        " AND p.proname IN ('RI_FKey_check_ins', 'RI_FKey_check_upd', 'RI_FKey_noaction_del', 'RI_FKey_noaction_upd')"
    ).fetchall()
    for relation, trigger in checks:
        conn.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(sql.SQL(relation), sql.Identifier(trigger)))
