"""Joining an embedded server: takes this process' share, starts a supervisor when none runs, and sweeps what
crashed sandboxes left beside it. Called by `shadow.embedded`; POSIX only (`flock`).
"""

import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from shadow.embedded_place import SCAFFOLD, claim, marked, server_binaries, server_user, settle, version_of
from shadow.embedded_state import (
    GONE_PREFIX,
    LIFE,
    LOG,
    PASSWORD,
    PORT,
    READY,
    START_LOCK,
    START_S,
    STOP_S,
    SUPERVISOR_LOCK,
    USERS_LOCK,
    NotStarted,
    Order,
    remove_sandbox,
    remove_tree,
)
from shadow.errors import SandboxUnavailable

# Isolated and without site-packages: a supervisor starts in 20 ms and outlives changes to the environment.
_BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); import shadow.embedded_supervisor as s; s.main()"
_log = logging.getLogger(__name__)
_DEADLINE_S = START_S + STOP_S


@dataclass(frozen=True, kw_only=True)
class Joined:
    """A running server and the descriptor whose shared lock keeps it running."""

    share: int
    socket_dir: Path
    bin_dir: Path
    version: str
    postmaster: int
    password: str


def join(directory: Path, life: str, binaries: Path) -> Joined:
    """Take a share in the server of `directory`, starting it when it does not run.

    Raises SandboxUnavailable when the directory cannot be ours or the server does not start.
    """
    state = directory.resolve()
    deadline = time.monotonic() + _DEADLINE_S
    try:
        if life == "sandbox":
            _sweep(state)
        while True:
            joined = _attempt(state, life, binaries, deadline)
            if joined is not None:
                return joined
    except (OSError, subprocess.TimeoutExpired, NotStarted) as error:
        raise SandboxUnavailable(
            f"The embedded Postgres in {state} could not be reached: {error}.",
            "Nothing was read or written by it.",
            "Check the directory's owner, rights and free space, or name another directory.",
        ) from error


def _attempt(state: Path, life: str, binaries: Path, deadline: float) -> Joined | None:
    """One try; None when the directory was removed under our hands and the next try gets a new one."""
    claim(state, life)
    with ExitStack() as kept_on_success, ExitStack() as starting:
        start = _lock(state / START_LOCK, fcntl.LOCK_EX, deadline)
        if start is None:
            return None
        starting.callback(os.close, start)
        if not marked(state):
            (state / LIFE).write_text(life, encoding="utf-8")
        share = _lock(state / USERS_LOCK, fcntl.LOCK_SH, deadline)
        if share is None:
            return None
        kept_on_success.callback(os.close, share)
        try:
            answer = _running(state, deadline)
        except FileNotFoundError:
            if _at(start, state / START_LOCK):
                raise
            return None  # a supervisor whose server had died removed it
        if answer is None and life == "sandbox" and not set(os.listdir(state)) <= SCAFFOLD:
            remove_sandbox(state)  # its supervisor was killed: unsynced data is not trusted
            return None
        answer = answer or _launch(state, life, binaries)
        password = (state / PASSWORD).read_text(encoding="utf-8")
        kept_on_success.pop_all()
    return Joined(
        share=share,
        socket_dir=Path(str(answer["socket_dir"])),
        bin_dir=Path(str(answer["bin_dir"])),
        version=str(answer["version"]),
        postmaster=int(str(answer["postmaster"])),
        password=password,
    )


def _lock(path: Path, kind: int, deadline: float) -> int | None:
    """A descriptor (close-on-exec) that holds the lock; None when the file is no longer at its path."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return None
    with ExitStack() as undo:
        undo.callback(os.close, handle)
        while not _try_lock(handle, kind):
            if time.monotonic() > deadline:
                raise SandboxUnavailable(
                    f"Another process is still starting or stopping the server in {path.parent}.",
                    "No second server was started.",
                    f"Look at {path.parent / LOG} and try again.",
                )
            time.sleep(0.02)
        if not _at(handle, path):
            return None
        undo.pop_all()
    return handle


def _at(handle: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _supervised(state: Path) -> bool:
    handle = os.open(state / SUPERVISOR_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        return not _try_lock(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def _running(state: Path, deadline: float) -> dict[str, object] | None:
    """What the supervisor says of its accepting server; None once there is no supervisor.

    In between the server is being started by a process that died, or is about to end.
    """
    while _supervised(state):
        try:
            answer: dict[str, object] = json.loads((state / READY).read_text(encoding="utf-8"))
        except FileNotFoundError:
            answer = {}
        if answer and _accepts(Path(str(answer["socket_dir"]))):
            return answer
        if time.monotonic() > deadline:
            raise SandboxUnavailable(
                f"The server in {state} neither answers nor ends.",
                "No second server was started.",
                f"Look at {state / LOG}, end the process in {state / READY} and try again.",
            )
        time.sleep(0.02)
    return None


def _accepts(socket_dir: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(socket_dir / f".s.PGSQL.{PORT}"))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _launch(state: Path, life: str, binaries: Path) -> dict[str, object]:
    user = server_user()
    version = version_of(binaries)
    cluster = settle(state, life, user)
    _check_major(cluster, version)
    order = Order(
        state=str(state),
        cluster=str(cluster),
        life=life,
        server_bin=str(server_binaries(binaries, version, user)),
        client_bin=str(binaries),
        version=version,
        uid=None if user is None else user.uid,
        gid=None if user is None else user.gid,
    )
    (state / READY).unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _BOOT, str(Path(__file__).parents[1]), json.dumps(asdict(order))],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd="/",
        timeout=_DEADLINE_S * 2,
        check=False,
    )
    answer: dict[str, object] = (
        json.loads(done.stdout) if done.stdout else {"reason": done.stderr[-2000:] or "its supervisor was killed"}
    )
    if answer.get("ready") is True:
        return answer
    raise SandboxUnavailable(
        f"The embedded Postgres {version} in {state} did not start: {answer['reason']}.",
        f"No server is running. The end of its log:\n{str(answer.get('log', '')).strip() or '(empty)'}\n",
        "Mend what the log names, or name the URL of a server you run yourself.",
    )


def _check_major(cluster: Path, version: str) -> None:
    try:
        made_by = (cluster / "data" / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return
    if made_by != version.partition(".")[0]:
        raise SandboxUnavailable(
            f"The data in {cluster} was made by Postgres {made_by}; these programs are Postgres {version}.",
            "The server was not started, and the data is untouched.",
            f"Set SHADOWDESK_POSTGRES_BIN to a Postgres {made_by}, or move the data with pg_dump and psql.",
        )


def _sweep(state: Path) -> None:
    """Remove sandboxes beside `state` whose users and supervisor are all dead, and half-removed ones."""
    if not state.parent.is_dir():
        return
    for other in state.parent.iterdir():
        if other == state or other.is_symlink() or not other.is_dir():
            continue
        try:
            if other.stat().st_uid != os.geteuid():
                continue
            if other.name.startswith(GONE_PREFIX):
                remove_tree(other)
            elif marked(other) == "sandbox" and other.stat().st_mode & 0o077 in {0, 0o010}:
                remove_dead(other)
        except FileNotFoundError:
            continue  # another process was faster
        except (OSError, NotStarted) as error:
            _log.warning("could not remove the crashed sandbox %s: %s", other, error)


def remove_dead(other: Path) -> None:
    """Removes a server's state and its cluster, wherever that is, unless a user or its supervisor lives."""
    with ExitStack() as held:
        for name in (START_LOCK, USERS_LOCK, SUPERVISOR_LOCK):
            handle = os.open(other / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            held.callback(os.close, handle)
            if not _try_lock(handle, fcntl.LOCK_EX):
                return
        remove_sandbox(other)
