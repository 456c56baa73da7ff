"""Fixtures on real Postgres, loaded by tests/conftest.py: one throw-away server per run for all its workers,
and fresh databases on it; `--production 15|18|all` chooses the version that plays production.
"""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psycopg
import pytest
from psycopg import sql

from shadow.embedded import EmbeddedServer, bin_dir, open_sandbox, version
from shadow.errors import SandboxUnavailable

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
PRODUCTIONS = ("15", "18")


class MakeDatabase(Protocol):
    """Makes a fresh database, runs `script` in it and returns its owner's URL."""

    def __call__(self, script: str = "", template: str | None = None) -> str: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--production",
        choices=[*PRODUCTIONS, "all"],
        default="18",
        help="major version of the Postgres that plays production: 18 embedded, 15 from Debian (default: 18)",
    )


#: Bytes; a run's servers take about a tenth of it.
_PLENTY = 8 << 30


def pytest_configure() -> None:
    """What a run writes lies in memory where there is plenty and nobody chose a place: a thousand databases of
    300 files each are made and dropped, at which some file systems take a third of the run's time.
    """
    memory = Path("/dev/shm")  # noqa: S108 - pytest and mkdtemp make folders for their user alone
    if "TMPDIR" not in os.environ and memory.is_dir():
        found = os.statvfs(memory)
        if found.f_bavail * found.f_frsize >= _PLENTY and not found.f_flag & os.ST_NOEXEC:
            os.environ["TMPDIR"] = str(memory)  # what the tests start goes there too
            tempfile.tempdir = None


def pytest_report_header(config: pytest.Config) -> list[str]:
    try:
        embedded = f"{version()} from {bin_dir()}"
    except SandboxUnavailable as error:
        embedded = f"MISSING ({error.happened}): every test on Postgres is skipped"
    debian = f"{version(DEBIAN_15)} from {DEBIAN_15}" if _found(DEBIAN_15) else f"MISSING ({DEBIAN_15})"
    chosen = config.getoption("--production")
    return [f"postgres: embedded {embedded}", f"production: {chosen}; 15 would be {debian}"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "production_server" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--production")
        versions = PRODUCTIONS if chosen == "all" else (chosen,)
        ids = [f"production{major}" for major in versions]
        metafunc.parametrize("production_server", versions, indirect=True, ids=ids, scope="session")


def _found(folder: Path) -> bool:
    return (folder / "postgres").is_file()


def _run_directory(name: str) -> Path:
    """The same for all workers of one run; runs that crashed are swept by the next one's first open."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"pid{os.getpid()}"
    return Path(tempfile.gettempdir()) / f"shadowdesk-tests-{os.geteuid()}" / f"{run[:16]}-{name}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedServer]:
    """The run's sandbox server: superuser, scram, private socket."""
    try:
        bin_dir()
    except SandboxUnavailable as error:
        pytest.skip(f"NO EMBEDDED POSTGRES: {error}")
    with open_sandbox(_run_directory("sandbox")) as server:
        yield server


@pytest.fixture(scope="session")
def production_server(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    """A server of its own that plays production, in the version named by `--production`."""
    major = request.param
    folder = DEBIAN_15 if major == "15" else bin_dir()
    if not _found(folder) or version(folder).split(".")[0] != major:
        pytest.skip(f"NO POSTGRES {major} for production: looked in {folder}")
    with open_sandbox(_run_directory(f"production{major}"), binaries=folder) as server:
        yield server


@pytest.fixture
def database(postgres_server: EmbeddedServer) -> Iterator[MakeDatabase]:
    """Factory of databases on the sandbox server, dropped at the test's end."""
    with databases_of(postgres_server) as make:
        yield make


@pytest.fixture
def production_database(production_server: EmbeddedServer) -> Iterator[MakeDatabase]:
    """Factory of databases on the production server, dropped at the test's end."""
    with databases_of(production_server) as make:
        yield make


@contextmanager
def databases_of(server: EmbeddedServer) -> Iterator[MakeDatabase]:
    """A factory of databases on this server, dropped at the end."""
    made: list[str] = []
    with psycopg.connect(server.owner_url, autocommit=True) as admin:

        def make(script: str = "", template: str | None = None) -> str:
            name = f"test_{secrets.token_hex(6)}"
            # Copied by files: nothing is synced here, and it takes a third of the time.
            create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
            admin.execute(create.format(sql.Identifier(name), sql.Identifier(template or "template1")))
            made.append(name)
            url = server.url(name)
            if script:
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute(script.encode())
            return url

        try:
            yield make
        finally:
            for name in made:
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
