"""Whatever a sandbox lacks, or has too much of, is found by breaking it: rights, versions, extensions, ways to production."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from mcp_server.doctor import check_production
from mcp_server.doctor_rights import Check
from mcp_server.doctor_sandbox import sandbox_checks
from mcp_server.production import Production
from shadow.embedded import EmbeddedServer, open_sandbox
from shadow.fence import FenceRules, TableRule
from tests.lifecycle import installed
from tests.postgres import DEBIAN_15, MakeDatabase
from tests.schemas.whole import TENANTS, schema

RIGHTS = {
    "sandbox role may create databases", "sandbox role may create roles",
    "sandbox answers shadows with lc_messages = C", "sandbox role may limit a shadow's temporary files",
    "sandbox role may load rows with triggers off", "sandbox role may build indexes after a load",
}  # fmt: skip
OLDER, EXTENSIONS = "sandbox and pg_dump are not older than production", "production's extensions in the sandbox"
APART, REACH = "shadows are apart from production", "sandbox role may not reach production"
MIRROR = "production's definitions in the sandbox"


def examined(production: Production, admin_url: str, bin_dir: Path) -> list[Check]:
    with psycopg.connect(admin_url, autocommit=True) as admin:
        return list(sandbox_checks(admin, admin_url, bin_dir, production.settings.reader_url, production.fence()))


def wrong(checks: list[Check]) -> dict[str, Check]:
    assert all(check.mend for check in checks if not check.ok)
    return {check.name: check for check in checks if not check.ok}


@contextmanager
def role(server: EmbeddedServer, name: str, options: str) -> Iterator[str]:
    """A login of that name and its URL of the maintenance database."""
    with psycopg.connect(server.owner_url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'made-up' {options}".encode())
        conn.execute(f"GRANT CONNECT ON DATABASE postgres TO {name}".encode())
        try:
            yield make_conninfo(server.owner_url, user=name, password="made-up")
        finally:
            conn.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


@pytest.fixture
def production(production_database: MakeDatabase) -> Iterator[Production]:
    made = Production(installed(production_database(schema("tenancy", "hops")), TENANTS))
    yield made
    made.close()


@pytest.fixture
def on_15(tmp_path: Path) -> Iterator[EmbeddedServer]:
    if not (DEBIAN_15 / "postgres").is_file():
        pytest.skip(f"NO POSTGRES 15: looked in {DEBIAN_15}")
    with open_sandbox(tmp_path / "on15", binaries=DEBIAN_15) as server:
        yield server


def test_a_role_that_lacks_rights_is_found_and_nothing_is_left_behind(
    production: Production, postgres_server: EmbeddedServer
) -> None:
    checks = examined(production, postgres_server.owner_url, postgres_server.bin_dir)
    assert not wrong(checks)
    assert checks[-1].name == MIRROR
    with role(postgres_server, "doctor_weak", "NOSUPERUSER") as url:
        assert wrong(examined(production, url, postgres_server.bin_dir)).keys() == RIGHTS
    with role(postgres_server, "doctor_middling", "CREATEDB CREATEROLE") as url:
        found = examined(production, url, postgres_server.bin_dir)
        lacking = {"sandbox role may create databases", "sandbox role may create roles"}
        assert wrong(found).keys() == RIGHTS - lacking
        assert MIRROR not in {check.name for check in found}
    with psycopg.connect(postgres_server.owner_url) as conn:
        assert not conn.execute("SELECT FROM pg_roles WHERE rolname ~ 'doctor'").fetchall()


def test_an_older_sandbox_or_pg_dump_is_named(
    database: MakeDatabase, postgres_server: EmbeddedServer, on_15: EmbeddedServer
) -> None:
    production = Production(installed(database(schema("tenancy", "hops")), TENANTS))
    [found] = wrong(examined(production, on_15.owner_url, postgres_server.bin_dir)).values()
    assert (found.name, found.detail) == (OLDER, "The sandbox is PostgreSQL 15, older than production's 18.")
    [found] = wrong(examined(production, postgres_server.owner_url, DEBIAN_15)).values()
    assert found.name == OLDER and "pg_dump" in found.detail and "SHADOWDESK_POSTGRES_BIN" in found.mend
    production.close()


def test_an_extension_that_the_sandbox_lacks_is_named(postgres_server: EmbeddedServer, on_15: EmbeddedServer) -> None:
    with psycopg.connect(on_15.owner_url, autocommit=True) as conn:
        conn.execute("CREATE DATABASE app")
    with psycopg.connect(on_15.url("app"), autocommit=True) as conn:
        conn.execute(schema("tenancy", "hops").encode())
        conn.execute("CREATE EXTENSION pgcrypto; CREATE EXTENSION sslinfo")
    production = Production(installed(on_15.url("app"), TENANTS))
    [found] = wrong(examined(production, postgres_server.owner_url, postgres_server.bin_dir)).values()
    assert found.name == EXTENSIONS and "the extension pgcrypto" in found.detail and "sandbox.url" in found.mend
    with psycopg.connect(on_15.url("app"), autocommit=True) as conn:
        conn.execute("DROP EXTENSION pgcrypto")
    checks = examined(production, postgres_server.owner_url, postgres_server.bin_dir)
    assert not wrong(checks)
    assert "without sslinfo" in next(check.detail for check in checks if check.name == EXTENSIONS)
    production.close()


def test_ways_from_the_sandbox_to_production_are_found(
    production: Production, postgres_server: EmbeddedServer, production_server: EmbeddedServer
) -> None:
    def found(admin_url: str) -> dict[str, Check]:
        return wrong(examined(production, admin_url, postgres_server.bin_dir))

    assert not found(postgres_server.owner_url)  # the mirror is the owner's
    with role(postgres_server, "doctor_both", "SUPERUSER") as url:
        assert not found(url)
        with role(production_server, "doctor_both", "SUPERUSER"):
            assert found(url).keys() == {REACH}
    assert not found(production_server.owner_url)
    with psycopg.connect(production_server.owner_url, autocommit=True) as conn:
        database = psycopg.conninfo.conninfo_to_dict(production.settings.reader_url)["dbname"]
        conn.execute(f'GRANT CONNECT ON DATABASE "{database}" TO PUBLIC'.encode())
    assert found(production_server.owner_url).keys() == {APART}


def test_tables_that_the_reader_may_not_read_are_told(production_database: MakeDatabase) -> None:
    url = production_database(schema("rights", "another_teams"))
    settings = installed(url, TENANTS)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("REVOKE ALL ON secrets FROM shadowdesk_reader, shadowdesk_applier")

    def told(rules: FenceRules) -> tuple[dict[str, Check], list[Check]]:
        production = Production(type(settings)(**{**vars(settings), "rules": rules}))
        checks = list(check_production(production))
        production.close()
        return wrong(checks), checks

    found, _ = told(TENANTS)
    assert found.keys() == {"reader can read every app table"}
    assert found["reader can read every app table"].detail == "secrets"
    meant = FenceRules(root="tenants", label="name", tables={"secrets": TableRule(fence_class="outside")})
    found, checks = told(meant)
    assert not found
    assert 'hidden.odd "names" *' in next(c.detail for c in checks if c.name == "reader can read every app table")
