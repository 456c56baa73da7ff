"""How hosts get the MCP App: announced by the tools it draws the results of, one `ui://` resource; used by server.py.

Announcing is by metadata alone, so a host without Apps loses nothing. Rules: MCP Apps (SEP-1865, 2026-01-26).
"""

from typing import Any

from mcp.server.apps import Apps, ResourceCsp, client_supports_apps
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from mcp_server.app.document import document

APP_URI = "ui://shadowdesk/diff"
#: Who may read a diff may read what draws it; nobody else is told of it.
APP_PERMISSION = "dry_run.diff"
#: `_meta` of a tool whose result the app draws. No tool is for the app alone: it calls none.
APP_META: dict[str, Any] = {"ui": {"resourceUri": APP_URI, "visibility": ["model"]}}


def diff_app(base_url: str) -> Apps:
    """The extension with its one resource, for the review pages under `base_url`."""
    apps = Apps()
    nowhere = ResourceCsp(connect_domains=[], resource_domains=[], frame_domains=[], base_uri_domains=[])
    apps.add_html_resource(
        APP_URI,
        document(base_url),
        name="diff_view",
        title="Diff view",
        description="Draws a diff or a proposal, and leads to its review page. It decides nothing and calls no tool.",
        csp=nowhere,
        prefers_border=True,
    )
    return apps


async def only_for_hosts_with_apps(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Leaves the app out of the list of tools for a client that says what it can do, and this is not among it.

    An older client over HTTP says so in a message that no later one is tied to: it is told of the app.
    """
    result = await call_next(ctx)
    unsaid = ctx.session.client_capabilities is None
    if ctx.method != "tools/list" or not isinstance(result, dict) or unsaid or client_supports_apps(ctx):
        return result
    return {**result, "tools": [_plain(tool) for tool in result["tools"]]}


def _plain(tool: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tool.items() if name != "_meta" or value != APP_META}
