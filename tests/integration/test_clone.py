"""The pipe that rows are cloned through: every byte arrives, and what goes wrong on either side is said."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from shadow.clone import _BLOCK, _pipe
from shadow.embedded import EmbeddedServer
from shadow.errors import QuotaExceeded
from shadow.fence import FencedTable, FenceRules
from tests.lifecycle import Lifecycle, installed
from tests.postgres import MakeDatabase

TABLE = cast("FencedTable", SimpleNamespace(table=SimpleNamespace(name="rows")))


class Ends:
    def __init__(self, source_url: str, target_url: str) -> None:
        self.source: psycopg.Connection[Any] = psycopg.connect(source_url, autocommit=True)
        self.target: psycopg.Connection[Any] = psycopg.connect(target_url, autocommit=True)
        self.target.execute("CREATE TABLE rows(id int PRIMARY KEY, body text)")

    def pipe(self, query: str, max_bytes: int = 1 << 30) -> int:
        read, write = f"COPY ({query}) TO STDOUT".encode(), b"COPY rows FROM STDIN"
        with self.target.transaction():
            return _pipe(self.source, self.target, read, write, TABLE, max_bytes)

    def count(self) -> int:
        [(count,)] = self.target.execute("SELECT count(*) FROM rows").fetchall()
        return int(count)


@pytest.fixture
def ends(production_database: MakeDatabase, database: MakeDatabase) -> Iterator[Ends]:
    ends = Ends(production_database(), database())
    yield ends
    ends.source.close()
    ends.target.close()


ROWS = {
    "none": "SELECT g, 'x' FROM generate_series(1, 0) g",
    "one": "SELECT 1, 'x'",
    "many": "SELECT g, md5(g::text) FROM generate_series(1, 100000) g",
    "larger than a block": f"SELECT g, repeat('ä', {_BLOCK}) FROM generate_series(1, 9) g",
    "odd": r"SELECT g, E'\t\n\r\\ \\N \\. é' || repeat(E'\n', g % 50) FROM generate_series(1, 5000) g",
    "slow": "SELECT g, NULL FROM generate_series(1, 5) g, LATERAL (SELECT pg_sleep(0.02 + g * 0)) s",
}


@pytest.mark.parametrize("query", ROWS.values(), ids=ROWS)
def test_every_row_arrives_as_it_was(ends: Ends, query: str) -> None:
    piped = ends.pipe(query)
    there = ends.source.execute(f"SELECT * FROM ({query}) q ORDER BY 1".encode()).fetchall()
    assert ends.target.execute("SELECT * FROM rows ORDER BY 1").fetchall() == there
    assert piped == len(there)


def test_an_error_of_production_in_the_middle_is_raised_and_nothing_stays(ends: Ends) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero"):
        ends.pipe("SELECT g, (1 / (90000 - g))::text FROM generate_series(1, 100000) g")
    assert ends.count() == 0
    assert ends.source.execute("SELECT 1").fetchall() == [(1,)]
    assert ends.pipe(ROWS["many"]) == 100_000


def test_an_error_of_the_shadow_is_raised_and_both_connections_go_on(ends: Ends) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        ends.pipe("SELECT g % 70000, 'x' FROM generate_series(1, 100000) g")
    assert ends.count() == 0
    assert ends.pipe(ROWS["many"]) == 100_000


def test_a_connection_that_goes_away_is_an_operational_error(ends: Ends) -> None:
    killed = f"SELECT g, CASE g WHEN 90000 THEN pg_terminate_backend({ends.source.info.backend_pid})::text ELSE 'x' END"
    with pytest.raises(psycopg.OperationalError):
        ends.pipe(f"{killed} FROM generate_series(1, 100000) g")
    assert ends.count() == 0


def test_more_bytes_than_allowed_stop_it(ends: Ends) -> None:
    with pytest.raises(QuotaExceeded, match="of rows are larger than a shadow may hold"):
        ends.pipe(ROWS["many"], max_bytes=1_000_000)
    assert ends.count() == 0
    assert ends.pipe(ROWS["one"]) == 1


TALKING = """
CREATE TABLE tenants(id int PRIMARY KEY, name text);
CREATE FUNCTION talk(body text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
  $$BEGIN RAISE NOTICE '%', repeat('talk', 50); RETURN true; END$$;
CREATE TABLE notes(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants(id), body text CHECK (talk(body)));
INSERT INTO tenants VALUES (1, 'Acme');
SET client_min_messages = error;
INSERT INTO notes SELECT g, 1, md5(g::text) FROM generate_series(1, 30000) g;
"""


def test_a_check_that_talks_for_every_row_does_not_stop_the_clone(
    production_database: MakeDatabase, postgres_server: EmbeddedServer
) -> None:
    settings = installed(production_database(TALKING), FenceRules(root="tenants", label="name"))
    life = Lifecycle(settings=settings, sandbox_server=postgres_server, tenant="1")
    # 6 MB of notices would come back while rows are written, more than any buffer on the way holds
    assert life.run("UPDATE notes SET body = 'x' WHERE id = 7").row_count == 1
    assert life.query("SELECT count(*) FROM notes").rows is not None
    life.close()
