"""A dry run on a schema of a thousand tables: only what the edit needs is loaded, and the replay is exact."""

import psycopg

from shadow.embedded import EmbeddedServer
from shadow.fence import FenceRules
from tests.lifecycle import Lifecycle, installed
from tests.postgres import MakeDatabase
from tests.schemas.wide import wide_statements


def test_a_dry_run_on_a_thousand_tables_loads_what_it_needs(
    database: MakeDatabase, postgres_server: EmbeddedServer
) -> None:
    url = database()
    with psycopg.connect(url, autocommit=True) as conn:
        for statement in wide_statements():
            conn.execute(statement.encode())
    settings = installed(url, FenceRules(root="tenants", label="name"))
    life = Lifecycle(settings=settings, sandbox_server=postgres_server, tenant="1")
    try:
        assert len(life.shadow.fence.tables) == 1001
        ran = life.run("UPDATE t500 SET note = 'x'")
        assert ran.row_count == 5
        assert {"t500", "t124", "t30", "t6", "t0", "tenants"} <= set(ran.loaded)
        assert len(ran.loaded) < 20
        frozen, _ = life.freeze()
        life.replay(frozen)
    finally:
        life.close()
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT count(*) FROM t500 WHERE note = 'x'").fetchone() == (5,)
