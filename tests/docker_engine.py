"""A real Docker engine for the tests, loaded by tests/conftest.py: the one that runs, or one started for this run.

Its image is Debian with PostgreSQL 15 and Python, made by debootstrap from the machine's own Debian source and kept by
its tag; tests/composition makes its own of it.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from shadow.errors import SandboxUnavailable
from shadow.sandbox_docker import connect_engine

IMAGE = "shadowdesk-tests/postgres-and-python:bookworm"
BARE = "shadowdesk-tests/bare:1"
_SUITE = "bookworm"


@pytest.fixture(scope="session")
def docker_image() -> Iterator[str]:
    """The tag of an image with Postgres on an engine that answers."""
    with ExitStack() as stack:
        with _one_worker_at_a_time():
            client = _engine(stack)
            _require_image(client)
        stack.callback(client.close)
        yield IMAGE


@contextmanager
def _one_worker_at_a_time() -> Iterator[None]:
    with open(Path(tempfile.gettempdir()) / f"shadowdesk-tests-docker-{os.geteuid()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _connect() -> docker.DockerClient | None:
    with suppress(SandboxUnavailable):
        return connect_engine()
    return None


def _engine(stack: ExitStack) -> docker.DockerClient:
    """The engine that answers; as root one is started, which outlives this worker: others may be using it."""
    if (client := _connect()) is not None:
        return client
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("NO DOCKER ENGINE: none answers, and none can be started (root and Debian's docker.io are needed)")
    log = Path(tempfile.gettempdir()) / "shadowdesk-tests-dockerd.log"
    with log.open("a") as output:
        # forked away: no worker of this run is its parent
        subprocess.run(
            ["setsid", "--fork", "dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=True,
        )  # fmt: skip
    for _ in range(300):
        if (client := _connect()) is not None:
            return client
        time.sleep(0.1)
    pytest.skip(f"NO DOCKER ENGINE: dockerd did not start; its log is {log}")


def _require_image(client: docker.DockerClient) -> None:
    try:
        client.images.get(IMAGE)
    except ImageNotFound:
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            pytest.skip("NO IMAGE WITH POSTGRES: root and Debian's debootstrap are needed to make one")
        _make_image(client)
    with suppress(ImageNotFound):
        client.images.get(BARE)
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "nothing").touch()
        _import(folder, BARE)


def _make_image(client: docker.DockerClient) -> None:
    with tempfile.TemporaryDirectory(prefix="shadowdesk-image-", dir="/var/tmp") as folder:  # its devices need a disk
        subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=postgresql,python3-pip,ca-certificates", _SUITE, folder, _mirror()],
            check=True, capture_output=True,
        )  # fmt: skip
        shutil.rmtree(Path(folder, "var/cache/apt"), ignore_errors=True)
        _import(folder, IMAGE)


def _import(folder: str, tag: str) -> None:
    with subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(["docker", "import", "-", tag], stdin=tar.stdout, check=True, capture_output=True)


def _mirror() -> str:
    """The first Debian source that this machine's apt is told to use."""
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for place in places:
        text = place.read_text() if place.is_file() else ""
        for address in re.findall(r"(?m)^(?:URIs:|deb(?: \[[^\]]*\])?)\s+(\S+/debian)/?(?:\s|$)", text):
            return str(address)
    pytest.skip("NO DEBIAN SOURCE: apt on this machine names none, so no image can be made")
