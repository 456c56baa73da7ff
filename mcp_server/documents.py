"""Resources and prompts of the MCP server: a dry run's diff to read, and two ways to begin a conversation."""

from typing import TYPE_CHECKING

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from differ.text import as_text, quoted
from mcp_server.governed import Governor
from mcp_server.identity import CallerSource
from mcp_server.tools.results import diff_for_model
from mcp_server.wire import client_name, reading

if TYPE_CHECKING:
    from mcp_server.desk import Desk

#: Rows of the diff in the resource.
RESOURCE_ROWS = 100
#: Characters of a prompt's argument.
WORDS = 4000


def add_documents(server: MCPServer[None], desk: "Desk", governor: Governor, source: CallerSource) -> None:
    """Adds them to `server`; reading a diff is governed like the tool that shows it."""
    _add_prompts(server)

    @server.resource(
        "dryrun://{dry_run_id}/diff",
        name="dry_run_diff",
        title="Diff of a dry run",
        description="The net diff of all kept steps of a dry run, in words.",
        mime_type="text/plain",
    )
    def dry_run_diff(dry_run_id: str, ctx: Context[None]) -> str:
        with reading("dry_run_diff"):
            caller = source(client_name(ctx.request_context))
            found = governor.call(
                caller, "resource:dry_run_diff", "dry_run.diff", {"dry_run_id": dry_run_id},
                lambda: desk.diff(caller, dry_run_id, None, 0, RESOURCE_ROWS),
            )  # fmt: skip
        return as_text(found, max_rows=len(diff_for_model(found, RESOURCE_ROWS).rows))


def _add_prompts(server: MCPServer[None]) -> None:
    @server.prompt(name="what-if fix", title="What-if fix", description="Rehearse a fix for a rep's request.")
    def what_if_fix(request: str, tenant: str = "") -> str:
        return (
            f"A support rep asks: {quoted(request, WORDS)}\n"
            f"Tenant, if known: {quoted(tenant, WORDS)}\n\n"
            "Work only with ShadowDesk's tools. Find the tenant, start a dry run and pass the rep's words on as they"
            " are. Prefer a domain tool over statements of your own; look before you change. After each step read the"
            " diff and tell the rep which rows change, also those that cascades and triggers change. Where there is"
            " more than one way, rehearse each and let the rep compare. Propose only what the rep agrees to, and give"
            " them the review link: they confirm it on that page, you cannot."
        )

    @server.prompt(
        name="escalation summary", title="Escalation summary", description="Put a dry run before an engineer."
    )
    def escalation_summary(dry_run_id: str, doubt: str = "") -> str:
        return (
            f"Dry run: {quoted(dry_run_id, 60)}\n"
            f"What the rep is unsure about: {quoted(doubt, WORDS)}\n\n"
            "Read the diff with show_diff and write for an engineer, in at most ten sentences: what the rep wants, what"
            " the steps do, which rows change beyond them, how the measures move, and the one question to answer."
            " Propose the dry run if it is not proposed yet, then call escalate with that question."
        )
