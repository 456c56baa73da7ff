"""`python -m tests.tampering.sqlsmith [--count N] [--seed N] [--json OUT]`: Debian's sqlsmith as a shadow's own role.

It knows nothing of the gate: whatever random statements do, nothing outside the shadow may change and the server stays
up. The exit code is 1 when something changed. Used by `make sqlsmith` and, with a small count, by the suite.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shadow.embedded import EmbeddedServer, open_sandbox, throw_away_folder
from shadow.fence import FenceRules, TableRule
from shadow.needs import DELETE
from tests.lifecycle import Lifecycle, dump, installed
from tests.tampering.production import roles
from tests.tampering.stack import OTHER, TENANT, databases

SQLSMITH = shutil.which("sqlsmith") or "/usr/bin/sqlsmith"
RULES = FenceRules(root="tenants", tables={"app_secrets": TableRule(fence_class="outside")})
#: What every database and role of the sandbox's server is; a shadow's login changes none of it.
_SERVER = (
    "SELECT datname || coalesce(datacl::text, '') || datdba || datallowconn FROM pg_database ORDER BY 1",
    "SELECT setdatabase || ':' || setrole || setconfig::text FROM pg_db_role_setting ORDER BY 1",
    "SELECT rolname || coalesce(rolpassword, '') FROM pg_authid ORDER BY 1",
    "SELECT s::text FROM shadowdesk.shadows s ORDER BY 1",
    "SELECT name || setting FROM pg_settings WHERE source NOT IN ('session', 'client') ORDER BY 1",
    "SELECT pg_postmaster_start_time()::text",
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run did: statements sent, about how many ran without an error, and what was not as before."""

    statements: int
    ran: int
    seconds: float
    changed: tuple[str, ...]
    server_up: bool


def smith(count: int, seed: int, production: EmbeddedServer, sandbox: EmbeddedServer) -> Report:
    """Runs `count` statements on a shadow whose tables are all loaded, beside another tenant's shadow."""
    with databases(production, sandbox) as (owner_url, _):
        settings = installed(owner_url, RULES)
        with (
            closing(Lifecycle(settings, sandbox, TENANT)) as own,
            closing(Lifecycle(settings, sandbox, OTHER)) as other,
            psycopg.connect(sandbox.owner_url, autocommit=True) as conn,
        ):
            for life in (own, other):
                life.shadow.ensure(
                    {n: DELETE for n, t in life.shadow.fence.tables.items() if t.fence_class != "outside"}
                )
            role = sql.Identifier(own.shadow.surface)
            conn.execute(sql.SQL("ALTER ROLE {} SET statement_timeout = '500ms'").format(role))
            watched = {
                "production": lambda: _everything(owner_url),
                "the other shadow": lambda: _everything(other.shadow.owner.info.dsn, other.shadow.owner.info.password),
                "the server": lambda: [conn.execute(query.encode()).fetchall() for query in _SERVER],
                "roles": lambda: roles(conn),
            }
            before = {name: look() for name, look in watched.items()}
            started = time.monotonic()
            sent, ran = _sent(own.shadow._role_url, count, seed)
            seconds = round(time.monotonic() - started, 1)
            try:
                changed = tuple(name for name, look in watched.items() if look() != before[name])
                up = True
            except psycopg.OperationalError:  # a crash ends every session, ours too
                changed, up = ("the server went down",), False
            return Report(statements=sent, ran=ran, seconds=seconds, changed=changed, server_up=up)


def _everything(url: str, password: str = "") -> Any:
    """Rows of the app and of our bookkeeping, and every definition, of one database."""
    url = make_conninfo(url, password=password) if password else url
    with psycopg.connect(url) as conn:
        definitions = conn.execute(
            "SELECT n.nspname, c.relname, c.relkind, c.relacl::text, c.relowner FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' ORDER BY 1, 2"
        ).fetchall()
    return definitions, dump(url), dump(url, ("shadowdesk",))


def _sent(url: str, count: int, seed: int) -> tuple[int, int]:
    """How many statements sqlsmith sent, half of them on catalogs too, and about how many ran without an error."""
    parts = {key: value for key, value in conninfo_to_dict(url).items() if value is not None}
    target = " ".join(f"{key}={value}" for key, value in parts.items())
    ran = 0.0
    for number, share, more in ((0, count - count // 2, []), (1, count // 2, ["--exclude-catalog"])):
        done = subprocess.run(
            [SQLSMITH, f"--target={target}", f"--max-queries={share}", f"--seed={seed + number}", "--verbose", *more],
            capture_output=True, text=True, check=False, errors="replace",
        )  # fmt: skip
        failed = re.findall(r"error rate: ([0-9.e-]+)", done.stderr)
        if done.returncode != 0 or not failed:
            raise RuntimeError(f"sqlsmith ended with {done.returncode}: {done.stderr[-400:]}")
        ran += share * (1 - float(failed[-1]))
    return count, round(ran)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.tampering.sqlsmith", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the report here")
    given = parser.parse_args(arguments)
    with (
        throw_away_folder("shadowdesk-sqlsmith-") as folder,
        open_sandbox(folder / "sandbox") as sandbox,
        open_sandbox(folder / "app") as production,
    ):
        report = smith(given.count, given.seed, production, sandbox)
    text = json.dumps(asdict(report), indent=2)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 1 if report.changed or not report.server_up else 0


if __name__ == "__main__":
    sys.exit(main())
