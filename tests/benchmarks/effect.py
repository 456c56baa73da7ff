"""Capture, diff and replay against the bare statement or transaction, on tables of the clone benchmark's shape."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import psycopg
from deepdiff import DeepDiff
from psycopg.conninfo import make_conninfo

from mcp_server.production import Production
from shadow.embedded import EmbeddedServer
from shadow.fence import Fence
from shadow.replay import Frozen, ReplayLimits, replay
from shadow.replay_session import name_session, open_ahead, open_session
from tests.benchmarks.clone import RULES, production
from tests.benchmarks.result import Result
from tests.control import control_template, roles_of
from tests.fixes import fixes_on
from tests.lifecycle import Lifecycle, installed


def seconds(work: Callable[[], object]) -> float:
    """How long `work` took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def capture_100k(server: EmbeddedServer) -> Result:
    """A 100,000-row UPDATE as a step, after the first write of the table, against the bare UPDATE on the same rows."""
    url = production(server, "bench_capture", 100_000, 120_000)
    life = Lifecycle(settings=installed(url, RULES), sandbox_server=server, tenant="1")
    life.run("UPDATE events SET amount = amount + 1 WHERE id = 1")
    ours = [seconds(lambda: life.run("UPDATE events SET amount = amount + 1")) for _ in range(3)]
    life.close()
    with psycopg.connect(url, autocommit=True) as conn:
        bare = "UPDATE events SET amount = amount + 1 WHERE tenant_id = 1"
        theirs = [seconds(lambda: conn.execute(bare)) for _ in range(3)]
    return Result.of("capture: a 100,000-row UPDATE as a step / bare", median(ours), median(theirs), 2.0, "s")


def diff_of_ten(server: EmbeddedServer) -> Result:
    """The diff of 10 changed rows in a tenant of 1,000,000 rows against the same in one of 10,000."""
    figures = []
    for name, rows in (("bench_small", 10_000), ("bench_large", 1_000_000)):
        url = production(server, name, rows, rows + 1000)
        life = Lifecycle(settings=installed(url, RULES), sandbox_server=server, tenant="1")
        life.run("UPDATE events SET amount = amount + 1 WHERE id BETWEEN 501 AND 510")
        figures.append(median(seconds(life.net) for _ in range(20)))
        life.close()
    return Result.of("diff of 10 rows: tenant of 1,000,000 / of 10,000 rows", figures[1], figures[0], 1.2, "s")


def diff_100k(server: EmbeddedServer) -> Result:
    """Summary, digest root and first page of 100,000 changed rows, beside DeepDiff on 1,000 of the same rows × 100."""
    url = production(server, "bench_diff", 100_000, 101_000)
    life = Lifecycle(settings=installed(url, RULES), sandbox_server=server, tenant="1")
    life.run("UPDATE events SET amount = amount + 1")
    from differ.net import net_diff
    from mcp_server.images import step_clocks, table_images

    def first_page() -> None:
        net_diff(
            life.shadow.owner, table_images(life.shadow), clocks=step_clocks(life.shadow, None, rehearsal=False),
            set_columns=life.sets, page_size=50,
        )  # fmt: skip

    ours = median(seconds(first_page) for _ in range(3))
    life.close()
    with psycopg.connect(url) as conn:
        rows = conn.execute("SELECT * FROM events WHERE tenant_id = 1 ORDER BY id LIMIT 1000").fetchall()
    changed = [(*row[:3], row[3] + 1, *row[4:]) for row in rows]
    theirs = 100 * seconds(lambda: [DeepDiff(a, b) for a, b in zip(rows, changed, strict=True)])
    return Result.of(
        "diff + digest of 100,000 changed rows (goal 1.5 s) / DeepDiff of the same", ours, theirs, None, "s"
    )


def revert_10k(server: EmbeddedServer) -> Result:
    """A revert of 10,000 changed rows, from the asking to the receipt, against the fix that it puts back."""
    url = production(server, "bench_revert", 20_000, 21_000)
    with psycopg.connect(server.owner_url, autocommit=True) as conn, control_template(server) as template:
        conn.execute(f"CREATE DATABASE bench_revert_control TEMPLATE {template}".encode())
        control = roles_of(make_conninfo(server.owner_url, dbname="bench_revert_control")).control
        with fixes_on(url, control, server, RULES) as fixes:
            applied: list[str] = []
            statement = "UPDATE events SET amount = amount + 1 WHERE id <= 10000"
            fix = seconds(lambda: applied.append(fixes.applied([statement])))
            revert = seconds(lambda: fixes.reverted(applied[0]))
    return Result.of("revert of 10,000 rows / the fix itself, both from start to receipt", revert, fix, None, "s")


def replay_rows(server: EmbeddedServer, rows: int) -> list[Result]:
    """A yes until production has committed, for `rows` changed rows: in the session that was opened while a person
    read, and in one opened now, each against a connection that runs the bare transaction.
    """
    url = production(server, f"bench_replay_{rows}", 20_000, 21_000)
    settings = installed(url, RULES)
    statement = f"UPDATE events SET amount = amount + 1 WHERE id <= {rows}"
    applier = str(settings.applier_url)
    ahead, now, bare = [], [], []
    production_of = Production(settings)  # one for all, as in a server

    def clean() -> None:
        """Neither pays for the rows that the other left dead; this server has no autovacuum."""
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("VACUUM events")

    def transaction() -> None:
        with psycopg.connect(applier) as conn:
            conn.execute(statement.encode())

    def replayed(kept: psycopg.Connection[Any] | None, frozen: Frozen, fence: Fence) -> None:
        session = kept or open_session(applier, settings.search_path, frozen.proposal_id)
        with session:
            if kept:
                name_session(session, frozen.proposal_id)
            replay(session, fence, frozen, ReplayLimits(), production_of.fingerprint)

    for turn in range(20):
        life = Lifecycle(settings=settings, sandbox_server=server, tenant="1")
        life.run(statement)
        frozen, _ = life.freeze()
        fence = production_of.fence()
        clean()
        kept = open_ahead(applier, settings.search_path, fence, "1", ["events"]) if turn % 2 else None
        (ahead if kept else now).append(seconds(lambda: replayed(kept, frozen, fence)))  # noqa: B023 - called at once
        clean()
        bare.append(seconds(transaction))
        life.close()
    production_of.close()
    what = f"replay of {rows} changed rows"
    return [
        Result.of(f"{what} after a person read it / the bare transaction", median(ahead), median(bare), 2.0, "s"),
        Result.of(f"{what}, nobody having read it / the bare transaction", median(now), median(bare), None, "s"),
    ]
