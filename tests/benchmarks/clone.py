"""Clone of a 500,000-row tenant against `psql COPY | psql COPY` and the same index DDL; a dry run of 10,000 rows."""

import subprocess
import time
from statistics import median

import psycopg
from psycopg.conninfo import make_conninfo

from shadow.embedded import EmbeddedServer
from shadow.fence import FenceRules, TableRule
from shadow.mirror import _environment
from tests.benchmarks.result import Result
from tests.lifecycle import Lifecycle, installed

APP = """
CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE events(id bigint PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants(id), kind text NOT NULL,
  amount numeric(12,2) NOT NULL, at timestamptz NOT NULL, note text, meta jsonb NOT NULL);
CREATE INDEX ON events(tenant_id); CREATE INDEX ON events(at); CREATE INDEX ON events(kind, amount);
INSERT INTO tenants VALUES (1,'large'),(2,'small');
"""
FILL = """
INSERT INTO events SELECT g, 1 + (g > {own})::int, 'kind ' || g % 20, g % 9999, now() - make_interval(secs => g),
  md5(g::text), jsonb_build_object('n', g) FROM generate_series(1, {all}) g; ANALYZE;
"""
RULES = FenceRules(root="tenants", label="name", tables={"tenants": TableRule(surface=False)})


def production(server: EmbeddedServer, name: str, own: int, everything: int) -> str:
    """A database with `own` rows of tenant 1."""
    with psycopg.connect(server.owner_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
    url = make_conninfo(server.owner_url, dbname=name)
    with psycopg.connect(url) as conn:
        conn.execute(APP)
        conn.execute(FILL.format(own=own, all=everything))  # type: ignore[call-overload]
    return url


def clone_500k(server: EmbeddedServer, repeats: int = 3) -> Result:
    """Our clone of one table with three indexes and a key, and psql's."""
    url = production(server, "bench_clone", 500_000, 600_000)
    settings = installed(url, RULES)
    ours, theirs = [], []
    for _ in range(repeats):
        theirs.append(_bare(server, url))
        life = Lifecycle(settings=settings, sandbox_server=server, tenant="1")
        started = time.perf_counter()
        life.shadow.ensure({"events": 1})
        ours.append(time.perf_counter() - started)
        life.close()
    return Result.of(
        "clone of a 500,000-row tenant / psql COPY pipe + index DDL", median(ours), median(theirs), 1.3, "s"
    )


def _bare(server: EmbeddedServer, url: str) -> float:
    """The pipe a careful engineer would write: COPY out, COPY in, then the key and the indexes."""
    with psycopg.connect(server.owner_url, autocommit=True) as conn:
        conn.execute("DROP DATABASE IF EXISTS bench_bare")
        conn.execute("CREATE DATABASE bench_bare")
    target = make_conninfo(server.owner_url, dbname="bench_bare")
    with psycopg.connect(target) as conn:
        conn.execute(
            "CREATE TABLE events(id bigint NOT NULL, tenant_id int NOT NULL, kind text NOT NULL, amount numeric(12,2) NOT NULL,"
            " at timestamptz NOT NULL, note text, meta jsonb NOT NULL)"
        )
    psql = [str(server.bin_dir / "psql"), "-X", "-q", "-c"]
    started = time.perf_counter()
    out = subprocess.Popen(
        [*psql, "COPY (SELECT * FROM events WHERE tenant_id = 1) TO STDOUT"],
        env=_environment(url),
        stdout=subprocess.PIPE,
    )
    subprocess.run([*psql, "COPY events FROM STDIN"], env=_environment(target), stdin=out.stdout, check=True)
    out.wait()
    with psycopg.connect(target, autocommit=True) as conn:
        for statement in (
            "ALTER TABLE events ADD PRIMARY KEY (id)", "CREATE INDEX ON events(tenant_id)", "CREATE INDEX ON events(at)",
            "CREATE INDEX ON events(kind, amount)", "ANALYZE events",
        ):  # fmt: skip
            conn.execute(statement)
    return time.perf_counter() - started


def dry_run_10k(server: EmbeddedServer, repeats: int = 5) -> Result:
    """Start, five steps and the net diff of a 10,000-row tenant, against the five bare statements on a copy."""
    url = production(server, "bench_dry_run", 10_000, 100_000)
    settings = installed(url, RULES)
    statements = [
        "UPDATE events SET amount = amount + 1 WHERE id = 17",
        "UPDATE events SET note = 'x' WHERE id BETWEEN 100 AND 200",
        "INSERT INTO events (id, kind, amount, at, meta) VALUES (9999999, 'k', 1, '2026-01-01', '{}')",
        "DELETE FROM events WHERE id = 18",
        "UPDATE events SET kind = 'y' WHERE amount > 9900",
    ]
    ours, theirs = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        life = Lifecycle(settings=settings, sandbox_server=server, tenant="1")
        for statement in statements:
            life.run(statement)
        life.net()
        ours.append(time.perf_counter() - started)
        life.close()
        with psycopg.connect(url) as conn:
            started = time.perf_counter()
            for statement in statements:
                conn.execute(statement.replace("(id, kind", "(tenant_id, id, kind").replace("(9999999", "(1, 9999999"))  # type: ignore[call-overload]
            theirs.append(time.perf_counter() - started)
            conn.rollback()
    return Result.of(
        "dry run (start, 5 steps, diff) of a 10,000-row tenant / the bare statements",
        median(ours),
        median(theirs),
        None,
        "s",
    )
