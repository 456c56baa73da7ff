"""The state directory of an embedded server: its files, what the supervisor is ordered to run, and how a dead
server's remains are removed. Shared by the supervisor and `shadow.embedded_start`; standard library only.
"""

import errno
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

OWNER = "shadowdesk_owner"
PORT = 5432
# Files of the state directory. The three locks are `flock`s: the kernel drops them when a process dies.
START_LOCK = "start.lock"  # exclusive while a process joins or starts the server
USERS_LOCK = "users.lock"  # shared by every user; the supervisor waits for it exclusively
SUPERVISOR_LOCK = "supervisor.lock"  # exclusive for the supervisor's life
LIFE = "life"  # "sandbox" or "control": says that the directory is ours, and which life it has
PASSWORD = "owner.password"  # noqa: S105 - a file's name
LOG = "server.log"
READY = "server.json"  # present while the server accepts connections
POINTER = "cluster.path"  # where the cluster is when it cannot be in this directory
GONE_PREFIX = ".shadowdesk-gone-"
OUTSIDE_PREFIX = "shadowdesk-"
START_S = 120.0
STOP_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to run; paths are absolute, `uid` and `gid` are set when the caller is root."""

    state: str
    cluster: str
    life: str
    server_bin: str
    client_bin: str
    version: str
    uid: int | None
    gid: int | None

    @property
    def data(self) -> Path:
        return Path(self.cluster) / "data"

    @property
    def throw_away(self) -> bool:
        return self.life == "sandbox"


class NotStarted(Exception):
    """The server cannot be started; the text says why."""


def cluster_of(state: Path) -> Path:
    """The directory that holds `data` and `socket` for this state directory."""
    try:
        return Path((state / POINTER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return state


def remove_tree(path: Path) -> None:
    """Delete a directory that another process may be deleting, or still adding a file to."""
    for _ in range(100):
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            if not os.path.lexists(path):
                return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
        else:
            return
    shutil.rmtree(path)


def remove_sandbox(state: Path) -> None:
    """Delete a sandbox whose supervisor is gone or is the caller: processes, cluster, socket and state."""
    cluster = cluster_of(state)
    stop_leftovers(cluster / "data")
    remove_outside_socket(state)
    if cluster != state and cluster.exists():
        remove_tree(cluster)
    # Renamed first: a process that opens the same path meanwhile gets a directory of its own.
    gone = state.with_name(f"{GONE_PREFIX}{os.getpid()}-{secrets.token_hex(4)}")
    try:
        state.rename(gone)
    except FileNotFoundError:
        return
    except OSError:  # a mount point, or a parent we may not write: empty it where it is
        gone = state
    remove_tree(gone)


def stop_leftovers(data: Path) -> None:
    """End the server processes a dead supervisor left in `data`, then drop its stale lock file.

    Postgres itself refuses to start while the recorded process id exists, even as another program's. Called
    only by the holder of the supervisor lock, and only processes that run in `data` are ended.
    """
    deadline = time.monotonic() + STOP_S
    how = signal.SIGQUIT
    while running := _running_in(data):
        for pid in running:
            try:
                os.kill(pid, how)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
        if time.monotonic() > deadline - STOP_S + 10:
            how = signal.SIGKILL
        if time.monotonic() > deadline:
            raise NotStarted(f"processes {running} of an earlier server do not end")
    (data / "postmaster.pid").unlink(missing_ok=True)


def _running_in(data: Path) -> list[int]:
    """Process ids of `postgres` processes whose working directory is `data`."""
    if not os.path.islink("/proc/self/cwd"):
        return _running_by_pid_file(data)
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            folder = os.readlink(f"/proc/{entry}/cwd")
            program = os.readlink(f"/proc/{entry}/exe")
        except OSError:  # ended meanwhile, or another user's
            continue
        if folder == str(data) and os.path.basename(program).startswith("postgres"):
            found.append(int(entry))
    return found


def _running_by_pid_file(data: Path) -> list[int]:
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return []
    command = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return [pid] if "postgres" in command and str(data) in command else []


def remove_outside_socket(state: Path) -> None:
    try:
        folder = Path(json.loads((state / READY).read_text(encoding="utf-8"))["socket_dir"])
    except FileNotFoundError:
        return
    if folder.name.startswith(OUTSIDE_PREFIX) and folder.is_dir():
        remove_tree(folder)


def private_file(path: Path, text: str, order: Order | None = None) -> None:
    """Write a 0600 file, on disk when this returns; `order` hands it to the server's user."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        if order is not None and order.uid is not None and order.gid is not None:
            os.fchown(handle, order.uid, order.gid)
        file.write(text)
        file.flush()
        os.fsync(handle)


def private_folder(path: Path, order: Order) -> None:
    path.mkdir(mode=0o700)
    if order.uid is not None and order.gid is not None:
        os.chown(path, order.uid, order.gid, follow_symlinks=False)
