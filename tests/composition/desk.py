"""docker/ as a new operator sets it up by docs/deploy.md, in a copy of its own; used by test_compose.py."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_server.demo.person import Browser

_ROOT = Path(__file__).parents[2]
_PROJECT = "shadowdesk-tests"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def compose_command() -> list[str]:
    """`docker compose`, or Debian's older docker-compose."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0
        ):
            return command
    pytest.skip("NO COMPOSE: neither `docker compose` nor docker-compose (Debian's package of that name) is here")


def _lines_before_the_start() -> str:
    page = (_ROOT / "docs" / "deploy.md").read_text()
    return page.split("```sh\n", 1)[1].split("docker compose up", 1)[0]


@dataclass
class Desk:
    """A started composition; `person` is its only one."""

    folder: Path
    command: list[str]
    person: str = "rep"
    port: int = field(default_factory=_free_port)
    key: str = ""

    def __post_init__(self) -> None:
        """Copies what an image is built from and runs the page's own lines: passwords and the person's key."""
        for name in ("pyproject.toml", "uv.lock", "README.md", "LICENSE", ".dockerignore"):
            shutil.copy(_ROOT / name, self.folder)
        for name in ("mcp_server", "shadow", "differ", "audit", "docker"):
            shutil.copytree(_ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__", ".env"))
        done = subprocess.run(
            ["bash", "-euc", _lines_before_the_start()], cwd=self.folder, capture_output=True, text=True, check=True
        )
        self.key = done.stdout.split()[-1]
        settings = self.folder / "docker" / "shadowdesk.toml"
        settings.write_text(settings.read_text().replace("http://127.0.0.1:8765", self.base_url))
        self._fit_the_engine(self.folder / "docker" / "compose.yaml")

    def _fit_the_engine(self, file: Path) -> None:
        """All that differs from compose.yaml: a free port, the build's network, and `name`, which 1.29 does not know."""
        composition: dict[str, Any] = yaml.safe_load(file.read_text())
        del composition["name"]
        server = composition["services"]["server"]
        server["ports"] = [port.replace("127.0.0.1:8765:", f"127.0.0.1:{self.port}:") for port in server["ports"]]
        server["build"]["network"] = "host"
        file.write_text(yaml.safe_dump(composition, sort_keys=False))

    @property
    def base_url(self) -> str:
        """Where the pages and `/mcp` are."""
        return f"http://127.0.0.1:{self.port}"

    def password(self, name: str) -> str:
        """One that .env holds."""
        found = re.search(rf"(?m)^{name}=(\w+)$", (self.folder / "docker" / ".env").read_text())
        assert found is not None
        return found[1]

    def compose(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """One command of compose in docker/."""
        done = subprocess.run(
            [*self.command, "--project-name", _PROJECT, *arguments], cwd=self.folder / "docker",
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            env={**os.environ, "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"},
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done

    def up(self) -> None:
        """Starts all and returns when compose says that they run."""
        self.compose("up", "--detach", "--build")

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine says of a service's container."""
        done = subprocess.run(
            ["docker", "inspect", self._container(service)], capture_output=True, text=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found

    def _container(self, service: str) -> str:
        labels = (f"label=com.docker.compose.{of}" for of in (f"project={_PROJECT}", f"service={service}"))
        asked = ["docker", "ps", "--all", "--quiet", *(word for label in labels for word in ("--filter", label))]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    def health(self, service: str) -> str:
        """`healthy` as soon as it is; otherwise what it is after a minute and a half."""
        for _ in range(180):
            state = str(self.inspect(service)["State"]["Health"]["Status"])
            if state != "starting":
                return state
            time.sleep(0.5)
        return state

    def inside(self, service: str, *command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """A command in a service's container, as `compose exec` runs it."""
        done = subprocess.run(
            ["docker", "exec", self._container(service), *command], capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done

    def shadowdesk(self, *arguments: str) -> str:
        """What a `shadowdesk` command in the server's container says to the person, who types the personal key."""
        named = ("env", f"SHADOWDESK_KEY={self.key}", "shadowdesk", *arguments, "--person", self.person)
        return self.inside("server", *named).stdout

    def sql(self, service: str, query: str) -> str:
        """One value, asked in a database's own container as its owner."""
        asked = f'psql -X -A -t -h /tmp -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "{query}"'
        return self.inside(service, "sh", "-c", asked).stdout.strip()

    def browser(self) -> Browser:
        """The person's browser, logged in by the link that `shadowdesk login` prints."""
        link = re.search(r"https?://\S+/login\?token=\S+", self.shadowdesk("login"))
        assert link is not None
        return Browser(self.base_url, link[0])

    def token(self) -> str:
        """The person's own token for `/mcp`."""
        found = re.search(r"^sdp_\S+$", self.shadowdesk("token", "issue"), re.M)
        assert found is not None
        return found[0]
