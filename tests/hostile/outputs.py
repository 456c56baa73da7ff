"""One story told on rows full of hostile values, and everything that anybody is shown while it is told.

`acceptance/test_hostile_values.py` judges what is gathered here: a real MCP client over stdio, the served pages, the
commands as processes, a terminal, and the logs of both servers.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psycopg
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.exceptions import MCPError
from mcp.types import GetPromptResult, ReadResourceResult, TextContent, TextResourceContents

from mcp_server.demo.stage import Stage
from tests.acceptance.terminal import at_a_terminal
from tests.hostile.values import NASTY, Nasty

#: The tenant whose rows are hostile, and one whose rows are as many and harmless.
HOSTILE, HARMLESS = "1000", "1001"
#: Characters of a value where it is a key or a name.
KEY = 300
TABLE = """
CREATE TABLE notes (tenant_id integer NOT NULL REFERENCES tenants (id), title text PRIMARY KEY, body text NOT NULL,
                    data jsonb NOT NULL);
CREATE FUNCTION speak() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.data ? 'speak' THEN RAISE EXCEPTION 'the note says: %', OLD.body; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER speak BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION speak();
GRANT SELECT ON notes TO shadowdesk_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO shadowdesk_applier;
"""
CHANGE = "UPDATE notes SET body = body || '!', data = jsonb_build_object(title, 'changed')"


def store(stage: Stage) -> None:
    """Puts the values into production as a customer's own typing would: text, key, json and the names of tenants."""
    with psycopg.connect(stage.owner_url) as conn:
        conn.execute(TABLE)
        conn.execute(
            "INSERT INTO tenants VALUES (%s, %s), (%s, 'Harmless')",
            (HOSTILE, named("our own fence").text + " Ltd", HARMLESS),
        )
        for one in NASTY:
            conn.execute("INSERT INTO tenants VALUES (%s, %s)", (2000 + one.number, one.short(KEY)))
            for tenant, title, body in (
                (HOSTILE, one.short(KEY), one.text),
                (HARMLESS, f"plain {one.number:02}", f"body {one.number}"),
            ):
                data = json.dumps({title: [title]})
                conn.execute("INSERT INTO notes VALUES (%s, %s, %s, %s)", (tenant, title, body, data))


def named(name: str) -> Nasty:
    """One of the values."""
    return next(one for one in NASTY if one.name == name)


@dataclass(kw_only=True)
class Shown:
    """What came out by each path: words for models, texts for people's terminals, pages, structured values, logs."""

    words: dict[str, str] = field(default_factory=dict)
    terminal: dict[str, str] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    structured: list[Any] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    review: str = ""


class Story:
    """Tells it; `shown` fills while it goes."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.shown = Shown()
        self._config = ("--config", str(stage.config))

    def tell(self) -> Shown:
        """The whole story."""
        parameters = StdioServerParameters(
            command=sys.executable, args=["-m", "mcp_server", "stdio", *self._config], cwd=self.stage.folder
        )
        log = self.stage.folder / "stdio.log"
        with log.open("w") as errlog, start_blocking_portal() as portal:
            client = Client(stdio_client(parameters, errlog=errlog))
            with portal.wrap_async_context_manager(client):
                proposal_id = self._models(Model(portal, client, self.shown))
        self._people(proposal_id)
        self.shown.logs = {
            path.name: path.read_text(errors="replace") for path in (log, self.stage.folder / "pages.log")
        }
        return self.shown

    def _models(self, model: "Model") -> str:
        for one in NASTY:
            model.call("find_tenant", text=one.mark)
        run = model.started(HOSTILE)
        for one in NASTY:
            where = {"dry_run_id": run, "params": [one.short(KEY)]}
            model.call("query_shadow", sql="SELECT title, body, data FROM notes WHERE title = $1", **where)
            model.call("query_shadow", "error of a query", sql="SELECT body::int FROM notes WHERE title = $1", **where)
            model.call(
                "run_statement", "error of a trigger", reason="a trigger speaks",
                sql="UPDATE notes SET data = '{\"speak\": 1}' WHERE title = $1", **where,
            )  # fmt: skip
            model.resource(f"dryrun://{one.mark}/diff")
            model.prompt("what-if fix", request=one.text, tenant=one.short(KEY))
            model.prompt("escalation summary", dry_run_id=one.short(KEY), doubt=one.short(KEY))
        model.call("run_statement", dry_run_id=run, sql=CHANGE, reason=named("injection").text)
        for start in (0, 20):
            model.call("show_diff", dry_run_id=run, page_start=start)
        model.resource(f"dryrun://{run}/diff")
        other = model.started(HOSTILE)
        model.call(
            "run_statement", "a step that deletes", dry_run_id=other, sql="DELETE FROM notes", reason="all of it"
        )
        model.call("compare_dry_runs", dry_run_id=run, other_dry_run_id=other)
        model.call("branch_dry_run", dry_run_id=run, from_step=1)
        model.call("list_dry_runs")
        proposal_id = str(model.call("propose", dry_run_id=run)["id"])
        model.call("proposal_status", proposal_id=proposal_id)
        harmless = model.started(HARMLESS)
        model.call("run_statement", dry_run_id=harmless, sql=CHANGE, reason="harmless")
        plain = str(model.call("propose", dry_run_id=harmless)["id"])
        with httpx2.Client(base_url=self.stage.base_url, follow_redirects=True, timeout=60) as rep:
            rep.get(self.stage.login_link("rep"))
            self.shown.review = f"/review/{proposal_id}"
            self.shown.pages["review"] = rep.get(self.shown.review).text
            self.shown.pages["harmless"] = rep.get(f"/review/{plain}").text
            self.shown.pages["queue"] = rep.get("/review").text
        return proposal_id

    def _people(self, proposal_id: str) -> None:
        steps = self.stage.folder / "steps.sql"
        # the last one fails, and its error holds the values of two rows
        steps.write_text(
            f"{CHANGE}; SELECT (a.body || b.body)::int FROM notes a, notes b"
            f" WHERE a.title LIKE '{named('ansi').mark}%' AND b.title LIKE '{named('lines').mark}%'",
            encoding="utf-8",
        )
        dry_run = ("dry-run", "--tenant", HOSTILE, "--file", str(steps))
        for name, arguments in (
            ("dry-run", dry_run), ("dry-run --json", (*dry_run, "--json")), ("proposals", ("proposals",)),
        ):  # fmt: skip
            self._command(name, *arguments)
        mine = json.loads(self.shown.terminal["dry-run --json"].split("\n}\n")[0] + "\n}")["dry_run"]["id"]
        self._command("compare", "compare", mine, mine)
        for name, arguments in (
            ("inspect", ("inspect", mine)), ("audit tail", ("audit", "tail", "--limit", "500")),
            ("audit tail --json", ("audit", "tail", "--limit", "500", "--json")),
        ):  # fmt: skip
            self._command(name, *arguments, "--person", "engineer")
        self.stage.change_production(f"UPDATE notes SET body = body || '?' WHERE tenant_id = {HOSTILE}")
        key = self.stage.folder / "rep.key"
        key.touch(mode=0o600)
        key.write_text(self.stage.keys["rep"], encoding="utf-8")
        command = [sys.executable, "-m", "mcp_server", "confirm", proposal_id, *self._config, "--key-file", str(key)]
        _, screen = at_a_terminal(
            [*command, "--person", "rep"], {"Number of rows to replay": str(len(NASTY))}, cwd=Path.cwd()
        )
        self.shown.terminal["confirm"] = screen.replace("\r\n", "\n")

    def _command(self, name: str, *arguments: str) -> None:
        done = self.stage.command(*arguments, *self._config)
        self.shown.terminal[name] = done.stdout + done.stderr


class Model:
    """The client's side: what it is told by tool, resource, prompt and progress."""

    def __init__(self, portal: BlockingPortal, client: Client, shown: Shown) -> None:
        self._portal = portal
        self._client = client
        self._shown = shown

    def _heard(self, path: str, words: str) -> None:
        self._shown.words[path] = self._shown.words.get(path, "") + words + "\n"

    def call(self, tool: str, path: str = "", **arguments: Any) -> dict[str, Any]:
        """One call; its words are kept under `path`, by default the tool's name."""

        async def progress(done: float, total: float | None, message: str | None) -> None:
            self._heard("progress", str(message))

        def send() -> Any:
            return self._client.call_tool(tool, arguments, progress_callback=progress)

        result = self._portal.call(send)
        self._heard(path or tool, "\n".join(part.text for part in result.content if isinstance(part, TextContent)))
        if path.startswith("error") != bool(result.is_error):
            raise AssertionError(f"{path or tool}: {self._shown.words[path or tool][-2000:]}")
        found = dict(result.structured_content or {})
        self._shown.structured.append(found)
        return found

    def started(self, tenant: str) -> str:
        """A new dry run's id."""
        made = self.call("start_dry_run", tenant=tenant, request="please", purpose=named("script").short(400))
        return str(made["dry_run"]["id"])

    def resource(self, uri: str) -> None:
        """A resource's text, or the words of its refusal."""
        found = self._protocol("resource", lambda: self._client.read_resource(uri))
        for part in found.contents if isinstance(found, ReadResourceResult) else ():
            if isinstance(part, TextResourceContents):
                self._heard("resource", part.text)

    def prompt(self, name: str, **arguments: str) -> None:
        """A prompt's text."""
        found = self._protocol("prompts", lambda: self._client.get_prompt(name, arguments))
        for part in found.messages if isinstance(found, GetPromptResult) else ():
            if isinstance(part.content, TextContent):
                self._heard("prompts", part.content.text)

    def _protocol(self, path: str, send: Callable[[], Any]) -> Any:
        try:
            return self._portal.call(send)
        except MCPError as error:
            self._heard(f"error of {path}", str(error))
            return None
