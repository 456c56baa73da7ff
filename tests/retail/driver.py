"""Drives the whole product as people do: the MCP client over stdio for the rep, a browser for the confirm.

Used by `python -m tests.retail run` and by acceptance tests, on a production that holds the shop already.
"""

import hashlib
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

import psycopg
from anyio.from_thread import start_blocking_portal
from mcp import Client, StdioServerParameters
from mcp.types import TextContent

from differ.model import Diff, RowChange
from mcp_server.demo.person import Browser
from mcp_server.install import APPLIER, READER, install_sql, new_passwords
from shadow.embedded import EmbeddedServer, throw_away_folder
from tests.retail.changes import Change
from tests.retail.data import Document

_ROOT = Path(__file__).parents[2]
_COMMAND = [sys.executable, "-c", "from mcp_server.cli import main; main()"]
_PAGE_SIZE = 50


class DriverFailed(Exception):
    """The product answered something that no session may end with; the text says what."""


class ClientDriver:
    """One MCP client and one browser on one production database that holds the shop."""

    def __init__(self, production: EmbeddedServer, database: str) -> None:
        self._dry_run_id = ""
        self._steps = 0
        self._proposal: Document | None = None
        with ExitStack() as opening:
            folder = opening.enter_context(throw_away_folder("shadowdesk-retail-"))
            port = _free_port()
            key = secrets.token_urlsafe(24)
            config = configure(folder, production, database, port, key)
            self._portal = opening.enter_context(start_blocking_portal())
            server = StdioServerParameters(
                command=_COMMAND[0], args=[*_COMMAND[1:], "stdio", "--config", str(config)], cwd=_ROOT
            )
            self._client = opening.enter_context(self._portal.wrap_async_context_manager(Client(server)))
            self._browser = Browser(f"http://127.0.0.1:{port}", login_link(config, key))
            opening.callback(self._browser.close)
            self._closing = opening.pop_all()

    def start(self, user_id: str, request: str) -> None:
        """Opens the session's dry run on that user."""
        arguments = {"tenant": user_id, "request": request, "purpose": "the customer's request"}
        self._dry_run_id = self._answer("start_dry_run", arguments)["dry_run"]["id"]
        self._steps = 0
        self._proposal = None

    def call(self, tool: str, arguments: Document) -> str | None:
        """One domain tool on the open dry run; the words of its refusal, None where it was done."""
        result = self._call(tool, {**arguments, "dry_run_id": self._dry_run_id})
        if result.is_error:
            return _words(result.content)
        self._steps += 1
        return None

    def propose(self) -> frozenset[Change] | None:
        """Every change the person is shown; nothing where every action was refused."""
        if not self._steps:
            self._answer("discard_dry_run", {"dry_run_id": self._dry_run_id})
            return frozenset()
        self._proposal = self._answer("propose", {"dry_run_id": self._dry_run_id})
        return frozenset(change_of(row) for row in self._rows(Diff.from_json(self._proposal["diff"])))

    def confirm(self) -> None:
        """The person's yes on the page. Raises DriverFailed when production did not take it."""
        if self._proposal is None:
            return
        self._browser.confirm(urlsplit(self._proposal["review_url"]).path, self._proposal["rows"])
        status = self._answer("proposal_status", {"proposal_id": self._proposal["id"]})
        if status["state"] != "applied":
            raise DriverFailed(f"the proposal ended {status['state']}: {status['outcome_message']}")

    def close(self) -> None:
        """Ends the client, its server and the browser."""
        self._closing.close()

    def _rows(self, page: Diff) -> Iterator[RowChange]:
        yield from page.rows
        seen = page.page_start + len(page.rows)
        if page.rows and seen < page.total_rows:
            arguments = {"dry_run_id": self._dry_run_id, "page_start": seen, "page_size": _PAGE_SIZE}
            yield from self._rows(Diff.from_json(self._answer("show_diff", arguments)["diff"]))

    def _answer(self, tool: str, arguments: Document) -> Document:
        result = self._call(tool, arguments)
        if result.is_error or result.structured_content is None:
            raise DriverFailed(f"{tool}: {_words(result.content)}")
        return dict(result.structured_content)

    def _call(self, tool: str, arguments: Document) -> Any:
        return self._portal.call(self._client.call_tool, tool, arguments)


def configure(folder: Path, production: EmbeddedServer, database: str, port: int, key: str) -> Path:
    """Installs the two roles on production and writes the TOML; returns its path."""
    passwords = new_passwords()
    with psycopg.connect(production.url(database), autocommit=True) as connection:
        connection.execute(install_sql(connection, ["public"], passwords).encode())
    template = Template(Path(__file__).with_name("shadowdesk.toml.in").read_text(encoding="utf-8"))
    config = folder / "shadowdesk.toml"
    config.touch(mode=0o600)
    config.write_text(
        template.substitute(
            data_dir=folder / "data",
            reader_url=production.url(database, user=READER, password=passwords[READER]),
            applier_url=production.url(database, user=APPLIER, password=passwords[APPLIER]),
            port=port,
            key_sha256=hashlib.sha256(key.encode()).hexdigest(),
        ),
        encoding="utf-8",
    )
    return config


def login_link(config: Path, key: str) -> str:
    """The one-time link that `shadowdesk login` prints on the person's own terminal."""
    command = [*_COMMAND, "login", "--config", str(config)]
    environment = {**os.environ, "SHADOWDESK_KEY": key}
    printed = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True, env=environment).stdout
    found = re.search(r"https?://\S+/login\?token=\S+", printed)
    if found is None:
        raise DriverFailed("`shadowdesk login` printed no login link")
    return found[0]


def change_of(row: RowChange) -> Change:
    """A row of the product's diff in the terms of the independent measurement."""
    return Change(
        table=row.table.rpartition(".")[2],
        kind=row.kind,
        key=tuple(sorted(row.key)),
        cells=tuple(sorted((cell.column, cell.before, cell.after) for cell in row.cells)),
    )


def _words(content: list[Any]) -> str:
    return " ".join(part.text for part in content if isinstance(part, TextContent))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
