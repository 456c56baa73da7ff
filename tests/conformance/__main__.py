"""`python -m tests.conformance`: runs the official suite and the inspector; exit 0 when every required scenario passes.

The parts come from npm at fixed versions into .tools/conformance; the suite speaks without a bearer token, so who
calls is fixed here as it is on stdio. What was said goes to conformance.json.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from mcp import Client

from mcp_server.demo.business import STORIES
from mcp_server.demo.stage import Stage, staged
from mcp_server.http import MCP_PATH, transport_security
from mcp_server.settings import CONFIG_VARIABLE
from tests.acceptance.mcp_desk import MemoryAudit, settings_in
from tests.conformance.fixture import HIDDEN, GovernedFixture
from tests.processes import alive, until

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools" / "conformance"
#: Node 20 lacks what both programs use.
PARTS = (
    "node@22.23.3",
    "@modelcontextprotocol/conformance@0.2.0-alpha.12",
    "@modelcontextprotocol/inspector@2.12.0",
)
REVISIONS = ("2026-07-28", "2025-11-25")
ERAS = ("legacy", "modern")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def node_parts() -> Run:
    """Installs the parts where they are missing; gives what runs one of them. Exits when there is no npm."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("The conformance suite needs npm, which is not installed. Nothing ran. Install Node.js 18 or newer.")
    installed = TOOLS / "installed.json"
    if not installed.exists() or json.loads(installed.read_text()) != list(PARTS):
        TOOLS.mkdir(parents=True, exist_ok=True)
        subprocess.run([npm, "install", "--silent", "--no-save", "--prefix", str(TOOLS), *PARTS], check=True)
        installed.write_text(json.dumps(PARTS))
    home = tempfile.mkdtemp(prefix="shadowdesk-node-")
    path = os.pathsep.join([str(TOOLS / "node_modules/node/bin"), str(TOOLS / "node_modules/.bin"), os.environ["PATH"]])

    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        found = shutil.which(command[0], path=path)
        assert found is not None
        environment = {**os.environ, "PATH": path, "HOME": home, "NO_COLOR": "1"}
        return subprocess.run(
            [found, *command[1:]], capture_output=True, text=True, env=environment, timeout=300, check=False
        )

    return run


@contextmanager
def fixture_served(audit: MemoryAudit) -> Iterator[str]:
    """The governed fixture on a free port; gives the address of its endpoint."""
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_in(Path(folder))
    app = GovernedFixture(settings, audit).streamable_http_app(
        streamable_http_path=MCP_PATH, transport_security=transport_security(settings)
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="conformance fixture")
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{MCP_PATH}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)


def conformance(run: Run) -> dict[str, Any]:
    """The suite at each revision, and what the audit trail holds afterwards."""
    audit = MemoryAudit()
    report: dict[str, Any] = {}
    with fixture_served(audit) as url:
        for revision in REVISIONS:
            done = run("conformance", "server", "--url", url, "--requirements", revision)
            report[revision] = {"exit": done.returncode, "said": (done.stdout + done.stderr).splitlines()[-60:]}
        report["governance"] = anyio.run(governance, url, audit)
    intents = [event.call_id for event in audit.events if event.kind == "intent"]
    outcomes = [event.call_id for event in audit.events if event.kind == "outcome"]
    complete = sorted(intents) == sorted(outcomes)
    report["audit"] = {"exit": 0 if complete and intents else 1, "intents": len(intents), "outcomes": len(outcomes)}
    return report


async def governance(url: str, audit: MemoryAudit) -> dict[str, Any]:
    """What the suite does not ask: the forbidden fixture is not listed nor callable, unknown arguments are refused."""
    held: dict[str, bool] = {}
    for mode in ("auto", "legacy"):
        before = len(audit.events)
        async with Client(url, mode=mode) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            hidden = await client.call_tool(HIDDEN, {})
            unknown = await client.call_tool("test_simple_text", {"nobody_asked": 1})
        outcomes = [event.outcome for event in audit.events[before:] if event.kind == "outcome"]
        held[f"{mode}: hidden tool not listed"] = "test_simple_text" in names and HIDDEN not in names
        held[f"{mode}: hidden tool not callable"] = hidden.is_error is True and outcomes[0] == "denied"
        held[f"{mode}: unknown argument refused"] = unknown.is_error is True
    return {"exit": 0 if all(held.values()) else 1, **held}


def inspector(run: Run, stage: Stage) -> dict[str, Any]:
    """Our own server on stdio, listed strictly in both eras, and a dry run made through it."""
    server = (sys.executable, "-m", "mcp_server", "stdio")
    options = ("--format", "json", "--quiet")
    environment = f"{CONFIG_VARIABLE}={stage.config}"
    report: dict[str, Any] = {}
    for era in ERAS:
        base = ("mcp-inspector", "--cli", "-e", environment, *server, "--protocol-era", era, *options, "--method")
        report[f"{era} tools/list --strict"] = told(run(*base, "tools/list", "--strict"))
        report[f"{era} tools/list --app-info"] = told(run(*base, "tools/list", "--app-info", "--advertise-apps"))
        for name, given in calls().items():
            done = run(*base, "tools/call", "--tool-name", name, "--tool-args-json", json.dumps(given))
            report[f"{era} tools/call {name}"] = told(done)
    return report


def inspected(run: Run) -> dict[str, Any]:
    """`inspector` on a staged business whose servers are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sd-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with staged(folder) as stage:
            return inspector(run, stage)
    finally:
        until(lambda: not any(alive(folder)))
        shutil.rmtree(folder)


def calls() -> dict[str, dict[str, str]]:
    """Tools with arguments that work on the staged business."""
    tenant = str(STORIES.tenant_id)
    return {
        "find_tenant": {"text": tenant},
        "describe_tables": {},
        "start_dry_run": {"tenant": tenant, "request": "the inspector tries it", "purpose": "look"},
        "list_dry_runs": {},
    }


def told(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    """One program's end."""
    return {"exit": done.returncode, "said": (done.stdout + done.stderr)[-2000:] if done.returncode else ""}


def main() -> int:
    """0 when all of it passed."""
    run = node_parts()
    report = conformance(run)
    report.update(inspected(run))
    (ROOT / "conformance.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for name, part in report.items():
        print(f"{'passed' if part['exit'] == 0 else 'FAILED'}  {name}")
    return 0 if all(part["exit"] == 0 for part in report.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
