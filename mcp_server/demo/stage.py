"""What the demo plays on: an embedded production with the demo's business, a configuration, servers and clients."""

import hashlib
import json
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import httpx2
import psycopg
from anyio.from_thread import start_blocking_portal
from mcp import Client, StdioServerParameters
from mcp.types import TextContent

from mcp_server.demo.business import business_sql
from mcp_server.demo.person import Browser
from mcp_server.install import APPLIER, READER, install, new_passwords
from shadow.embedded import EmbeddedServer, open_sandbox

_COMMAND = [sys.executable, "-m", "mcp_server"]
PEOPLE = ("rep", "engineer", "intern")


class DemoFailed(Exception):
    """The demo did not go as it must; the text says where."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The set: where production, the configuration and the pages are, and each person's own key and token."""

    folder: Path
    config: Path
    base_url: str
    server: EmbeddedServer
    keys: dict[str, str]
    tokens: dict[str, str]

    @property
    def owner_url(self) -> str:
        """Production as its owner: an independent look at it."""
        return self.server.url("business")

    def production(self, query: str) -> list[tuple[Any, ...]]:
        """Asks production over a connection of our own."""
        with psycopg.connect(self.owner_url) as conn:
            return conn.execute(query.encode()).fetchall()

    def change_production(self, statement: str) -> None:
        """Somebody else's work on production."""
        with psycopg.connect(self.owner_url) as conn:
            conn.execute(statement.encode())

    def command(self, *arguments: str, person: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a `shadowdesk` command as a person would on their own terminal."""
        from os import environ

        key = {"SHADOWDESK_KEY": self.keys[person]} if person else {}
        return subprocess.run(
            [*_COMMAND, *arguments], capture_output=True, text=True, check=False, env={**environ, **key}
        )

    def login_link(self, person: str) -> str:
        """The one-time link that `shadowdesk login` prints."""
        done = self.command("login", "--config", str(self.config), "--person", person, person=person)
        found = re.search(r"https?://\S+/login\?token=\S+", done.stdout)
        if found is None:
            raise DemoFailed(f"`shadowdesk login` printed no link: {done.stderr.strip()[-400:]}")
        return found[0]

    def browser(self, person: str) -> Browser:
        """The person's browser, logged in."""
        return Browser(self.base_url, self.login_link(person))


@contextmanager
def staged(folder: Path, more: str = "") -> Iterator[Stage]:
    """Embedded Postgres with the business loaded and the roles installed, and the pages served beside it.

    `more` is TOML that goes behind the demo's own configuration.
    """
    with ExitStack() as stack:
        server = stack.enter_context(open_sandbox(folder / "production"))
        with psycopg.connect(server.owner_url, autocommit=True) as conn:
            conn.execute("CREATE DATABASE business")
        with psycopg.connect(server.url("business")) as conn:
            conn.execute(business_sql().encode())
        stage = _configured(folder, server, more)
        stack.enter_context(_pages(stage))
        yield stage


def _configured(folder: Path, server: EmbeddedServer, more: str) -> Stage:
    passwords = new_passwords()
    install(server.url("business"), ["public"], passwords)
    port = _free_port()
    keys = {person: secrets.token_urlsafe(24) for person in PEOPLE}
    tokens = {person: secrets.token_urlsafe(24) for person in PEOPLE}
    template = Template(files(__package__).joinpath("shadowdesk.toml.in").read_text(encoding="utf-8"))
    text = template.substitute(
        data_dir=folder / "data",
        reader_url=server.url("business", user=READER, password=passwords[READER]),
        applier_url=server.url("business", user=APPLIER, password=passwords[APPLIER]),
        sandbox_url="embedded",
        control_url="embedded",
        port=port,
        **{f"{person}_key": hashlib.sha256(key.encode()).hexdigest() for person, key in keys.items()},
        **{f"{person}_token": hashlib.sha256(token.encode()).hexdigest() for person, token in tokens.items()},
    )
    config = folder / "shadowdesk.toml"
    config.touch(mode=0o600)
    config.write_text(text + more, encoding="utf-8")
    return Stage(
        folder=folder, config=config, base_url=f"http://127.0.0.1:{port}", server=server, keys=keys, tokens=tokens
    )


@contextmanager
def _pages(stage: Stage) -> Iterator[None]:
    """The process that serves the review pages: the only one that is given the applier's URL."""
    log = stage.folder / "pages.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*_COMMAND, "serve", "--only", "pages", "--config", str(stage.config)], stdout=out, stderr=out
        )
        try:
            _wait_for(stage.base_url, process, log)
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            process.kill()
            process.wait()


def _wait_for(base_url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx2.get(f"{base_url}/review", timeout=2)
        except httpx2.TransportError:
            time.sleep(0.1)
        else:
            return
    raise DemoFailed(f"the pages did not come up: {log.read_text(errors='replace')[-800:]}")


class Claude:
    """The model's side: a real MCP client over stdio, calling tools and reading what they say."""

    def __init__(self, stage: Stage, *, person: str | None = None, config: Path | None = None) -> None:
        """`person` stands in for the one of [stdio], `config` for the stage's own file."""
        with ExitStack() as opening:
            self._portal = opening.enter_context(start_blocking_portal())
            parameters = StdioServerParameters(
                command=_COMMAND[0],
                args=[*_COMMAND[1:], "stdio", "--config", str(config or stage.config)],
                cwd=stage.folder,
                env={"SHADOWDESK_STDIO__PERSON": person} if person else None,
            )
            self._client = opening.enter_context(self._portal.wrap_async_context_manager(Client(parameters)))
            self._closing = opening.pop_all()

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """One tool's structured answer. Raises DemoFailed with the tool's words when it refused."""
        result = self._portal.call(self._client.call_tool, tool, arguments)
        words = " ".join(part.text for part in result.content if isinstance(part, TextContent))
        if result.is_error or result.structured_content is None:
            raise DemoFailed(f"{tool}: {words}")
        return dict(result.structured_content)

    def tools(self) -> list[str]:
        """Names of the tools this person's role may use."""
        return sorted(tool.name for tool in self._portal.call(self._client.list_tools).tools)

    def close(self) -> None:
        """Ends the client and its server."""
        self._closing.close()


def desktop_config(stage: Stage) -> str:
    """A block for claude_desktop_config.json."""
    server = {"command": sys.executable, "args": ["-m", "mcp_server", "stdio", "--config", str(stage.config)]}
    return json.dumps({"mcpServers": {"shadowdesk": server}}, indent=2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
