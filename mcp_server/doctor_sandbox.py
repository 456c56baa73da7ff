"""Looks at the sandbox: its role's rights, versions, extensions, how far it is from production; used by `doctor.py`.

Rights are tried and rolled back. Where everything else is in order the mirror is made: the first dry run needs it too.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mcp_server.doctor_rights import Check, Connection, may
from shadow.errors import SandboxUnavailable
from shadow.extensions import left_out
from shadow.fence import Fence
from shadow.mirror import check_apart, check_versions, ensure_mirror, same_server

_RIGHTS = {
    "sandbox role may create roles": sql.SQL("CREATE ROLE shadowdesk_doctor NOLOGIN"),
    # refusals are read in the words of the C locale, in which a shadow's role is made to be answered
    "sandbox answers shadows with lc_messages = C": sql.SQL(
        "CREATE ROLE shadowdesk_doctor NOLOGIN; ALTER ROLE shadowdesk_doctor SET lc_messages = 'C'"
    ),
    "sandbox role may limit a shadow's temporary files": sql.SQL(
        "CREATE ROLE shadowdesk_doctor NOLOGIN; ALTER ROLE shadowdesk_doctor SET temp_file_limit = '1MB'"
    ),
    "sandbox role may load rows with triggers off": sql.SQL("SET LOCAL session_replication_role = replica"),
    "sandbox role may build indexes after a load": sql.SQL("UPDATE pg_index SET indisready = indisready WHERE false"),
}


def sandbox_checks(
    admin: Connection, admin_url: str, bin_dir: Path, reader_url: str, fence: Fence | None
) -> Iterator[Check]:
    """Everything a shadow needs of its server; `admin` is its owner's connection, `bin_dir` holds pg_dump.

    Nothing that needs production is looked at where it cannot be reached, which is told elsewhere.
    """
    checks = list(_rights(admin))
    yield from checks
    try:
        production = psycopg.connect(reader_url, autocommit=True, connect_timeout=5)
    except psycopg.Error:
        return
    with production:
        beside = list(_beside(admin, admin_url, bin_dir, production, reader_url))
    yield from beside
    if fence is not None and all(check.ok for check in (*checks, *beside)):
        yield _told(
            "production's definitions in the sandbox",
            lambda: f"mirror {ensure_mirror(admin, admin_url, reader_url, fence, bin_dir)}",
        )


def _rights(admin: Connection) -> Iterator[Check]:
    role = sql.Identifier(admin.info.user).as_string(admin)
    mend = f'ALTER ROLE {role} SUPERUSER on a server that holds nothing but shadows, or sandbox.url = "embedded".'
    row = admin.execute("SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user").fetchone()
    creates = bool(row and row[0])
    yield Check(name="sandbox role may create databases", ok=creates, detail=f"role {admin.info.user}", mend=mend)
    for name, statement in _RIGHTS.items():
        ok = may(admin, statement) is True
        yield Check(name=name, ok=ok, detail=f"tried: {'allowed' if ok else 'denied'}", mend=mend)


def _beside(
    admin: Connection, admin_url: str, bin_dir: Path, production: Connection, reader_url: str
) -> Iterator[Check]:
    """What must fit production's server, and be apart from it."""

    def versions() -> str:
        check_versions(admin, production.info.server_version, bin_dir)
        return f"sandbox PostgreSQL {admin.info.server_version // 10000}, pg_dump in {bin_dir}"

    def extensions() -> str:
        without = left_out(production, admin)
        return f"all that shadows need; without {', '.join(sorted(without))}" if without else "all there"

    def apart() -> str:
        check_apart(admin, reader_url)
        return "shadows' roles may not connect to it"

    yield _told("sandbox and pg_dump are not older than production", versions)
    yield _told("production's extensions in the sandbox", extensions)
    yield _told("shadows are apart from production", apart)
    yield _reach(admin, admin_url, production, reader_url)


def _told(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, ok=True, detail=look())
    except SandboxUnavailable as error:
        return Check(name=name, ok=False, detail=error.happened, mend=error.next_step)


def _reach(admin: Connection, admin_url: str, production: Connection, reader_url: str) -> Check:
    """Tries the sandbox's own credentials on production: what a shadow's server knows must not open it."""
    name = "sandbox role may not reach production"
    if same_server(production, admin):
        detail = "on production's own server, as its superuser: a server of its own is safer"
        return Check(name=name, ok=True, detail=detail)
    known = conninfo_to_dict(admin_url)
    url = make_conninfo(reader_url, user=known.get("user"), password=known.get("password") or "none")
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.Error:
        return Check(name=name, ok=True, detail="tried its name and password there: denied")
    return Check(
        name=name, ok=False, detail=f"production lets {known.get('user')} in with the sandbox's password",
        mend="Give the sandbox's role another password, or production's database no role of that name.",
    )  # fmt: skip
