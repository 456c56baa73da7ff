"""Checks every URL, role and right that the configuration names, and says how to mend what is wrong.

Called by `shadowdesk doctor`; what it tries is rolled back.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Literal

import psycopg

from mcp_server.assembly import control_urls, open_on, production_settings, sandbox_limits, sandbox_server
from mcp_server.doctor_rights import Check, applier_rights, audit_rights, conditions, reader_rights
from mcp_server.doctor_rights import settings as server_settings
from mcp_server.doctor_sandbox import sandbox_checks
from mcp_server.errors import EXPLAINED
from mcp_server.install import APPLIER, READER
from mcp_server.probing import walls_on_production, walls_on_sandbox
from mcp_server.production import Production
from mcp_server.settings import Settings
from shadow.fence import Fence
from shadow.sandbox import Sandbox
from shadow.sandbox_server import SandboxServer

Only = Literal["mcp", "pages"]


def check_production(production: Production) -> Iterator[Check]:
    """Reader and applier: reachable, the right role, the rights they need and those they must not have."""
    settings = production.settings
    schemas = settings.search_path
    fence, wrong = _fence(production)
    tables = [one.table for one in fence.tables.values()] if fence else []
    closed = {(table.schema, table.relation) for table in tables if table.unreadable}

    def reader(conn: psycopg.Connection[tuple[object, ...]]) -> Iterator[Check]:
        yield from _check_reader(conn)
        yield from reader_rights(conn, schemas)
        yield from server_settings(conn)

    def applier(conn: psycopg.Connection[tuple[object, ...]]) -> Iterator[Check]:
        yield from _check_applier(conn)
        yield from applier_rights(conn, schemas, closed)

    yield from _connection("production.reader_url", settings.reader_url, reader)
    if settings.applier_url is None:
        yield Check(name="production.applier_url", ok=True, detail="not configured: this process cannot confirm")
    else:
        yield from _connection("production.applier_url", settings.applier_url, applier)
    yield from wrong
    if fence is None:
        return
    yield from _check_fence(fence)
    with production.reader() as conn:
        yield from conditions(conn, fence)


def _fence(production: Production) -> tuple[Fence | None, list[Check]]:
    try:
        return production.fence(), []
    except EXPLAINED as error:
        mend = "Correct [fence] in shadowdesk.toml, or what stands above."
        return None, [Check(name="fence", ok=False, detail=str(error), mend=mend)]


def _connection(
    name: str, url: str, checks: Callable[[psycopg.Connection[tuple[object, ...]]], Iterator[Check]]
) -> Iterator[Check]:
    try:
        conn = psycopg.connect(url, autocommit=True, connect_timeout=5)
    except psycopg.Error:  # a ProgrammingError where the URL itself cannot be read
        yield Check(
            name=name, ok=False, detail="cannot be reached with these credentials",
            mend="Check host, port, database and password; `shadowdesk install` makes the roles.",
        )  # fmt: skip
        return
    with conn:
        version = conn.info.server_version
        supported = 140000 <= version < 190000
        yield Check(
            name=name, ok=supported, detail=f"PostgreSQL {version // 10000}.{version % 10000}",
            mend="Versions 14 to 18 are supported.",
        )  # fmt: skip
        yield from checks(conn)


def _asked(conn: psycopg.Connection[tuple[object, ...]], query: str) -> bool:
    row = conn.execute(query).fetchone()
    return bool(row and row[0])


_SUPER = "SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = current_user"
_APP = (
    "c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'shadowdesk')"
    " AND n.nspname !~ '^pg_'"
)
_FROM = f"FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_APP}"


def _check_reader(conn: psycopg.Connection[tuple[object, ...]]) -> Iterator[Check]:
    mend = f"Use the role {READER} that `shadowdesk install` makes."
    yield Check(name="reader is no superuser", ok=not _asked(conn, _SUPER), detail=f"role {conn.info.user}", mend=mend)
    writes = _asked(conn, f"SELECT bool_or(has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE')) {_FROM}")
    yield Check(name="reader cannot write", ok=not writes, detail="INSERT, UPDATE, DELETE on app tables", mend=mend)
    primary = not _asked(conn, "SELECT pg_is_in_recovery()")
    yield Check(
        name="reader is on the primary", ok=primary, detail="ids are reserved with nextval",
        mend="A standby cannot reserve ids: point reader_url at the primary.",
    )  # fmt: skip


def _check_applier(conn: psycopg.Connection[tuple[object, ...]]) -> Iterator[Check]:
    mend = f"Use the role {APPLIER} and run `shadowdesk install` again."
    yield Check(name="applier is no superuser", ok=not _asked(conn, _SUPER), detail=f"role {conn.info.user}", mend=mend)
    create = _asked(conn, "SELECT has_database_privilege(current_database(), 'CREATE')")
    yield Check(
        name="applier may make the ephemeral fence schema", ok=create, detail="CREATE on the database", mend=mend
    )
    receipts = _asked(conn, "SELECT to_regclass('shadowdesk.receipts') IS NOT NULL")
    yield Check(
        name="receipts table", ok=receipts, detail="shadowdesk.receipts", mend="Run `shadowdesk install --apply`."
    )
    if receipts:
        changes = _asked(conn, "SELECT has_table_privilege('shadowdesk.receipts', 'UPDATE, DELETE, TRUNCATE')")
        yield Check(
            name="receipts are append-only for the applier", ok=not changes, detail="no UPDATE, DELETE", mend=mend
        )
    counts = _asked(conn, "SELECT current_setting('track_counts')::boolean")
    yield Check(
        name="track_counts", ok=counts, detail="the replay compares per-table counters", mend="Set track_counts = on.",
    )  # fmt: skip
    events = _asked(conn, "SELECT EXISTS (SELECT 1 FROM pg_event_trigger WHERE evtenabled <> 'D')")
    yield Check(
        name="event triggers", ok=not events, detail="would fire on the ephemeral fence views",
        mend="Let them pass objects in schemas named fence_*.",
    )  # fmt: skip


def _check_fence(fence: Fence) -> Iterator[Check]:
    keyless = [t.table.name for t in fence.tables.values() if t.owned and not t.table.key]
    yield Check(
        name="every tenant table has a key", ok=not keyless, detail=", ".join(keyless) or "yes",
        mend="Tables without a primary key or unique NOT NULL index are read-only here.",
    )  # fmt: skip
    closed = [t.table.name for t in fence.tables.values() if t.table.unreadable and not t.corrected]
    elsewhere = [name for name in fence.catalog.left_out if name.partition(".")[0] not in fence.catalog.schemas]
    yield Check(
        name="reader can read every app table", ok=not closed,
        detail=", ".join(closed[:8]) or (f"left out of shadows: {', '.join(elsewhere[:8])}" if elsewhere else "yes"),
        mend='Run `shadowdesk install` again, or say that it is meant: [fence.tables.X] class = "outside".',
    )  # fmt: skip
    outside = [t.table.name for t in fence.tables.values() if t.fence_class == "outside"]
    yield Check(
        name="tables outside the fence", ok=True,
        detail=f"{len(outside)}: {', '.join(outside[:8])}" if outside else "none",
    )  # fmt: skip


def examine(settings: Settings, only: Only | None = None) -> list[Check]:
    """Everything the settings name, in the order in which a process would need it.

    `only`: what the process serves when it does not serve everything; one for models must not know the applier.
    """
    checks = list(_check_part(settings, only))
    production = Production(production_settings(settings, applier=only != "mcp"), probed=False)
    with closing(production), ExitStack() as stack:
        checks += [*check_production(production), *walls_on_production(production)]
        found: list[str] = []
        checks.append(_server("control", lambda: found.extend(control_urls(settings, stack))))
        opened: list[tuple[SandboxServer, Sandbox]] = []
        checks.append(_server("sandbox", lambda: opened.append(_sandbox(settings, stack))))
        for server, sandbox in opened:
            with sandbox.admin() as admin:
                reader_url = production.settings.reader_url
                fence, _ = _fence(production)
                checks += sandbox_checks(admin, sandbox.admin_url, server.bin_dir, reader_url, fence)
        for role, url in zip(("shadowdesk_control", "shadowdesk_audit"), found, strict=False):
            checks += audit_rights(role, url)
    return checks


def _check_part(settings: Settings, only: Only | None) -> Iterator[Check]:
    known = settings.production.applier_url is not None
    if only == "mcp":
        yield Check(
            name="the MCP-only process has no applier URL at all", ok=not known,
            detail="configured" if known else "not configured",
            mend="Take SHADOWDESK_PRODUCTION__APPLIER_URL (production.applier_url) from it: models talk to it; only"
            " the process with the pages replays.",
        )  # fmt: skip
    if only == "pages":
        yield Check(
            name="the process with the pages has the applier URL", ok=known,
            detail="configured" if known else "not configured",
            mend="Give it SHADOWDESK_PRODUCTION__APPLIER_URL: nothing could be confirmed.",
        )  # fmt: skip


def _sandbox(settings: Settings, stack: ExitStack) -> tuple[SandboxServer, Sandbox]:
    server = sandbox_server(settings, stack)
    sandbox = open_on(server, sandbox_limits(settings))
    walls_on_sandbox(sandbox)
    return server, sandbox


def _server(name: str, opened: Callable[[], object]) -> Check:
    try:
        opened()
    except EXPLAINED as error:
        return Check(name=name, ok=False, detail=str(error.args[0]), mend=str(error.args[-1]))
    except psycopg.errors.InsufficientPrivilege:
        mend = f"The role of {name}.url owns its server or database: see the operator's guide."
        return Check(name=name, ok=False, detail="its role lacks rights", mend=mend)
    except psycopg.Error:
        return Check(name=name, ok=False, detail="cannot be reached", mend=f"Check {name}.url and its credentials.")
    return Check(name=name, ok=True, detail="ready")
