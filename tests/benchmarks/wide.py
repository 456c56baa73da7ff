"""A schema of 1,000 tables: start_dry_run from the ready pool and without it, and the first step on rows of first need.

The goals are times (0.03 s and 0.3 s), so each stands as a ratio of itself to its goal.
"""

import time
from statistics import median

import psycopg
from psycopg.conninfo import make_conninfo

from mcp_server.images import step_clocks, table_images
from mcp_server.production import Production
from mcp_server.shadows import Shadows, ShadowSettings
from mcp_server.surface import gate_surface
from shadow.embedded import EmbeddedServer
from shadow.fence import FenceRules
from shadow.gate import gate
from shadow.run import fill_pins, run_step
from shadow.sandbox import Sandbox, SandboxLimits
from shadow.shadow import Shadow
from tests.benchmarks.result import Result
from tests.lifecycle import installed
from tests.schemas.wide import wide_statements

_START_GOAL, _STEP_GOAL = 0.03, 0.3


def wide(server: EmbeddedServer, tables: int = 1000, repeats: int = 5) -> list[Result]:
    """Medians of `repeats` dry runs, each on a shadow of its own."""
    with psycopg.connect(server.owner_url, autocommit=True) as conn:
        conn.execute("CREATE DATABASE bench_wide")
    url = make_conninfo(server.owner_url, dbname="bench_wide")
    with psycopg.connect(url, autocommit=True) as conn:
        for statement in wide_statements(tables):
            conn.execute(statement.encode())
    production = Production(installed(url, FenceRules(root="tenants", label="name")))
    pooled, steps = _dry_runs(server, production, repeats, pool=repeats)
    bare, _ = _dry_runs(server, production, repeats, pool=0)
    what = f"{tables}-table schema"
    return [
        Result.of(f"start of a dry run from the pool, {what} / goal", pooled, _START_GOAL, 1.0, "s"),
        Result.of(f"start of a dry run without the pool, {what} / goal with it", bare, _START_GOAL, None, "s"),
        Result.of(f"first step (rows on first need) with its diff, {what} / goal", steps, _STEP_GOAL, 1.0, "s"),
    ]


def _dry_runs(server: EmbeddedServer, production: Production, repeats: int, pool: int) -> tuple[float, float]:
    sandbox = Sandbox(server.owner_url, SandboxLimits(), idle=4)
    shadows = Shadows(production, sandbox, server.bin_dir, ShadowSettings(pool=pool))
    shadows.warm()
    starts, steps = [], []
    for number in range(repeats):
        if shadows._filling is not None:
            shadows._filling.join()  # the pool is ready, as it is when nobody started a dry run a moment ago
        started = time.perf_counter()
        fence = production.fence()
        hit = production.tenant("1", fence)
        shadow, _ = shadows.start(hit.key, fence=fence)
        starts.append(time.perf_counter() - started)
        shadows.keep(str(number), shadow)
        started = time.perf_counter()
        _first_step(shadow)
        steps.append(time.perf_counter() - started)
    for number in range(repeats):
        shadows.drop(str(number), None)
    shadows.close()
    return median(starts), median(steps)


def _first_step(shadow: Shadow) -> None:
    from differ.net import step_diff

    surface = gate_surface(shadow.fence, shadow.tenant_key, frozenset())
    gated = fill_pins(shadow, gate("UPDATE t500 SET note = 'x' WHERE id = 2", (), surface))
    run_step(shadow, gated, 1)
    diff = step_diff(
        shadow.owner, table_images(shadow), 1, clocks=step_clocks(shadow, [1], rehearsal=False),
        set_columns=gated.set_columns, page_size=50,
    )  # fmt: skip
    assert diff.total_rows == 1
