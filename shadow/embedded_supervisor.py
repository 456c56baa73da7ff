"""The process that owns one embedded Postgres: it makes the cluster, runs `postgres` as its child and stops
it when the last user has left. `shadow.embedded_start` starts it, without site-packages.
"""

import ctypes
import fcntl
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from shadow.embedded_state import (
    LOG,
    OUTSIDE_PREFIX,
    OWNER,
    PASSWORD,
    PORT,
    READY,
    START_S,
    STOP_S,
    SUPERVISOR_LOCK,
    USERS_LOCK,
    NotStarted,
    Order,
    private_file,
    private_folder,
    remove_outside_socket,
    remove_sandbox,
    remove_tree,
    stop_leftovers,
)
from shadow.server_settings import EVERY, THROW_AWAY

_SETTINGS = {"listen_addresses": "", "port": str(PORT), "unix_socket_permissions": "0700", **EVERY}


def _tied(how: int) -> Any:
    """A pre-exec function: the kernel sends the child `how` when the supervisor dies, however it dies.

    Linux only (prctl PR_SET_PDEATHSIG); elsewhere the next open ends what is left over.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    supervisor = os.getpid()

    def tie() -> None:
        if prctl(1, int(how), 0, 0, 0) != 0 or os.getppid() != supervisor:
            os._exit(1)

    return tie


def _child(order: Order, command: list[str], log: int, how: int) -> subprocess.Popen[bytes]:
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment,
        cwd="/",
        user=order.uid,
        group=order.gid,
        extra_groups=None if order.uid is None else [],
        preexec_fn=_tied(how),  # noqa: PLW1509 - no thread runs yet
    )


def _initdb(order: Order, log: int) -> None:
    """Make the cluster beside its place and rename it there: half a cluster is never taken for one."""
    cluster, new = Path(order.cluster), Path(order.cluster) / "data.new"
    if new.exists():
        remove_tree(new)
    password, pwfile = secrets.token_urlsafe(32), cluster / "initdb.password"
    private_file(Path(order.state) / PASSWORD, password)
    private_file(pwfile, password, order)
    private_folder(new, order)
    major = int(order.version.partition(".")[0])
    command = [f"{order.server_bin}/initdb", f"--pgdata={new}", f"--username={OWNER}", f"--pwfile={pwfile}"]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"]
    # From 17 on Postgres brings its own C.UTF-8; before that only the C locale is sure to exist.
    command += ["--locale=C"]
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else []
    # Every password of such a server is random and long: stretching only makes connections slow.
    command += ["--set", "scram_iterations=1"] if order.throw_away and major >= 16 else []
    if order.throw_away:
        command += ["--no-sync", "--wal-segsize=1"] + (["--no-data-checksums"] if major >= 18 else [])
    else:
        command += ["--data-checksums"]
    code = _child(order, command, log, signal.SIGKILL).wait(START_S)
    pwfile.unlink()
    if code != 0:
        raise NotStarted(f"initdb ended with exit code {code}")
    new.rename(order.data)
    handle = os.open(cluster, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _socket_dir(order: Order) -> Path:
    """A fresh private directory for the socket, whose path must stay under about 100 bytes."""
    remove_outside_socket(Path(order.state))
    near = Path(order.cluster) / "socket"
    if os.path.lexists(near):
        remove_tree(near)
    short = len(os.fsencode(near / f".s.PGSQL.{PORT}")) <= 100
    if short and re.fullmatch(r"[\w./-]+", str(near), re.ASCII):
        private_folder(near, order)
        return near
    folder = Path(tempfile.mkdtemp(prefix=OUTSIDE_PREFIX, dir="/tmp"))  # short, and made 0700
    if order.uid is not None and order.gid is not None:
        os.chown(folder, order.uid, order.gid)
    return folder


def _start(order: Order, socket_dir: Path, log: int) -> subprocess.Popen[bytes]:
    settings = _SETTINGS | (THROW_AWAY if order.throw_away else {})
    settings["unix_socket_directories"] = str(socket_dir)
    command = [f"{order.server_bin}/postgres", "-D", str(order.data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    server = _child(order, command, log, signal.SIGQUIT if order.throw_away else signal.SIGINT)
    deadline = time.monotonic() + START_S
    while server.poll() is None:
        if _accepts(order.data, server.pid):
            return server
        if time.monotonic() > deadline:
            server.send_signal(signal.SIGQUIT)
            server.wait(STOP_S)
            raise NotStarted(f"postgres was not ready after {START_S:.0f} s")
        time.sleep(0.01)
    raise NotStarted(f"postgres ended with exit code {server.returncode}")


def _accepts(data: Path, pid: int) -> bool:
    """Line 8 of the lock file is the postmaster's status (Postgres sources, utils/pidfile.h)."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _stop(order: Order, server: subprocess.Popen[bytes]) -> None:
    """Ask the server to end: a sandbox at once, control after a checkpoint if that comes in time."""
    if order.throw_away:
        server.send_signal(signal.SIGQUIT)
        return
    server.send_signal(signal.SIGINT)
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)


def _stop_without_users(order: Order, server: subprocess.Popen[bytes], users: int) -> None:
    fcntl.flock(users, fcntl.LOCK_EX)  # granted when the last shared lock is gone
    _stop(order, server)


def _stop_on_signal(
    server: subprocess.Popen[bytes], how: signal.Signals, _number: int, _frame: FrameType | None
) -> None:
    server.send_signal(how)


def _tell_starter(answer: dict[str, object]) -> None:
    os.write(1, json.dumps(answer).encode())
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _begin(order: Order, log: int) -> tuple[subprocess.Popen[bytes], Path]:
    stop_leftovers(order.data)
    if not order.data.exists():
        _initdb(order, log)
    socket_dir = _socket_dir(order)
    return _start(order, socket_dir, log), socket_dir


def _spare_from_cleaners(cluster: Path) -> int:
    """Lock the directory itself: systemd-tmpfiles leaves a locked directory in /tmp alone, however old."""
    handle = os.open(cluster, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > 1 << 20:
        log.rename(log.with_name(f"{LOG}.1"))


def _supervise(order: Order) -> int:
    state = Path(order.state)
    held = os.open(state / SUPERVISOR_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    users = os.open(state / USERS_LOCK, os.O_RDWR | os.O_NOFOLLOW)
    keep = _spare_from_cleaners(Path(order.cluster))
    _rotate(state / LOG)
    log = os.open(state / LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.dup2(log, 2)
    began = os.lseek(log, 0, os.SEEK_END)
    try:
        server, socket_dir = _begin(order, log)
    except (NotStarted, OSError, subprocess.SubprocessError) as error:
        tail = os.pread(log, 1 << 20, began).decode(errors="replace")[-4000:]
        _tell_starter({"ready": False, "reason": str(error), "log": tail})
        if order.throw_away:
            remove_sandbox(state)
        return 1
    signal.signal(
        signal.SIGTERM,
        partial(_stop_on_signal, server, signal.SIGQUIT if order.throw_away else signal.SIGINT),
    )
    answer = {"ready": True, "socket_dir": str(socket_dir), "bin_dir": order.client_bin}
    answer |= {"version": order.version, "postmaster": server.pid, "supervisor": os.getpid()}
    private_file(state / f"{READY}.new", json.dumps(answer))
    (state / f"{READY}.new").rename(state / READY)
    _tell_starter(answer)
    threading.Thread(target=_stop_without_users, args=(order, server, users), daemon=True).start()
    server.wait()
    if order.throw_away:
        remove_sandbox(state)
    else:
        remove_outside_socket(state)
        (state / READY).unlink(missing_ok=True)
    os.close(keep)
    return 0  # the locks go with the process


def main() -> None:
    """Detach from the starter (which waits for the first process only) and supervise one server."""
    order = Order(**json.loads(sys.argv[1]))
    if os.fork() != 0:
        os._exit(0)
    os.setsid()
    os.umask(0o077)
    sys.exit(_supervise(order))
