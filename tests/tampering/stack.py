"""The stack that entries are thrown at: a production with three tenants, a desk behind an MCP server, and watchers.

Another tenant's shadow is open beside it, a bystander writes another tenant's rows all the time, and a victim's
sessions stay open on production and sandbox.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from anyio.abc import BlockingPortal
from anyio.from_thread import start_blocking_portal
from mcp import Client
from mcp.types import TextContent
from psycopg.conninfo import make_conninfo

from mcp_server.assembly import Assembly, open_desk
from mcp_server.identity import Caller
from mcp_server.install import APPLIER, READER, install, new_passwords
from mcp_server.server import build_server
from mcp_server.settings import load_settings
from shadow.embedded import EmbeddedServer, open_sandbox

APP = (Path(__file__).parents[1] / "corpus" / "app.sql").read_text(encoding="utf-8")
REP = Caller(name="rep", role="rep", channel="stdio", client="tampering")
PERSON = Caller(name="rep", role="rep", channel="page", client="tampering")
STRANGER = Caller(name="stranger", role="rep", channel="stdio", client="tampering")
TABLES = ("tenants", "contracts", "line_items", "invoices", "audit_log", "app_secrets")
_TOML = """
data_dir = "{data}"
[production]
reader_url = "{reader}"
applier_url = "{applier}"
[sandbox]
pool = 2
statement_timeout_s = 3
[fence]
root = "tenants"
label = "name"
[fence.tables.tenants]
surface = false
[fence.tables.app_secrets]
class = "outside"
[roles.rep]
permissions = ["dry_run.*"]
confirm = ["self"]
[limits]
calls_per_minute = 1000000
open_dry_runs = 1000000
[people.rep]
role = "rep"
[people.stranger]
role = "rep"
[stdio]
person = "rep"
"""
#: The bystander writes a row without changing it.
_BYSTANDER = "UPDATE invoices SET total = total WHERE id = (SELECT min(id) FROM invoices WHERE tenant_id = 2)"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the client was told: all its text, whether it is an error, and how long it took (seconds)."""

    text: str
    refused: bool
    data: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    sent: bool = True


@dataclass(kw_only=True)
class Stack:
    """Everything one run works with."""

    owner_url: str
    assembly: Assembly
    portal: BlockingPortal
    client: Client
    victim: psycopg.Connection[Any]
    owner: psycopg.Connection[Any]
    bystander: "Bystander"
    other: str = ""
    kept: dict[str, bytes] = field(default_factory=dict)

    def call(self, tool: str, arguments: dict[str, Any]) -> Answer:
        """One tool call through the client; a text that no JSON can hold is not sent."""
        started = time.monotonic()
        try:
            result = self.portal.call(self.client.call_tool, tool, arguments)
        except Exception as error:  # the client's own refusal: the server was never asked, or answered with an error
            return Answer(
                text=f"{type(error).__name__}: {error}", refused=True, seconds=time.monotonic() - started, sent=False
            )
        text = "\n".join(block.text for block in result.content if isinstance(block, TextContent))
        data = result.structured_content or {}
        return Answer(
            text=f"{text}\n{data}", refused=bool(result.is_error), data=data, seconds=time.monotonic() - started
        )

    def start(self) -> str:
        """A dry run of tenant 1, as the model starts one."""
        answer = self.call(
            "start_dry_run", {"tenant": "1", "request": "an entry of the corpus", "purpose": "tampering"}
        )
        if answer.refused:
            raise RuntimeError(f"no dry run could be started: {answer.text[:300]}")
        return str(answer.data["dry_run"]["id"])

    def shadow_of(self, dry_run_id: str) -> Any:
        """The open shadow of a dry run, with its two connections."""
        record = self.assembly.control.dry_run(dry_run_id)
        return self.assembly.shadows.get(dry_run_id, record.shadow_id, record.tenant_key, record.fence_hash)

    def places(self, dry_run_id: str) -> dict[str, str]:
        """What an entry's placeholders stand for."""
        own, other = self.shadow_of(dry_run_id).surface, self.shadow_of(self.other).surface
        return {
            "own_shadow": own, "other_shadow": other, "own_role": own, "other_role": other, "applier_role": APPLIER,
            "owner_role": str(self.owner.info.user), "control_role": "shadowdesk_control",
        }  # fmt: skip

    def keep(self) -> None:
        """Remembers production's rows, so that each entry meets the same ones."""
        for name in TABLES:
            with self.owner.cursor().copy(f"COPY {name} TO STDOUT".encode()) as out:
                self.kept[name] = b"".join(bytes(block) for block in out)

    def put_back(self) -> None:
        """Production's rows as they were at the start; no trigger acts."""
        with self.owner.transaction(), self.owner.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            for name in reversed(TABLES):
                cursor.execute(f"DELETE FROM {name}".encode())
            for name in TABLES:
                with cursor.copy(f"COPY {name} FROM STDIN".encode()) as into:
                    into.write(self.kept[name])

    def rows(self) -> dict[tuple[str, str], str]:
        """(table, key) → row text of every row of the app, as its owner sees it."""
        found = {}
        for name in TABLES:
            key = "k" if name == "app_secrets" else "id"
            for place, text in self.owner.execute(f"SELECT {key}::text, t::text FROM {name} t").fetchall():
                found[name, str(place)] = str(text)
        return found

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Something the judge wants to know of production."""
        return self.owner.execute(statement.encode()).fetchall()


class Bystander:
    """Another tenant's writer; `blocked_since` says whether it had to wait."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._blocked: list[float] = []
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as conn:
            conn.execute("SET lock_timeout = '2s'")
            while not self._stop.wait(0.05):
                try:
                    conn.execute(_BYSTANDER)
                except psycopg.errors.LockNotAvailable:
                    self._blocked.append(time.monotonic())

    def blocked_since(self, moment: float) -> bool:
        """Whether it waited longer than two seconds for a lock after `moment`."""
        return any(when >= moment for when in self._blocked)

    def close(self) -> None:
        """Ends the writer."""
        self._stop.set()
        self._thread.join(timeout=10)


@contextmanager
def open_stack(folder: Path, production: EmbeddedServer) -> Iterator[Stack]:
    """The stack on a production server of its own, with the other tenant's shadow open and written to."""
    with ExitStack() as opening:
        name = f"tampering_{secrets.token_hex(4)}"
        with psycopg.connect(production.owner_url, autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {name}".encode())
        url = make_conninfo(production.owner_url, dbname=name)
        passwords = new_passwords()
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(APP.encode())
        install(url, ["public"], passwords)
        config = folder / "shadowdesk.toml"
        config.write_text(
            _TOML.format(
                data=folder / "data",
                reader=production.url(name, user=READER, password=passwords[READER]),
                applier=production.url(name, user=APPLIER, password=passwords[APPLIER]),
            )
        )
        settings = load_settings(config)
        assembly = opening.enter_context(open_desk(settings, applier=True))
        server = build_server(assembly.desk, settings, assembly.governor, lambda client: REP)
        portal = opening.enter_context(start_blocking_portal())
        client = opening.enter_context(portal.wrap_async_context_manager(Client(server)))
        owner = opening.enter_context(psycopg.connect(url, autocommit=True))
        victim = opening.enter_context(psycopg.connect(url, autocommit=True))
        bystander = Bystander(url)
        opening.callback(bystander.close)
        stack = Stack(
            owner_url=url, assembly=assembly, portal=portal, client=client, victim=victim, owner=owner,
            bystander=bystander,
        )  # fmt: skip
        stack.keep()
        other = assembly.desk.start_dry_run(STRANGER, "2", "another tenant's dry run", "stands beside")
        assembly.desk.run(STRANGER, other.id, "UPDATE contracts SET note = 'theirs'", "so that it holds rows")
        stack.other = other.id
        yield stack


def fingerprint(conn: psycopg.Connection[Any], statement: str) -> str:
    """One hash over a query's rows."""
    rows = conn.execute(statement.encode()).fetchall()
    return hashlib.sha256(repr(rows).encode()).hexdigest()


@contextmanager
def production_server(folder: Path, binaries: Path | None) -> Iterator[EmbeddedServer]:
    """A server that plays production, of the version whose programs are given."""
    with open_sandbox(folder / "production", binaries=binaries) as server:
        yield server


def alive(conn: psycopg.Connection[Any]) -> bool:
    """Whether a session still answers."""
    with suppress(psycopg.Error):
        return conn.execute("SELECT 1").fetchone() == (1,)
    return False
