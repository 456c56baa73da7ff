"""Leads a person to the review page where their client can open it; called by the server for `open_review`.

It decides nothing: whatever the client answers, in the person's name or not, is not even looked at. Off unless
`pages.elicit` is on, since some hosts say that they can ask and never do.
"""

import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    InputRequiredResult,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ValidationError

#: The tool that leads.
TOOL = "open_review"
MESSAGE = "Read the fix and decide on it on ShadowDesk's own page. Nothing you answer here confirms anything."
#: Sealed by the SDK and never read: that there is a state at all says that the client was asked once.
_ASKED = "asked"

Again = Callable[[], Awaitable[CallToolResult]]


class Opened(BaseModel):
    """What a form asks for, since a form must ask for something; nobody reads the answer."""

    opened: bool = False


async def lead(
    answer: CallToolResult, context: Context[Any, Any] | None, seconds: float, again: Again
) -> CallToolResult | InputRequiredResult:
    """`answer`, or a request to open its page first; `again` reads the proposal once more, as it stands afterwards.

    Older clients are asked during the call, for at most `seconds`; clients of 2026-07-28 ask by themselves and repeat
    the call (MCP specification, Elicitation; Multi Round-Trip Requests).
    """
    url = (answer.structured_content or {}).get("review_url")
    if context is None or answer.is_error or not isinstance(url, str) or not _asks(context):
        return answer
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        if context.input_responses is not None or context.request_state is not None:
            return answer
        return InputRequiredResult(input_requests={"review": _request(context, url)}, request_state=_ASKED)
    if not context.session.can_send_request:
        return answer
    with anyio.move_on_after(seconds), suppress(MCPError, ValidationError):
        if _takes_urls(context):
            await context.elicit_url(MESSAGE, url, uuid.uuid4().hex)
        else:
            await context.elicit(f"{MESSAGE} {url}", Opened)
    return await again()


def _asks(context: Context[Any, Any]) -> bool:
    capabilities = context.client_capabilities
    return capabilities is not None and capabilities.elicitation is not None


def _takes_urls(context: Context[Any, Any]) -> bool:
    capabilities = context.client_capabilities
    return bool(capabilities and capabilities.elicitation and capabilities.elicitation.url is not None)


def _request(context: Context[Any, Any], url: str) -> ElicitRequest:
    if _takes_urls(context):
        return ElicitRequest(params=ElicitRequestURLParams(message=MESSAGE, url=url))
    schema: Any = {"type": "object", "properties": {"opened": {"type": "boolean", "default": False}}}
    return ElicitRequest(params=ElicitRequestFormParams(message=f"{MESSAGE} {url}", requested_schema=schema))
