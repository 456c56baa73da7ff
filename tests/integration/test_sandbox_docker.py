"""`docker://IMAGE` on a real engine: what runs, who shares it, how it ends, and the words when it cannot be had."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import docker
import psycopg
import pytest

from shadow.embedded import bin_dir
from shadow.errors import SandboxUnavailable
from shadow.sandbox import Sandbox, SandboxLimits
from shadow.sandbox_docker import LABEL, DockerSandbox
from tests.docker_engine import BARE


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose container, if any, is removed at the end."""
    yield tmp_path / "sandbox-docker"
    with engine() as client:
        for container in client.containers.list(all=True, filters={"label": LABEL}):
            if container.labels["shadowdesk.directory"].startswith(str(tmp_path)):
                container.remove(force=True)


@contextmanager
def engine() -> Iterator[docker.DockerClient]:
    client = docker.DockerClient.from_env()
    try:
        yield client
    finally:
        client.close()


@contextmanager
def opened(url: str, place: Path) -> Iterator[DockerSandbox]:
    server = DockerSandbox(url, place)
    try:
        yield server
    finally:
        server.close()


def container_of(server: DockerSandbox) -> Any:
    container = server._container()
    assert container is not None
    return container


def test_the_container_is_shut_in_and_its_password_is_nowhere_to_be_read(docker_image: str, place: Path) -> None:
    with opened(f"docker://{docker_image}?memory_mb=512&data_mb=256&cpus=1", place) as server:
        with psycopg.connect(server.url) as conn:
            assert conn.execute("SELECT current_setting('data_directory'), inet_server_addr()").fetchone() == (
                "/shadowdesk/data/pg", None,
            )  # fmt: skip
        found = container_of(server).attrs
        host = found["HostConfig"]
        assert host["NetworkMode"] == "none" and host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"]
        assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (512 << 20, 512 << 20, 10**9)
        assert "size=256m" in host["Tmpfs"]["/shadowdesk/data"] and "no-new-privileges" in host["SecurityOpt"]
        assert found["Config"]["User"].split(":")[0] not in ("", "0", "root")
        assert "pg_isready" in json.dumps(found["Config"]["Healthcheck"])
        password = psycopg.conninfo.conninfo_to_dict(server.url)["password"]
        assert len(str(password)) > 30 and str(password) not in json.dumps(found)
        assert not (place / "run" / "password").exists()
        health = container_of(server).exec_run(found["Config"]["Healthcheck"]["Test"][1:])
        assert health.exit_code == 0, health.output
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(server.url.replace(str(password), "guessed"))


def test_it_is_shared_reused_by_the_next_process_and_removed_when_nobody_uses_it(
    docker_image: str, place: Path
) -> None:
    url = f"docker://{docker_image}"
    with opened(url, place) as first, opened(url, place) as second:
        assert first.url == second.url
        ident = container_of(first).id
        Sandbox(first.url, SandboxLimits(), again=first.again)
        assert container_of(first).name not in first.remove_unused(0)  # the second uses it
        assert container_of(first).id == ident
    with opened(url, place) as third:
        assert container_of(third).id == ident
        with psycopg.connect(third.url) as conn:
            assert conn.execute("SELECT to_regclass('shadowdesk.shadows') IS NOT NULL").fetchone() == (True,)
        third.remove_unused(1)  # it holds a shadow in use
        assert container_of(third).id == ident
        assert container_of(third).name in third.remove_unused(0)
        assert third._container() is None and not (place / "server.json").exists()


def test_a_container_asked_for_differently_replaces_the_old_one(docker_image: str, place: Path) -> None:
    with opened(f"docker://{docker_image}", place) as first:
        before = container_of(first).id
    with opened(f"docker://{docker_image}?data_mb=300", place) as second:
        assert container_of(second).id != before
        with engine() as client, pytest.raises(docker.errors.NotFound):
            client.containers.get(before)


def test_a_container_of_a_data_directory_that_is_gone_is_removed_by_any_other(
    docker_image: str, place: Path, tmp_path: Path
) -> None:
    with opened(f"docker://{docker_image}?port=0", tmp_path / "gone") as lost:
        name = container_of(lost).name
    for left in (tmp_path / "gone").rglob("*"):
        if left.is_file():
            left.unlink()
    (tmp_path / "gone").rename(tmp_path / "moved")
    with opened(f"docker://{docker_image}", place) as server:
        assert name in server.remove_unused(1)
        with engine() as client:
            assert not client.networks.list(names=[name])


def test_a_container_of_somebody_else_is_left_alone(
    docker_image: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's or another host's directory cannot be looked into from here: that does not make it gone."""
    monkeypatch.setattr("shadow.sandbox_docker._owner", lambda: "70000@elsewhere")
    with opened(f"docker://{docker_image}", tmp_path / "theirs") as theirs:
        name = container_of(theirs).name
    monkeypatch.undo()
    (tmp_path / "theirs").rename(tmp_path / "moved")
    with opened(f"docker://{docker_image}", place) as server:
        assert name not in server.remove_unused(1)
        with engine() as client:
            client.containers.get(name).remove(force=True, v=True)


def test_a_server_whose_connections_are_all_in_use_is_not_dead(docker_image: str, place: Path) -> None:
    with opened(f"docker://{docker_image}", place) as server, ExitStack() as crowd:
        before = container_of(server).id
        while True:
            try:
                crowd.enter_context(psycopg.connect(server.url))
            except psycopg.OperationalError:
                break
        assert server.again() == server.url
        assert container_of(server).id == before


def test_a_killed_container_is_replaced_by_an_empty_one(docker_image: str, place: Path) -> None:
    with opened(f"docker://{docker_image}", place) as server:
        sandbox = Sandbox(server.url, SandboxLimits(), again=server.again)
        before = container_of(server)
        before.kill()
        assert sandbox.held() == 0
        assert container_of(server).id != before.id and sandbox.admin_url == server.url


def test_a_published_port_is_the_other_way_in_and_leads_nowhere_out(docker_image: str, place: Path) -> None:
    with opened(f"docker://{docker_image}?port=0", place) as server:
        parts = psycopg.conninfo.conninfo_to_dict(server.url)
        assert parts["host"] == "127.0.0.1"
        with psycopg.connect(server.url) as conn:
            assert conn.execute("SELECT inet_server_addr() IS NOT NULL").fetchone() == (True,)
        bound = container_of(server).attrs["NetworkSettings"]["Ports"]["5432/tcp"]
        assert [one["HostIp"] for one in bound] == ["127.0.0.1"]
        networks = server._engine.networks.list(filters={"label": f"{LABEL}={server._place.key}"})
        assert [n.attrs["Options"]["com.docker.network.bridge.enable_ip_masquerade"] for n in networks] == ["false"]
        server.remove_unused(0)
        assert not server._engine.networks.list(filters={"label": f"{LABEL}={server._place.key}"})


def refused(url: str, place: Path) -> str:
    with pytest.raises(SandboxUnavailable) as told, opened(url, place):
        pass
    assert all(part.endswith(".") for part in told.value.args) and len(told.value.args) == 3
    return str(told.value)


def test_what_cannot_run_is_said_in_words_and_leaves_nothing(docker_image: str, place: Path) -> None:
    assert "no image shadowdesk-tests/missing:1" in refused("docker://shadowdesk-tests/missing:1", place)
    assert "no program postgres" in refused(f"docker://{BARE}", place)
    assert "does not name a container" in refused("docker://", place)
    assert "does not name a container" in refused(f"docker://{docker_image}?memory=1", place)
    assert "ended with exit code" in refused(f"docker://{docker_image}?data_mb=8", place)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"Port {port} on 127.0.0.1 is taken" in refused(f"docker://{docker_image}?port={port}", place)
    with engine() as client:
        left = client.containers.list(all=True, filters={"label": f"shadowdesk.directory={place}"})
        assert not left and not client.networks.list(names=["shadowdesk-sandbox"])


def test_a_daemon_that_does_not_answer_is_said_in_words(
    docker_image: str, place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    assert "No Docker daemon answers at unix://" in refused(f"docker://{docker_image}", place)


def test_the_sdk_is_not_hidden_by_our_folder() -> None:
    root = Path(__file__).parents[2]
    assert "" not in os.environ.get("PYTHONPATH", "x").split(":")
    assert not Path(docker.__file__).is_relative_to(root / "docker")
    assert docker.DockerClient is not None and bin_dir().is_dir()
