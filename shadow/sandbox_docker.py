"""The sandbox in a throw-away container: `docker://IMAGE`, started on demand, shared by every process of a data
directory and reused by the next ones. The only importer of the docker SDK; called by `shadow.sandbox_server`.
"""

import logging
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import psycopg
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from shadow.embedded import bin_dir
from shadow.embedded_state import OWNER, PORT, START_S
from shadow.errors import SandboxUnavailable
from shadow.sandbox_docker_place import NO_CONTAINER, Kept, Place, Wanted, identity, new_run, wanted
from shadow.server_settings import EVERY, THROW_AWAY

LABEL = "shadowdesk.sandbox"  # the place's key
_CONFIG, _DIRECTORY, _OWNER = "shadowdesk.config", "shadowdesk.directory", "shadowdesk.owner"
_DATA, _RUN = "/shadowdesk/data", "/shadowdesk/run"
_INSIDE = f"{PORT}/tcp"
_NO_PROGRAM = "shadowdesk: no program postgres"
_FIND = (
    'best=0; for place in "$(dirname "$(command -v postgres || echo /none/postgres)")"'
    " /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin;"
    ' do if [ -x "$place/postgres" ] && [ -x "$place/initdb" ]; then'
    # by number: a glob sorts 9.6 after 16
    r""" new=$("$place/postgres" --version | sed 's/.*PostgreSQL) \([0-9]*\).*/\1/');"""
    ' if [ "${new:-0}" -ge "$best" ]; then best=$new; bin=$place; fi; fi; done;'
)
#: Makes the cluster in the tmpfs and becomes the server; the same for every image, so its own entry point is not run.
_ENTRY = f"""set -eu; bin=''; {_FIND}
if [ -z "$bin" ]; then echo '{_NO_PROGRAM}' >&2; exit 127; fi
major=$("$bin/postgres" --version | sed 's/.*PostgreSQL) \\([0-9]*\\).*/\\1/')
builtin=''
fast=''
if [ "$major" -ge 16 ]; then fast='--set scram_iterations=1'; fi
if [ "$major" -ge 17 ]; then builtin='--locale-provider=builtin --builtin-locale=C.UTF-8'; fi
"$bin/initdb" --pgdata={_DATA}/pg --username={OWNER} --pwfile={_RUN}/password --auth=scram-sha-256 --encoding=UTF8 \\
  --locale=C $builtin $fast --no-sync --wal-segsize=1 --no-instructions >/dev/null
rm {_RUN}/password
echo 'host all all all scram-sha-256' >> {_DATA}/pg/pg_hba.conf
exec "$bin/postgres" -D {_DATA}/pg "$@"
"""
_HEALTH = f"bin=''; {_FIND} \"$bin/pg_isready\" -q -h {_RUN} -p {PORT} -U {OWNER} -d postgres"
_HERE = "unix:///var/run/docker.sock"
_log = logging.getLogger(__name__)


class DockerSandbox:
    """One container with Postgres and this process' share in it."""

    private = True

    def __init__(self, url: str, directory: Path) -> None:
        """Starts the container, or takes up the one that runs. Raises SandboxUnavailable."""
        self._wanted = wanted(url)
        self.bin_dir = bin_dir()
        self._engine = connect_engine()
        try:
            self._place = Place(directory)
            self.url = self.again()
        except BaseException:
            self.close()
            raise

    def again(self) -> str:
        """The owner's URL, once the server answers: a container that ended or hangs is replaced by an empty one."""
        with self._place.starting(), _asking():
            kept, container = self._place.kept(), self._container()
            if container is not None:
                fits = kept is not None and kept.container == container.id and self._fits(container)
                if fits and kept is not None and self._accepts(container, kept, 15):
                    self.url = kept.url
                    return self.url
                _log.warning("the sandbox's container is replaced (it was %s)", container.status)
            self._remove(container)
            self.url = self._start().url
        return self.url

    def close(self) -> None:
        """Gives up this process' share; the container stays for the next process, until `remove_unused`."""
        if hasattr(self, "_place"):
            self._place.leave()
        self._engine.close()

    def remove_unused(self, held: int) -> list[str]:
        """Removes this container when no other process uses it and it holds no shadow in use (`held`), and those of
        data directories that are gone; returns their names.
        """
        removed = []
        with self._place.starting(), _asking():
            if held == 0 and self._place.alone():
                own = self._container()
                self._remove(own)
                removed += [str(own.name)] if own is not None else []
            for other in self._engine.containers.list(all=True, filters={"label": LABEL}):
                if other.labels[LABEL] != self._place.key and _abandoned(other.labels):
                    removed.append(str(other.name))
                    self._remove_container(other, other.labels[LABEL])
        return removed

    # ------------------------------------------------------------------------------------------------ container

    @property
    def _name(self) -> str:
        return f"shadowdesk-sandbox-{self._place.key}"

    def _container(self) -> Any:
        try:
            return self._engine.containers.get(self._name)
        except NotFound:
            return None

    def _fits(self, container: Any) -> bool:
        return bool(container.status == "running" and container.labels.get(_CONFIG) == self._wanted.digest)

    def _remove(self, container: Any) -> None:
        if container is not None:
            self._remove_container(container, self._place.key)
        self._place.forget()

    def _remove_container(self, container: Any, key: str) -> None:
        with suppress(NotFound):
            container.remove(force=True, v=True)
        for network in self._engine.networks.list(filters={"label": f"{LABEL}={key}"}):
            network.remove()

    def _start(self) -> Kept:
        image = self._image()
        port = self._wanted.port
        if port is None and not self._sockets_cross():
            port = 0
        run, password = new_run(self._place)
        container = self._engine.containers.create(image, **self._order(run, port))
        kept = Kept(container=str(container.id), run=str(run), password=password)
        self._place.keep(kept)  # before it runs: what is bound into it is removed with it
        try:
            container.start()
            if port is not None:
                container.reload()
                kept = Kept(
                    container=kept.container, run=kept.run, password=password,
                    port=int(container.attrs["NetworkSettings"]["Ports"][_INSIDE][0]["HostPort"]),
                )  # fmt: skip
                self._place.keep(kept)
            if not self._accepts(container, kept, START_S):
                raise self._did_not_start(container)
        except BaseException as error:
            with suppress(DockerException):
                self._remove(container)
            if isinstance(error, APIError):
                raise self._refused(error, port) from None
            raise
        return kept

    def _image(self) -> str:
        try:
            return str(self._engine.images.get(self._wanted.image).id)
        except ImageNotFound:
            raise SandboxUnavailable(
                f"There is no image {self._wanted.image} on this machine.",
                NO_CONTAINER,
                f"Run `docker pull {self._wanted.image}`, or name another image in sandbox.url.",
            ) from None

    def _sockets_cross(self) -> bool:
        """A daemon in a virtual machine (Docker Desktop) shares files with the host, but no sockets."""
        return sys.platform == "linux" and str(self._engine.info().get("OperatingSystem")) != "Docker Desktop"

    def _order(self, run: Path, port: int | None) -> dict[str, Any]:
        uid, gid = identity()
        asked, settings = self._wanted, {**EVERY, **THROW_AWAY}
        settings |= {"listen_addresses": "" if port is None else "*", "port": str(PORT)}
        settings |= {"unix_socket_directories": _RUN, "unix_socket_permissions": "0700"}
        labels = {LABEL: self._place.key, _CONFIG: asked.digest, _DIRECTORY: str(self._place.path)}
        labels[_OWNER] = _owner()
        order: dict[str, Any] = {
            "name": self._name,
            "labels": labels,
            "entrypoint": ["sh", "-c", _ENTRY, "sh"],
            "command": [part for name, value in settings.items() for part in ("-c", f"{name}={value}")],
            "user": f"{uid}:{gid}",
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "mem_limit": f"{asked.memory_mb}m",
            "memswap_limit": f"{asked.memory_mb}m",
            "nano_cpus": int(min(asked.cpus, float(self._engine.info()["NCPU"])) * 1e9),
            "pids_limit": 1024,
            "tmpfs": {
                _DATA: f"rw,nosuid,nodev,size={asked.data_mb}m,mode=0700,uid={uid},gid={gid}",
                "/tmp": "rw,nosuid,nodev,size=64m",  # noqa: S108 - the container's own
            },
            "volumes": {
                str(run): {"bind": _RUN, "mode": "rw,z"},
                str(run / "passwd"): {"bind": "/etc/passwd", "mode": "ro,z"},
            },
            "healthcheck": {"test": ["CMD", "sh", "-c", _HEALTH], "interval": 10_000_000_000, "retries": 3},
            "log_config": {"type": "json-file", "config": {"max-size": "1m", "max-file": "2"}},
            "restart_policy": {"Name": "no"},
            "network_mode": "none",
        }
        if port is not None:
            # A bridge of its own without masquerading: this port leads in, nothing leads out.
            options = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
            self._engine.networks.create(self._name, options=options, labels={LABEL: self._place.key})
            del order["network_mode"]
            order |= {"network": self._name, "ports": {_INSIDE: ("127.0.0.1", port or None)}}
        return order

    # ------------------------------------------------------------------------------------------------ answers

    def _accepts(self, container: Any, kept: Kept, seconds: float) -> bool:
        """Waits until the server answers; False when its container ended or the time is over.

        One whose connections are all in use answers too: it is not dead, and what it holds is in use.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(psycopg.OperationalError), psycopg.connect(kept.url, connect_timeout=2):
                return True
            if psycopg.pq.PGconn.ping(kept.url.encode()) == psycopg.pq.Ping.OK:
                return True
            container.reload()
            if container.status != "running":
                return False
            time.sleep(0.05)
        return False

    def _did_not_start(self, container: Any) -> SandboxUnavailable:
        container.reload()
        state = container.attrs["State"]
        said = container.logs(tail=20).decode(errors="replace").strip()
        if _NO_PROGRAM in said:
            return _no_postgres(self._wanted)
        if state.get("OOMKilled"):
            said = f"it needed more than {self._wanted.memory_mb} MB"
        last = said.splitlines()[-1][:300] if said else "it said nothing"
        return SandboxUnavailable(
            f"Postgres in a container of {self._wanted.image} ended with exit code {state.get('ExitCode')}: {last}.",
            "The container was removed; nothing else was changed.",
            "Mend what it says, give it more with ?memory_mb=…&data_mb=… in sandbox.url, or use another image.",
        )

    def _refused(self, error: APIError, port: int | None) -> SandboxUnavailable:
        said = str(error.explanation)
        if "already in use" in said or "already allocated" in said:
            return SandboxUnavailable(
                f"Port {port} on 127.0.0.1 is taken.",
                "The container was removed; nothing else was changed.",
                "Stop what listens there, or name another port in sandbox.url (0: any free one).",
            )
        if "executable file not found" in said:
            return _no_postgres(self._wanted)
        return SandboxUnavailable(
            f"Docker could not start a container of {self._wanted.image}: {said[:300]}.",
            "The container was removed; nothing else was changed.",
            "Mend what it says, or name another sandbox.url.",
        )


def _no_postgres(asked: Wanted) -> SandboxUnavailable:
    return SandboxUnavailable(
        f"The image {asked.image} holds no program postgres.",
        "The container was removed; nothing else was changed.",
        "Name an image with Postgres in sandbox.url, for example docker://postgres:18.",
    )


def _owner() -> str:
    """Who may say that a directory is gone: the same user on the same host (a container has a host name of its own)."""
    return f"{os.getuid()}@{socket.gethostname()}"


def _abandoned(labels: Mapping[str, str]) -> bool:
    """Whether the container's data directory is gone; one that cannot be looked into is somebody's."""
    if labels.get(_OWNER) != _owner() or not labels.get(_DIRECTORY):
        return False
    try:
        os.stat(labels[_DIRECTORY])
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def connect_engine() -> docker.DockerClient:
    """A client of the daemon that DOCKER_HOST names, or this machine's. Raises SandboxUnavailable."""
    where = os.environ.get("DOCKER_HOST") or _HERE
    try:
        if where.startswith("unix://"):  # asked first: the SDK leaves a socket open when nobody answers
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(where.removeprefix("unix://"))
        return docker.DockerClient.from_env(timeout=60)
    except (OSError, DockerException):
        raise _no_daemon() from None


@contextmanager
def _asking() -> Iterator[None]:
    """Says in words that the daemon does not answer, or refused."""
    try:
        yield
    except APIError as error:
        raise SandboxUnavailable(
            f"Docker refused: {str(error.explanation)[:300]}.", "Nothing else was changed.", "Mend what it says."
        ) from None
    except (DockerException, requests.RequestException):
        raise _no_daemon() from None


def _no_daemon() -> SandboxUnavailable:
    return SandboxUnavailable(
        f"No Docker daemon answers at {os.environ.get('DOCKER_HOST') or _HERE}.",
        NO_CONTAINER,
        "Start Docker, let this user use it, set DOCKER_HOST, or give another sandbox.url (embedded needs none).",
    )
