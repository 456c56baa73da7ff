"""What a `docker://` sandbox is asked to be, and its private directory: the parsed URL, the lock of those who use it,
what is kept of a running container. Called by `shadow.sandbox_docker`.
"""

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from shadow.embedded_place import server_user
from shadow.embedded_state import OUTSIDE_PREFIX, OWNER, PORT, private_file
from shadow.errors import SandboxUnavailable

NO_CONTAINER = "No container was started, and nothing was changed."
SCHEME = "docker://"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The container that `docker://IMAGE?memory_mb=…&data_mb=…&cpus=…&port=…` asks for.

    `data_mb` is the tmpfs that holds all databases and counts into `memory_mb`; `port` publishes Postgres on
    127.0.0.1 (0: any free port) instead of a socket, for daemons in a virtual machine.
    """

    image: str
    memory_mb: int = 4096
    data_mb: int = 2048
    cpus: float = 2.0
    port: int | None = None

    @property
    def sound(self) -> bool:
        """False when nothing could run like that."""
        sizes = self.memory_mb > 0 and self.data_mb > 0 and self.cpus > 0
        return bool(self.image) and sizes and (self.port is None or 0 <= self.port < 65536)

    @property
    def digest(self) -> str:
        """Changes with everything asked for: another container is not reused."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def wanted(url: str) -> Wanted:
    """The parsed URL. Raises SandboxUnavailable when it does not say what it must."""
    image, _, query = url.removeprefix(SCHEME).partition("?")
    kinds = {"memory_mb": int, "data_mb": int, "cpus": float, "port": int}
    asked: Wanted | None = None
    with suppress(KeyError, ValueError):
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        asked = Wanted(image=unquote(image), **{key: kinds[key](value) for key, value in pairs})
    if asked is None or not asked.sound:
        raise SandboxUnavailable(
            f"sandbox.url {url!r} does not name a container.",
            NO_CONTAINER,
            "Write docker://IMAGE, with ?memory_mb=4096&data_mb=2048&cpus=2 or &port=55432 as needed.",
        )
    return asked


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is remembered of the running container, in a file that only this user can read."""

    container: str
    run: str
    password: str
    port: int | None = None

    @property
    def url(self) -> str:
        """The owner's URL of database `postgres`."""
        if self.port is not None:
            return f"postgresql://{OWNER}:{self.password}@127.0.0.1:{self.port}/postgres"
        return f"postgresql://{OWNER}:{self.password}@/postgres?host={quote(self.run, safe='')}&port={PORT}"


class Place:
    """The state directory of one docker sandbox; every process with the same `data_dir` shares it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory.resolve()
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = self.path / "server.json"
        self._users: int | None = self._open("users.lock")
        fcntl.flock(self._users, fcntl.LOCK_SH)

    @property
    def key(self) -> str:
        """Names the container: the same for every process of this directory."""
        return sha256(os.fsencode(self.path)).hexdigest()[:16]

    def _open(self, name: str) -> int:
        return os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """One process at a time starts, replaces or removes the container."""
        handle = self._open("start.lock")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def alone(self) -> bool:
        """True when no other process uses the sandbox; the caller holds the start lock, so none can join meanwhile."""
        if self._users is None:
            return False
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            fcntl.flock(self._users, fcntl.LOCK_SH)
        return True

    def leave(self) -> None:
        """Gives up this process' share."""
        users, self._users = self._users, None
        if users is not None:
            os.close(users)

    def kept(self) -> Kept | None:
        """What was remembered of the last container; None where another version wrote it otherwise."""
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(found, dict):
            return None
        kept: dict[str, Any] = {name: found.get(name) for name in Kept.__dataclass_fields__}
        texts = all(isinstance(kept[name], str) for name in ("container", "run", "password"))
        return Kept(**kept) if texts and isinstance(kept["port"], int | None) else None

    def keep(self, kept: Kept) -> None:
        """Remembers the running container."""
        new = self._file.with_suffix(".new")
        private_file(new, json.dumps(asdict(kept)))
        new.rename(self._file)

    def forget(self) -> None:
        """Removes what was remembered, and the directory that was bound into the container."""
        kept = self.kept()
        if kept is not None:
            shutil.rmtree(kept.run, ignore_errors=True)
        with suppress(FileNotFoundError):
            self._file.unlink()


def identity() -> tuple[int, int]:
    """The user and group that Postgres runs as in the container: ours, or for root those of the embedded server."""
    user = server_user()
    return (os.geteuid(), os.getegid()) if user is None else (user.uid, user.gid)


def new_run(place: Place) -> tuple[Path, str]:
    """A fresh private directory to bind into the container, with the owner's password in it; and that password.

    The socket's path must stay under about 100 bytes (Postgres docs 34.1.2). The container removes the password.
    """
    uid, gid = identity()
    near = place.path / "run"
    if len(os.fsencode(near)) <= 80:
        shutil.rmtree(near, ignore_errors=True)
        near.mkdir(mode=0o700)
        run = near
    else:
        run = Path(tempfile.mkdtemp(prefix=OUTSIDE_PREFIX, dir="/tmp"))
    password = secrets.token_urlsafe(32)
    private_file(run / "password", password)
    # Postgres asks for its user's name, which an image does not know (getpwuid in initdb).
    passwd = run / "passwd"
    private_file(passwd, f"root:x:0:0::/:/bin/sh\nshadowdesk:x:{uid}:{gid}::/:/bin/sh\n")
    passwd.chmod(0o644)
    if os.geteuid() == 0:
        for path in (run, run / "password"):
            os.chown(path, uid, gid, follow_symlinks=False)
    return run, password
