"""Fixtures and looks at real processes for tests that kill them; loaded by tests/conftest.py."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from shadow.embedded_state import READY

ROOT = Path(__file__).parents[1]
IS_ROOT = os.geteuid() == 0
HOLDER = """
import os, subprocess, sys
from pathlib import Path
from shadow.embedded import open_control, open_sandbox
server = {"sandbox": open_sandbox, "control": open_control}[sys.argv[1]](Path(sys.argv[2]))
if "child" in sys.argv:
    subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL)
print(server.postmaster, server.owner_url, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Another process that holds a share until it is killed or told to leave."""

    process: subprocess.Popen[str]
    postmaster: int
    url: str

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def leave(self) -> None:
        self.process.communicate("")


Hold = Callable[..., Holder]


@pytest.fixture
def place() -> Iterator[Path]:
    """A short directory that the server's user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="sd-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    until(lambda: not any(alive(folder)))
    shutil.rmtree(folder)


@pytest.fixture
def hold(place: Path) -> Iterator[Hold]:
    with ExitStack() as stack:

        def start(life: str, folder: Path, *more: str) -> Holder:
            process = spawn(life, folder, *more)
            stack.callback(end, process)
            assert process.stdout is not None
            pid, url = process.stdout.readline().split()
            return Holder(process=process, postmaster=int(pid), url=url)

        yield start


def spawn(life: str, folder: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, life, str(folder), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
        process.communicate()


def until(happened: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            pytest.fail(f"did not happen within {seconds} s")
        time.sleep(0.02)


def alive(folder: Path) -> Iterator[str]:
    """Command lines of the processes that work for a directory below `folder`."""
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, NotADirectoryError, ProcessLookupError, PermissionError):
            continue
        if str(folder) in line and ("postgres" in line or "embedded_supervisor" in line):
            yield line


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}/cwd").is_symlink()


def one(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def write_row(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (id int PRIMARY KEY)")
        connection.execute("INSERT INTO kept VALUES (7)")


def supervisor_of(state: Path) -> int:
    return int(json.loads((state / READY).read_text())["supervisor"])
