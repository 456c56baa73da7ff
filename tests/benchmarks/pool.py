"""The pool of ready shadows: starts at once with it, what one costs to make and to keep, and which way to copy the mirror.

128 starts at once go through the turns that `Shadows` gives, so that neither server runs out of connections.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import psycopg
from psycopg import sql

from mcp_server.production import Production
from mcp_server.shadows import Shadows, ShadowSettings
from shadow.embedded import EmbeddedServer
from shadow.sandbox import Sandbox, SandboxLimits
from tests.benchmarks.branch import PUBLISHED, warehouses
from tests.benchmarks.result import Result

_READY = 16
#: What a checkpoint-free copy through the log and a copy of files are called (Postgres docs, CREATE DATABASE).
_STRATEGIES = ("WAL_LOG", "FILE_COPY")


def pool(server: EmbeddedServer, clients: tuple[int, ...] = (1, 16, 128)) -> list[Result]:
    """Starts p50 and p95 with `_READY` shadows ready, refill, memory and disk of one, and both ways of copying."""
    production = warehouses(server, "bench_pool")
    results = []
    for count in clients:
        with _shadows(server, production) as shadows:
            times = _starts(shadows, count)
        p95 = quantiles(times, n=20)[-1] if len(times) > 1 else times[0]
        name = f"{count} starts at once, {_READY} ready"
        results += [
            Result.of(f"{name}: p50 / of one", median(times), results[0].ours if results else times[0], None, "s"),
            Result.of(f"{name}: p95 / 0.15 s", p95, 0.15, 1.0 if count == 16 else None, "s"),
            *(
                Result.of(f"{name}: p50 / published of {system}", median(times), published[count], None, "s")
                for system, published in PUBLISHED.items()
                if count in published
            ),
        ]
    return [*results, *_kept(server, production), *_strategies(server)]


@contextmanager
def _shadows(server: EmbeddedServer, production: Production, ready: int = _READY) -> Iterator[Shadows]:
    sandbox = Sandbox(server.owner_url, SandboxLimits(max_shadows=400), idle=8)
    shadows = Shadows(production, sandbox, server.bin_dir, ShadowSettings(pool=ready))
    shadows.warm()
    try:
        yield shadows
    finally:
        with psycopg.connect(server.owner_url) as conn:
            taken = conn.execute("SELECT id FROM shadowdesk.shadows").fetchall()
        shadows.close()
        for (shadow_id,) in taken:
            sandbox.drop(str(shadow_id))
        sandbox.close()


def _starts(shadows: Shadows, count: int) -> list[float]:
    def start(number: int) -> float:
        began = time.perf_counter()
        shadow, _ = shadows.start(str(number % 4 + 1))
        took = time.perf_counter() - began
        shadows.keep(str(number), shadow)
        return took

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(start, range(count)))


def _kept(server: EmbeddedServer, production: Production) -> list[Result]:
    """What one more ready shadow costs: time to make, memory of its two connections, disk."""
    with _shadows(server, production, ready=0), psycopg.connect(server.owner_url, autocommit=True) as conn:
        before, began = _memory_mb(conn), time.perf_counter()
        with _shadows(server, production, ready=_READY):
            took = (time.perf_counter() - began) / _READY
            memory = (_memory_mb(conn) - before) / _READY
            [(disk,)] = conn.execute(
                "SELECT avg(pg_database_size(datname))::float8 / 1048576 FROM pg_database WHERE datname ~ '^shadow_'"
            ).fetchall()
    return [
        Result.of("making one shadow ready / 0.15 s", took, 0.15, None, "s"),
        Result.of("memory of one ready shadow (two connections) / 20 MB", memory, 20.0, None, "MB"),
        Result.of("disk of one ready shadow / 10 MB", float(disk), 10.0, None, "MB"),
    ]


def _memory_mb(conn: psycopg.Connection[tuple[object, ...]]) -> float:
    """Memory of all the server's backends, shared pages counted by their share."""
    total = 0
    for (pid,) in conn.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'").fetchall():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it ended meanwhile, or there is no /proc
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _strategies(server: EmbeddedServer, repeats: int = 5) -> list[Result]:
    """CREATE DATABASE from the mirror through the log, and by copying files."""
    times: dict[str, list[float]] = {name: [] for name in _STRATEGIES}
    with psycopg.connect(server.owner_url, autocommit=True) as conn:
        [mirror] = conn.execute("SELECT max(datname) FROM pg_database WHERE datname ~ '^mirror_'").fetchall()
        for _ in range(repeats):
            for name in _STRATEGIES:
                began = time.perf_counter()
                conn.execute(
                    sql.SQL("CREATE DATABASE bench_copy TEMPLATE {} STRATEGY {}").format(
                        sql.Identifier(str(mirror[0])), sql.SQL(name)
                    )
                )
                times[name].append(time.perf_counter() - began)
                conn.execute("DROP DATABASE bench_copy")
    log, files = (median(times[name]) for name in _STRATEGIES)
    return [Result.of("a copy of the mirror through the log / by files", log, files, None, "s")]
