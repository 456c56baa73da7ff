"""Sends hostile calls to every tool, page and command of a staged business, and leaves in the middle of calls.

`__main__.py` and the suite's short form call it; what must hold is looked at by `Scene.broken`.
"""

import collections
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psycopg
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import TextContent, Tool

from mcp_server.assembly import Assembly, open_desk
from mcp_server.demo.business import STORIES
from mcp_server.demo.stage import Stage, staged
from mcp_server.identity import Caller, stdio_caller
from mcp_server.server import GovernedServer, build_server
from mcp_server.settings import load_settings
from mcp_server.views import ProposalView
from tests.hostile.arguments import NASTY, Case, Schema, fits, hostile
from tests.hostile.commands import every_command, hostile_lines, played
from tests.hostile.forms import Fields, Form, Forms, hostile_fields

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
    proposal_id: str = ""
    rows: int = 0
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
        configured = load_settings(stage.config)
        with ExitStack() as stack:
            assembly = stack.enter_context(open_desk(configured, applier=False))
            caller = stdio_caller(configured)
            server = build_server(assembly.desk, configured, assembly.governor, caller)
            found = Scene(stage=stage, assembly=assembly, server=server, sandbox_url=assembly.sandbox.admin_url)
            view = assembly.desk.start_dry_run(caller("hostile"), str(STORIES.tenant_id), "the request", "the purpose")
            found.dry_run_id, found.before = view.id, found.production()
            proposal = _proposed(assembly, caller("hostile"))
            found.proposal_id, found.rows = proposal.id, proposal.rows
            yield found


def _proposed(assembly: Assembly, caller: Caller) -> ProposalView:
    """A proposal that waits for its rep, for the forms of its page."""
    desk = assembly.desk
    run = desk.start_dry_run(caller, str(STORIES.tenant_id), "the request", "the purpose")
    desk.run(caller, run.id, "UPDATE signatories SET office = office || '!'", "as asked")
    return desk.propose(caller, run.id)


def tools(scene: Scene, examples: int) -> None:
    """Every tool with `examples` hostile calls: what its schema refuses is refused, in words, and each is audited."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Client(scene.server)) as client:
        for tool in portal.call(client.list_tools).tools:
            _tool(scene, examples, lambda *case: portal.call(_one, scene, client, *case), tool)


def _tool(scene: Scene, examples: int, send: Callable[..., None], tool: Tool) -> None:
    known = {} if tool.name == "discard_dry_run" else {"dry_run_id": scene.dry_run_id, "sql": "SELECT 1"}

    @_drawn(examples)
    @given(hostile(tool.input_schema, known))
    def one(case: Case) -> None:
        before = scene.assembly.audit.head().seq
        send(tool.name, tool.input_schema, *case)
        if scene.assembly.audit.head().seq < before + 2:
            scene.faults.append(f"{tool.name} ({case[0]}): not audited")

    one()


def _drawn(examples: int) -> Callable[[Any], Any]:
    """The same examples in every run; slow ones are not hypothesis' business here, and nothing is kept."""
    return settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


async def _one(scene: Scene, client: Client, name: str, schema: Schema, what: str, arguments: dict[str, Any]) -> None:
    try:
        json.dumps(arguments, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        scene.counts["not sendable"] += 1  # half a surrogate pair: only the raw socket can send it
        arguments = {key: value for key, value in arguments.items() if _is_text(value)}
    try:
        result = await client.call_tool(name, arguments)
    except MCPError as error:
        scene.counts["protocol error"] += 1
        words = str(error)
    else:
        scene.counts["tools refused" if result.is_error else "tools accepted"] += 1
        words = " ".join(part.text for part in result.content if isinstance(part, TextContent))
        if not result.is_error and not fits(schema, arguments):
            scene.faults.append(f"{name} ({what}): accepted what its schema refuses")
    if not words.strip():
        scene.faults.append(f"{name} ({what}): no words")
    if "Traceback" in words or "inside ShadowDesk" in words:
        scene.faults.append(f"{name} ({what}): {words[:200]}")
    if any(character in words for character in "\x1b\u202e\0"):
        scene.faults.append(f"{name} ({what}): raw control characters came back")


def _is_text(value: Any) -> bool:
    try:
        return bool(json.dumps(value, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return False


def pages(scene: Scene, examples: int) -> None:
    """Every page with hostile paths, queries and forms, logged in and not: never 5xx, no markup back, audited."""
    base = scene.stage.base_url
    with httpx2.Client(base_url=base, follow_redirects=True, timeout=60) as person:
        person.get(scene.stage.login_link("rep"))
        with httpx2.Client(base_url=base, timeout=60) as stranger:
            _paths(scene, examples, (person, stranger))
        review = f"/review/{scene.proposal_id}"
        for form in Forms(person.get(review).text).found:
            # logging out and rejecting end what the other forms need: honest texts there are not hostile
            if not form.action.endswith(("/logout", "/reject")):
                _form(scene, examples, person, form)


def _paths(scene: Scene, examples: int, clients: tuple[httpx2.Client, ...]) -> None:
    paths = ("/login", "/logout", "/review", "/review/{}", "/review/{}/confirm", "/review/{}/reject",
             "/review/{}/approve", "/review/{}/escalate", "/static/{}", "/{}")  # fmt: skip

    @_drawn(examples)
    @given(st.sampled_from(paths), st.sampled_from(NASTY))
    def one(path: str, text: str) -> None:
        for client in clients:
            _visits(scene, client, path, text.encode("utf-8", "replace").decode()[:3000])

    one()


def _form(scene: Scene, examples: int, person: httpx2.Client, form: Form) -> None:
    @_drawn(examples)
    @given(hostile_fields(form, str(scene.rows)))
    def one(case: tuple[str, Fields]) -> None:
        what, fields = case
        before = scene.assembly.audit.head().seq
        body = str(httpx2.QueryParams(fields)).encode()
        headers = {"Origin": scene.stage.base_url, "Content-Type": "application/x-www-form-urlencoded"}
        answer = person.post(form.action, content=body, headers=headers)
        _page(scene, f"{form.action} ({what})", answer)
        # a field that is missing, forged or too large is refused before it is anybody's call
        if answer.status_code not in (400, 403, 413, 422) and scene.assembly.audit.head().seq < before + 2:
            scene.faults.append(f"page {form.action} ({what}): {answer.status_code}, not audited")

    one()


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
    if "<script>alert" in answer.text or "onerror=alert('owned')>" in answer.text:
        scene.faults.append(f"page {path}: markup came back")


def commands(scene: Scene, examples: int) -> None:
    """Every command with `examples` hostile lines: an exit code of the documented ones, words, no raw control."""
    folder = scene.stage.folder / "where commands run"
    folder.mkdir(exist_ok=True)
    for words, command in every_command():
        _command(scene, examples, folder, hostile_lines(words, command, str(scene.stage.config)))


def _command(scene: Scene, examples: int, folder: Path, lines: st.SearchStrategy[tuple[str, list[str]]]) -> None:
    @_drawn(examples)
    @given(lines)
    def one(case: tuple[str, list[str]]) -> None:
        what, line = case
        code, said = played(line, folder, scene.stage.keys["rep"])
        scene.counts[f"command {code}"] += 1
        # wrong usage is typer's to tell: it repeats the person's own line, without terminal codes
        acting = "\x1b\x9b" if code == 2 else "\x1b\x9b\u202e\u2028"
        loud = "Traceback" in said or any(character in said for character in acting)
        if code not in (0, 1, 2, 3) or not said.strip() or loud:
            scene.faults.append(f"{' '.join(line)[:80]!r} ({what}): exit {code}: {said[-300:]!r}")

    one()


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
