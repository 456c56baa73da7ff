"""Extensions of production that a sandbox lacks: named, with the ways out; operational ones are done without."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from shadow.embedded import EmbeddedServer, open_sandbox
from shadow.errors import SandboxUnavailable
from shadow.extensions import OPERATIONAL, left_out, without
from shadow.mirror import dump_definitions, restore_definitions
from tests.postgres import DEBIAN_15, MakeDatabase, databases_of
from tests.schemas.whole import WholeWay

TABLE = (
    "CREATE TABLE tenants(id int PRIMARY KEY, name text); INSERT INTO tenants VALUES (1, 'Acme');"
    "CREATE TABLE orders(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int);"
    "INSERT INTO orders VALUES (1, 1, 0);"
)


@pytest.fixture(scope="module")
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Debian's 15 as one side: it has other extensions than the embedded 18."""
    if not (DEBIAN_15 / "postgres").is_file():
        pytest.skip(f"NO POSTGRES 15: looked in {DEBIAN_15}")
    with open_sandbox(Path(tmp_path_factory.mktemp("pg15")) / "server", binaries=DEBIAN_15) as server:
        yield server


@pytest.fixture
def on_15(other_server: EmbeddedServer) -> Iterator[MakeDatabase]:
    with databases_of(other_server) as make:
        yield make


def test_a_missing_extension_is_named_with_a_way_out(on_15: MakeDatabase, postgres_server: EmbeddedServer) -> None:
    url = on_15('CREATE EXTENSION pgcrypto; CREATE EXTENSION "uuid-ossp"; CREATE EXTENSION citext;')
    with psycopg.connect(url) as production, psycopg.connect(postgres_server.owner_url) as sandbox:
        with pytest.raises(SandboxUnavailable, match="extensions pgcrypto, uuid-ossp") as told:
            left_out(production, sandbox)
    assert "sandbox.url" in told.value.next_step and "citext" not in str(told.value)


def test_an_operational_extension_is_left_out(
    on_15: MakeDatabase, database: MakeDatabase, postgres_server: EmbeddedServer
) -> None:
    url = on_15("CREATE EXTENSION sslinfo; CREATE EXTENSION citext; CREATE TABLE t(a citext);")
    with psycopg.connect(url) as production, psycopg.connect(postgres_server.owner_url) as sandbox:
        missing = left_out(production, sandbox)
    assert missing == {"sslinfo"} <= OPERATIONAL
    target = database()
    restore_definitions(
        without(dump_definitions(url, postgres_server.bin_dir), missing), target, postgres_server.bin_dir
    )
    with psycopg.connect(target) as conn:
        found = conn.execute("SELECT extname FROM pg_extension ORDER BY 1").fetchall()
    assert found == [("citext",), ("plpgsql",)]


def test_an_extensions_types_and_operators_travel(whole_way: WholeWay) -> None:
    way = whole_way(
        TABLE + "CREATE SCHEMA ext; CREATE EXTENSION ltree SCHEMA ext; CREATE EXTENSION cube; CREATE EXTENSION pg_trgm;"
        "ALTER TABLE orders ADD path ext.ltree DEFAULT 'a.b', ADD box cube DEFAULT '(1,2)', ADD t text DEFAULT 'word';"
        "CREATE INDEX ON orders USING gin (t gin_trgm_ops); CREATE INDEX ON orders USING gist (path ext.gist_ltree_ops);"
    )
    applied = way.applied("UPDATE orders SET path = 'x.y.z', box = '(3,4),(5,6)', t = 'wort' WHERE t % 'words'")
    assert len(applied.diff.rows[0].cells) == 3


def test_a_dry_run_says_which_extension_is_missing(whole_way: WholeWay, production_server: EmbeddedServer) -> None:
    with psycopg.connect(production_server.owner_url) as conn:
        offered = conn.execute("SELECT FROM pg_available_extensions WHERE name = 'pgcrypto'").fetchall()
    way = whole_way(TABLE + ("CREATE EXTENSION pgcrypto;" if offered else ""))
    if offered:  # Debian's 15 has it, the embedded 18 of the sandbox has not
        with pytest.raises(SandboxUnavailable, match="the extension pgcrypto"):
            way.run()
    else:
        assert way.applied("UPDATE orders SET n = 1 WHERE id = 1").diff.total_rows == 1
