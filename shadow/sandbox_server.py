"""The server behind `sandbox.url`, in its three kinds: embedded, named by URL, in a container.

Opened by the hub's assembly and handed to `Sandbox`; a server of our own that went away is started again when asked.
"""

from pathlib import Path
from typing import Protocol

from shadow.embedded import bin_dir, open_sandbox


class SandboxServer(Protocol):
    """Where shadows live. `private`: the whole server is ours; `bin_dir` holds psql and pg_dump."""

    private: bool
    bin_dir: Path
    #: The owner's URL of the maintenance database.
    url: str

    def again(self) -> str:
        """The URL after it did not answer; a server of ours that is gone is replaced by an empty one."""
        ...

    def remove_unused(self, held: int) -> list[str]:
        """Removes what crashed or ended processes left running, when no shadow of it is in use; their names."""
        ...

    def close(self) -> None:
        """Gives up this process' share."""
        ...


class NamedServer:
    """A server that somebody else runs; Postgres' own files may hold other databases too."""

    private = False

    def __init__(self, url: str) -> None:
        self.url = url
        self.bin_dir = bin_dir()

    def again(self) -> str:
        """The same: nobody here can start it."""
        return self.url

    def remove_unused(self, held: int) -> list[str]:
        """Nothing: it is not ours."""
        return []

    def close(self) -> None:
        """Nothing is held."""


class EmbeddedSandbox:
    """The embedded throw-away server of a directory; it ends with its last user."""

    private = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = open_sandbox(directory)
        self.url, self.bin_dir = self._server.owner_url, self._server.bin_dir

    def again(self) -> str:
        """Joins the server once more: the one that still runs, one that another process started, or a new one."""
        before = self._server
        self._server = open_sandbox(self._directory)
        before.close()
        self.url = self._server.owner_url
        return self.url

    def remove_unused(self, held: int) -> list[str]:
        """Nothing: it ends by itself."""
        return []

    def close(self) -> None:
        """Gives up this process' share."""
        self._server.close()


def open_server(url: str, directory: Path) -> SandboxServer:
    """The server that `sandbox.url` names; those of ours keep their files below `directory`.

    Raises SandboxUnavailable.
    """
    if url == "embedded":
        return EmbeddedSandbox(directory / "sandbox")
    if url.startswith("docker://"):
        from shadow.sandbox_docker import DockerSandbox

        return DockerSandbox(url, directory / "sandbox-docker")
    return NamedServer(url)
