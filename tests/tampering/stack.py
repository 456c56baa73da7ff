"""The real stack around the corpus' application: an MCP client, the governed server, a shadow, the review pages."""

import hashlib
import json
import logging
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client
from mcp.types import TextContent
from psycopg.conninfo import make_conninfo

from mcp_server.assembly import Assembly, open_desk
from mcp_server.demo.person import Browser, PageRefused
from mcp_server.identity import Caller, stdio_caller
from mcp_server.pages import pages_app
from mcp_server.server import build_server
from mcp_server.settings import load_settings
from shadow.embedded import EmbeddedServer
from shadow.fence import FenceRules
from shadow.shadow import Shadow
from tests.acceptance.pages_server import serving
from tests.control import migrated
from tests.lifecycle import installed
from tests.tampering.corpus import APP

TENANT, OTHER = "1", "2"
REP = Caller(name="rep", role="rep", channel="stdio", client="tampering")
#: A statement that is ended after this time leaves the rest of four seconds for everything around it.
STATEMENT_S = 2
_SETTINGS = """
data_dir = "{folder}/data"
[production]
reader_url = "{reader}"
applier_url = "{applier}"
[fence]
root = "tenants"
label = "name"
[fence.tables.tenants]
surface = false
[fence.tables.app_secrets]
class = "outside"
[sandbox]
url = "{sandbox}"
pool = 0
statement_timeout_s = {seconds}
[control]
url = "{owner}"
control_url = "{control}"
audit_url = "{audit}"
[roles.rep]
permissions = ["dry_run.*"]
confirm = ["self"]
[limits]
calls_per_minute = 1000000
open_dry_runs = 1000000
[people.rep]
role = "rep"
[stdio]
person = "rep"
[pages]
base_url = "http://127.0.0.1:{port}"
port = {port}
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one call or page gave; `sent` is False where the client could not even send it."""

    ok: bool
    words: str
    value: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    sent: bool = True
    #: What is written for people and models to read: `words` without the structured values, which are data.
    text: str = ""

    @property
    def ran(self) -> bool:
        """Whether a statement reached a database."""
        return self.sent and (self.ok or "Nothing ran" not in self.words)


class Stack:
    """One rep of tenant 1, their model's client and their browser."""

    def __init__(self, assembly: Assembly, portal: BlockingPortal, client: Client, browser: Browser) -> None:
        self.assembly = assembly
        self._portal = portal
        self._client = client
        self._browser = browser

    def call(self, tool: str, **arguments: Any) -> Answer:
        """One tool call by the MCP client."""
        started = time.monotonic()
        try:
            # What a client sends is JSON in UTF-8: text that is none stays at home.
            json.dumps(arguments, ensure_ascii=False).encode("utf-8")
            result = self._portal.call(self._client.call_tool, tool, arguments)
        except UnicodeError as error:
            return Answer(ok=False, words=type(error).__name__, sent=False)
        words = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
        value, text = dict(result.structured_content or {}), words
        if value:
            words += "\n" + json.dumps(value, ensure_ascii=False)
        return Answer(ok=not result.is_error, words=words, value=value, seconds=time.monotonic() - started, text=text)

    def started(self, tenant: str = TENANT) -> str:
        """A new dry run's id."""
        made = self.call("start_dry_run", tenant=tenant, request="please", purpose="a statement of the corpus")
        assert made.ok, made.words
        return str(made.value["dry_run"]["id"])

    def shadow(self, dry_run: str) -> Shadow:
        """The open shadow of a dry run."""
        return self.assembly.shadows._open[dry_run]

    def read(self, path: str) -> Answer:
        """The words of a review page."""
        return self._page(lambda: self._browser.read(path))

    def confirm(self, path: str, rows: int) -> Answer:
        """The person's yes on the page."""
        return self._page(lambda: self._browser.confirm(path, rows))

    def _page(self, act: Any) -> Answer:
        started = time.monotonic()
        try:
            words = act()
        except PageRefused as refused:
            return Answer(ok=False, words=refused.words, text=refused.words, seconds=time.monotonic() - started)
        return Answer(ok=True, words=words, text=words, seconds=time.monotonic() - started)


class Logged(logging.Handler):
    """What the server logged, as text."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def taken(self) -> str:
        """Everything since the last time."""
        lines, self.lines = self.lines, []
        return "\n".join(lines)


@contextmanager
def databases(production: EmbeddedServer, sandbox: EmbeddedServer) -> Iterator[tuple[str, str]]:
    """Owner URLs of a fresh production with the application and of an empty control database."""
    name = f"tampering_{secrets.token_hex(4)}"
    both = ((production, name), (sandbox, f"{name}_control"))
    for server, database in both:
        _admin(server, f"CREATE DATABASE {database}")
    try:
        url = production.url(name)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(APP.encode())
        yield url, sandbox.url(f"{name}_control")
    finally:
        for server, database in both:
            _admin(server, f"DROP DATABASE {database} WITH (FORCE)")


def _admin(server: EmbeddedServer, statement: str) -> None:
    with psycopg.connect(server.owner_url, autocommit=True) as conn:
        conn.execute(statement.encode())


@contextmanager
def stack_on(owner_url: str, control_url: str, sandbox: EmbeddedServer, folder: Path) -> Iterator[Stack]:
    """Everything that `shadowdesk serve` would run, on these databases, with a client and a browser connected."""
    parts = installed(owner_url, FenceRules(root="tenants"))
    urls = migrated(control_url)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        config = folder / "shadowdesk.toml"
        config.touch(mode=0o600)
        config.write_text(
            _SETTINGS.format(
                folder=folder, reader=parts.reader_url, applier=parts.applier_url, sandbox=sandbox.owner_url,
                seconds=STATEMENT_S, owner=urls.owner, control=urls.control, audit=urls.audit,
                port=listener.getsockname()[1],
            )
        )  # fmt: skip
        settings = load_settings(config)
        assembly = stack.enter_context(open_desk(settings, applier=True))
        app = pages_app(assembly.desk, settings, assembly.governor, assembly.control)
        stack.enter_context(serving(app, listener))
        token = secrets.token_urlsafe(24)
        assembly.control.create_login_link(hashlib.sha256(token.encode()).hexdigest(), REP.name, timedelta(minutes=5))
        browser = Browser(settings.pages.base_url, f"/login?token={token}")
        stack.callback(browser.close)
        server = build_server(assembly.desk, settings, assembly.governor, stdio_caller(settings))
        portal = stack.enter_context(start_blocking_portal())
        client = stack.enter_context(portal.wrap_async_context_manager(Client(server)))
        yield Stack(assembly, portal, client, browser)


def places(stack: Stack, own: str, other: str) -> dict[str, str]:
    """What the corpus' placeholders stand for."""
    mine, theirs = stack.shadow(own).surface, stack.shadow(other).surface
    return {
        "own_shadow": mine, "other_shadow": theirs, "own_role": mine, "other_role": theirs,
        "applier_role": "shadowdesk_applier", "owner_role": "app_owner", "control_role": "shadowdesk_control",
    }  # fmt: skip


def path_of(url: str) -> str:
    """A review link's path."""
    return re.sub(r"^https?://[^/]+", "", url)


def as_owner(server: EmbeddedServer, database: str) -> psycopg.Connection[Any]:
    """A connection of the server's owner."""
    return psycopg.connect(make_conninfo(server.owner_url, dbname=database), autocommit=True)
