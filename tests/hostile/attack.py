"""Sends hostile calls to every tool, page and command of a staged business, and leaves in the middle of calls.

`__main__.py` and the suite's short form call it; what must hold is looked at by `Scene.broken`.
"""

import collections
import json
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psycopg
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import TextContent

from mcp_server.assembly import Assembly, open_desk
from mcp_server.demo.business import STORIES
from mcp_server.demo.stage import Stage, staged
from mcp_server.identity import stdio_caller
from mcp_server.server import GovernedServer, build_server
from mcp_server.settings import load_settings
from tests.hostile.arguments import NASTY, hostile

#: Seconds that work begun by a client who left may take to end.
SETTLE_S = 60.0


@dataclass(kw_only=True)
class Scene:
    """One staged business under attack, and what has gone wrong so far."""

    stage: Stage
    assembly: Assembly
    server: GovernedServer
    sandbox_url: str
    dry_run_id: str = ""
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: list[str] = field(default_factory=list)
    before: str = ""

    def events(self) -> list[Any]:
        """Every audit event, oldest first."""
        return self.assembly.audit.tail(1_000_000)

    def production(self) -> str:
        """All rows of production, as one text."""
        tables = self.stage.production(
            "SELECT format('%I', relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " ORDER BY 1"
        )
        return "\n".join(
            f"{name}:{self.stage.production(f'SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM {name} t')}"
            for (name,) in tables
        )

    def open_calls(self) -> list[str]:
        """Tools of calls whose outcome is not in the audit trail."""
        events = self.events()
        ended = {event.call_id for event in events if event.kind == "outcome"}
        return [event.tool for event in events if event.kind == "intent" and event.call_id not in ended]

    def orphans(self) -> int:
        """Shadows in use that no dry run speaks of."""
        known = {run.shadow_id for run in self.assembly.control.list_dry_runs(limit=100_000)}
        with psycopg.connect(self.sandbox_url) as conn:
            held = {row[0] for row in conn.execute("SELECT id FROM shadowdesk.shadows WHERE state = 'taken'")}
        return len(held - known)

    def broken(self) -> list[str]:
        """What does not hold: production changed, a call without outcome, a crash, a shadow of nobody."""
        found = list(self.faults)
        if self.production() != self.before:
            found.append("production changed")
        found += [f"{tool}: no outcome in the audit trail" for tool in self.open_calls()]
        crashes = {f"{e.tool}: {e.outcome}" for e in self.events() if (e.outcome or "").startswith("crash")}
        found += sorted(crashes)
        if orphans := self.orphans():
            found.append(f"{orphans} orphaned shadows")
        return found


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """A staged business with one open dry run of the rep's."""
    with staged(folder) as stage:
        with stage.config.open("a", encoding="utf-8") as config:
            config.write("\n[limits]\ncalls_per_minute = 1000000\nopen_dry_runs = 1000\n")
        settings = load_settings(stage.config)
        with ExitStack() as stack:
            assembly = stack.enter_context(open_desk(settings, applier=False))
            caller = stdio_caller(settings)
            server = build_server(assembly.desk, settings, assembly.governor, caller)
            found = Scene(stage=stage, assembly=assembly, server=server, sandbox_url=assembly.sandbox.admin_url)
            view = assembly.desk.start_dry_run(caller("hostile"), str(STORIES.tenant_id), "the request", "the purpose")
            found.dry_run_id, found.before = view.id, found.production()
            yield found


async def tools(scene: Scene, share: float, seed: int = 1) -> None:
    """Every tool with hostile arguments, `share` of them (0 to 1): each answers in words and is audited."""
    chance = random.Random(seed)  # noqa: S311 repeatable, not secret
    known = {"dry_run_id": scene.dry_run_id, "tenant": str(STORIES.tenant_id), "sql": "SELECT 1"}
    async with Client(scene.server) as client:
        for tool in (await client.list_tools()).tools:
            for what, arguments in hostile(tool.input_schema, known, seed):
                if chance.random() > share:
                    continue
                before = scene.assembly.audit.head().seq
                await _one(scene, client, tool.name, what, arguments)
                if scene.assembly.audit.head().seq < before + 2:
                    scene.faults.append(f"{tool.name} ({what}): not audited")


async def _one(scene: Scene, client: Client, name: str, what: str, arguments: dict[str, Any]) -> None:
    try:
        json.dumps(arguments, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        scene.counts["not sendable"] += 1  # half a surrogate pair: only the raw socket can send it
        arguments = {key: value for key, value in arguments.items() if "\ud800" not in repr(value)}
    try:
        result = await client.call_tool(name, arguments)
    except MCPError as error:
        scene.counts["protocol error"] += 1
        words = str(error)
    else:
        scene.counts["refused" if result.is_error else "accepted"] += 1
        words = " ".join(part.text for part in result.content if isinstance(part, TextContent))
    if not words.strip():
        scene.faults.append(f"{name} ({what}): no words")
    if "Traceback" in words or "inside ShadowDesk" in words:
        scene.faults.append(f"{name} ({what}): {words[:200]}")
    if any(character in words for character in "\x1b\u202e\0"):
        scene.faults.append(f"{name} ({what}): raw control characters came back")


def pages(scene: Scene, share: float, seed: int = 2) -> None:
    """Every page with hostile paths, queries and forms, logged in and not: 4xx in words, never 5xx."""
    chance = random.Random(seed)  # noqa: S311 repeatable, not secret
    base = scene.stage.base_url
    paths = ("/login", "/logout", "/review", "/review/{}", "/review/{}/confirm", "/review/{}/reject",
             "/review/{}/approve", "/review/{}/escalate", "/static/{}", "/{}")  # fmt: skip
    with httpx2.Client(base_url=base, follow_redirects=True, timeout=60) as person:
        person.get(scene.stage.login_link("rep"))
        with httpx2.Client(base_url=base, timeout=60) as stranger:
            for path in paths:
                for text in NASTY:
                    if chance.random() > share:
                        continue
                    for client in (person, stranger):
                        _visits(scene, client, path, text.encode("utf-8", "replace").decode()[:3000])


def _visits(scene: Scene, client: httpx2.Client, path: str, text: str) -> None:
    given = httpx2.QueryParams({"token": text})
    quoted = str(given)[len("token=") :]
    hostile_path, plain_path = path.format(quoted), path.format("pr_aaaaaaaaaaaa")
    _page(scene, path, client.get(hostile_path, params=given))
    _page(scene, path, client.post(hostile_path, data={"rows": text, "csrf": text}))
    _page(scene, path, client.post(plain_path, content=text.encode()))


def _page(scene: Scene, path: str, answer: httpx2.Response) -> None:
    scene.counts[f"page {answer.status_code}"] += 1
    if answer.status_code >= 500:
        scene.faults.append(f"page {path}: {answer.status_code}")
    if "<script>alert" in answer.text:
        scene.faults.append(f"page {path}: markup came back")


def commands(scene: Scene) -> None:
    """Every command that takes an id or words, with hostile ones: exit 1 or 2 in words, no traceback, no raw control."""
    config = ("--config", str(scene.stage.config))
    for arguments in (("audit", "tail"), ("confirm",), ("diff",), ("inspect",), ("recording", "export"), ("login",)):
        for text in ("<script>\x1b[2J", "' OR 1=1 --", "9" * 400, "../../etc/passwd"):
            done = scene.stage.command(*arguments, text, *config, person="engineer")
            scene.counts[f"command {done.returncode}"] += 1
            said = done.stdout + done.stderr
            if done.returncode not in (1, 2) or "Traceback" in said or "\x1b[2J" in said:
                scene.faults.append(f"{' '.join(arguments)} {text[:20]!r}: exit {done.returncode}: {said[-200:]!r}")


async def leaving(scene: Scene, calls: int) -> None:
    """`calls` calls at once of which every second is cancelled by its client; each is carried through and audited."""
    ended: collections.Counter[str] = collections.Counter()

    async def one(client: Client, number: int) -> None:
        sql = f"SELECT {number}, name FROM accounts"
        with anyio.move_on_after(0.05 if number % 2 else None):
            result = await client.call_tool("query_shadow", {"dry_run_id": scene.dry_run_id, "sql": sql})
            ended["refused" if result.is_error else "answered"] += 1
            return
        ended["left"] += 1

    async with Client(scene.server) as client, anyio.create_task_group() as group:
        for number in range(calls):
            group.start_soon(one, client, number)
    scene.counts.update({f"parallel {name}": number for name, number in ended.items()})
    await settled(scene)


async def starting_and_leaving(scene: Scene, starts: int) -> None:
    """Clients that go away while their shadow is being taken: the dry run is there, or nothing is."""
    given = {"tenant": str(STORIES.tenant_id), "request": "the request", "purpose": "leave at once"}
    for number in range(starts):
        async with Client(scene.server) as client:
            with anyio.move_on_after(0.02 * (number % 5)):
                await client.call_tool("start_dry_run", given)
        scene.counts["started and left"] += 1
    await settled(scene)


async def settled(scene: Scene) -> None:
    """Waits until no call is open; one that stays open is a fault that `broken` names."""
    with anyio.move_on_after(SETTLE_S):
        while await anyio.to_thread.run_sync(scene.open_calls):  # noqa: ASYNC110 the trail sends no event
            await anyio.sleep(0.2)


def wire(scene: Scene, address: str, token: str) -> None:
    """Half messages, bodies of 4 MiB and more, wrong JSON, depth: a 4xx or an error, and the server goes on."""
    host, port = address.removeprefix("http://").split(":")
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
    )
    for length, sent in ((1000, b'{"jsonrpc": "2.0", "id": 1, "meth'), (50, b""), (10**9, b"{")):
        with socket.create_connection((host, int(port)), timeout=10) as half:
            half.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + sent)
        scene.counts["half message"] += 1
    call: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "find_tenant"}}
    big = json.dumps({**call, "params": {"name": "find_tenant", "arguments": {"text": "x" * (4 << 20)}}}).encode()
    deep = b"[" * 100_000 + b"]" * 100_000
    lone = (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"find_tenant","arguments":{"text":"\\ud800"}}}'
    )
    headers = {
        "authorization": f"Bearer {token}", "content-type": "application/json",
        "accept": "application/json, text/event-stream",
    }  # fmt: skip
    with httpx2.Client(base_url=address, timeout=60, headers=headers) as client:
        for body in (big, deep, lone, b"", b"null", b"{}", b"\xff\xfe", b'{"jsonrpc":"2.0","id":', b"[" + big + b"]"):
            answer = client.post("/mcp", content=body)
            scene.counts[f"wire {answer.status_code}"] += 1
            if answer.status_code >= 500 or "Traceback" in answer.text:
                scene.faults.append(f"body of {len(body)} bytes: {answer.status_code} {answer.text[:100]}")
        alive = client.post(
            "/mcp",
            json={"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
            headers={"mcp-protocol-version": "2025-11-25"},
        )
        if alive.status_code != 200:
            scene.faults.append(f"the server does not answer any more: {alive.status_code}")
