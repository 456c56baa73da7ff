"""Sixteen reps at once: each starts a dry run, runs a step, reads its diff, proposes and confirms, on 5,000-row tenants."""

import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median, quantiles

import psycopg
from psycopg.conninfo import make_conninfo

from shadow.embedded import EmbeddedServer
from tests.benchmarks.clone import APP, RULES
from tests.benchmarks.result import Result
from tests.control import control_template, roles_of
from tests.fixes import REP, Fixes, fixes_on

_REPS, _ROWS = 16, 5000
_FILL = (
    "DELETE FROM tenants; INSERT INTO tenants SELECT n, 'tenant ' || n FROM generate_series(1, 16) n;"
    " INSERT INTO events SELECT g, 1 + g % 16, 'kind ' || g % 20, g % 9999, now(), md5(g::text), '{}'"
    f" FROM generate_series(1, {_REPS * _ROWS}) g; ANALYZE;"
)


def reps(server: EmbeddedServer, rounds: int = 3) -> list[Result]:
    """p50 and p95 of the whole loop, each rep on a tenant of their own, `rounds` fixes one after the other."""
    with psycopg.connect(server.owner_url, autocommit=True) as conn, control_template(server) as template:
        conn.execute("CREATE DATABASE bench_reps")
        conn.execute(f"CREATE DATABASE bench_reps_control TEMPLATE {template}".encode())
        url = make_conninfo(server.owner_url, dbname="bench_reps")
        with psycopg.connect(url) as production:
            production.execute(APP)
            production.execute(_FILL.encode())
        control = roles_of(make_conninfo(server.owner_url, dbname="bench_reps_control")).control
        with fixes_on(url, control, server, RULES, pool=_REPS, max_open=_REPS) as fixes:
            fixes.desk.shadows.warm()
            with ThreadPoolExecutor(_REPS) as threads:
                found = threads.map(
                    lambda tenant: [_loop(fixes, tenant, n) for n in range(rounds)], range(1, _REPS + 1)
                )
                times = [seconds for of_rep in found for seconds in of_rep]
    name = f"{_REPS} reps at once, whole loop on {_ROWS:,}-row tenants"
    return [
        Result.of(f"{name}: p50 / 1 s", median(times), 1.0, None, "s"),
        Result.of(f"{name}: p95 / 1 s", quantiles(times, n=20)[-1], 1.0, 1.0, "s"),
    ]


def _loop(fixes: Fixes, tenant: int, number: int) -> float:
    began = time.perf_counter()
    dry_run = fixes.rehearse([f"UPDATE events SET amount = amount + 1 WHERE id % 497 = {number}"], str(tenant))
    fixes.desk.diff(REP, dry_run)
    fixes.confirm(dry_run)
    return time.perf_counter() - began
