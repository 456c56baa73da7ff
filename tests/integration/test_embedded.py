"""The embedded server's two lives, tried with real processes, real kills and real Postgres."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from shadow.embedded import EmbeddedServer, open_control, open_sandbox, throw_away_folder
from shadow.embedded_state import cluster_of
from shadow.sandbox import Sandbox, SandboxLimits
from tests.processes import IS_ROOT, Hold, alive, end, one, running, spawn, supervisor_of, until, write_row


def test_a_sandbox_is_gone_after_its_only_user_is_killed(place: Path, hold: Hold) -> None:
    holder = hold("sandbox", place / "s")
    assert one(holder.url, "SHOW fsync") == "off"
    holder.kill()
    until(lambda: not running(holder.postmaster) and not list(place.iterdir()) and not any(alive(place)))


def test_a_program_started_by_the_user_does_not_keep_the_sandbox(place: Path, hold: Hold) -> None:
    holder = hold("sandbox", place / "s", "child")
    holder.kill()
    until(lambda: not running(holder.postmaster) and not (place / "s").exists())


def test_two_processes_share_one_server_until_the_last_leaves(place: Path, hold: Hold) -> None:
    first = hold("sandbox", place / "s")
    second = hold("sandbox", place / "s")
    assert (first.postmaster, first.url) == (second.postmaster, second.url)
    first.kill()
    with open_sandbox(place / "s") as third:
        assert third.postmaster == second.postmaster
    assert one(second.url, "SELECT 1") == 1
    second.leave()
    until(lambda: not running(second.postmaster) and not (place / "s").exists())


def test_processes_that_open_at_the_same_moment_get_the_same_server(place: Path) -> None:
    with ExitStack() as stack:
        holders = [spawn("sandbox", place / "s") for _ in range(4)]
        for holder in holders:
            stack.callback(end, holder)
        answers = {holder.stdout.readline() for holder in holders if holder.stdout is not None}
        assert len(answers) == 1
        assert "postgresql://" in answers.pop()


def test_closing_in_a_forked_child_leaves_the_parents_share(place: Path) -> None:
    with open_sandbox(place / "s") as server:
        child = os.fork()
        if child == 0:
            server.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with open_sandbox(place / "s") as again:
            assert again.postmaster == server.postmaster
        assert one(server.owner_url, "SELECT 1") == 1


def test_closing_twice_and_opening_again_gives_a_new_empty_sandbox(place: Path) -> None:
    server = open_sandbox(place / "s")
    write_row(server.owner_url)
    server.close()
    server.close()
    until(lambda: not (place / "s").exists())
    with open_sandbox(place / "s") as again:
        assert again.postmaster != server.postmaster
        assert one(again.owner_url, "SELECT to_regclass('kept') IS NULL") is True


def test_control_keeps_rows_when_its_user_is_killed(place: Path, hold: Hold) -> None:
    holder = hold("control", place / "c")
    assert one(holder.url, "SHOW fsync") == "on"
    write_row(holder.url)
    holder.kill()
    until(lambda: not running(holder.postmaster))
    with open_control(place / "c") as again:
        assert one(again.owner_url, "SELECT id FROM kept") == 7


def test_control_recovers_rows_when_the_server_is_killed_under_its_user(place: Path) -> None:
    with open_control(place / "c") as server:
        write_row(server.owner_url)
        os.kill(server.postmaster, signal.SIGKILL)
        until(lambda: not running(server.postmaster))
        with open_control(place / "c") as again:
            assert again.postmaster != server.postmaster
            assert again.owner_url == server.owner_url
            assert one(server.owner_url, "SELECT id FROM kept") == 7


@pytest.mark.skipif(sys.platform != "linux", reason="NEEDS LINUX: only its kernel tells a child of our death")
def test_the_server_ends_with_a_killed_supervisor_and_control_recovers(place: Path) -> None:
    with open_control(place / "c") as server:
        write_row(server.owner_url)
        os.kill(supervisor_of(place / "c"), signal.SIGKILL)
        until(lambda: not running(server.postmaster))
        with open_control(place / "c") as again:
            assert one(again.owner_url, "SELECT id FROM kept") == 7


def test_control_starts_though_its_stale_lock_file_names_a_living_process(place: Path) -> None:
    with open_control(place / "c") as server:
        write_row(server.owner_url)
        data = cluster_of(place / "c") / "data"
        owner = data.stat()
        os.kill(server.postmaster, signal.SIGKILL)
        until(lambda: not running(server.postmaster))
        user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if IS_ROOT else {}
        with subprocess.Popen(["sleep", "60"], cwd="/", **user) as other:  # type: ignore[call-overload]
            lines = (data / "postmaster.pid").read_text().splitlines()
            (data / "postmaster.pid").write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
            with open_control(place / "c") as again:
                assert one(again.owner_url, "SELECT id FROM kept") == 7
            assert other.poll() is None
            other.kill()


def test_a_crashed_sandbox_is_swept_by_the_next_one_beside_it(place: Path, hold: Hold) -> None:
    holder = hold("sandbox", place / "crashed")
    os.kill(supervisor_of(place / "crashed"), signal.SIGKILL)
    holder.kill()
    living = hold("sandbox", place / "living")
    (place / "somebody's").mkdir()
    with open_sandbox(place / "next"):
        assert {folder.name for folder in place.iterdir()} == {"living", "next", "somebody's"}
        until(lambda: not running(holder.postmaster))
        assert one(living.url, "SELECT 1") == 1


@pytest.mark.parametrize(("open_server", "by_files"), [(open_sandbox, True), (open_control, False)])
def test_a_mirror_is_copied_by_files_only_where_nothing_is_synced(
    place: Path, open_server: Callable[[Path], EmbeddedServer], by_files: bool
) -> None:
    """Such a copy asks for checkpoints, which a server that keeps its data would pay for (Postgres docs)."""
    asked = "SELECT num_requested FROM pg_stat_checkpointer"
    with open_server(place / "s") as server:
        sandbox = Sandbox(server.owner_url, SandboxLimits())
        with psycopg.connect(server.owner_url, autocommit=True) as conn:
            conn.execute("CREATE DATABASE mirror_made TEMPLATE template0 STRATEGY WAL_LOG")
            conn.execute("CHECKPOINT")
        before = one(server.owner_url, asked)
        sandbox.take("mirror_made")
        assert (one(server.owner_url, asked) != before) is by_files
        sandbox.close()


def test_nothing_of_the_servers_in_a_throw_away_folder_stays_wherever_their_clusters_are() -> None:
    with throw_away_folder("shadowdesk-test-") as folder:
        with open_sandbox(folder / "s") as sandbox, open_control(folder / "deep" / "c") as control:
            clusters = [cluster_of(server.directory) for server in (sandbox, control)]
            assert all((cluster / "data").is_dir() for cluster in clusters)
        if IS_ROOT:  # a server may not run as root: its user could not enter the folder
            assert not any(cluster.is_relative_to(folder) for cluster in clusters)
    assert not folder.exists() and not any(cluster.exists() for cluster in clusters)
    assert not running(sandbox.postmaster) and not running(control.postmaster)
