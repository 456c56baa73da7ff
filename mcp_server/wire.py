"""The outermost layer of the MCP server: audits calls the protocol itself refuses, and lets no error text out.

On connections of the older protocol era the SDK would send an exception's own text to the client.
"""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio.to_thread
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from pydantic import ValidationError

from differ.text import neutralise
from mcp_server.errors import EXPLAINED, NotFound, PermissionDenied
from mcp_server.governed import Governor
from mcp_server.identity import CallerSource

logger = logging.getLogger(__name__)
#: Characters of an explained error.
ERROR_CHARACTERS = 4000


class Wire:
    """Middleware around every inbound message."""

    def __init__(self, governor: Governor, source: CallerSource) -> None:
        self._governor = governor
        self._source = source

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """The result of the rest of the chain, or an MCPError whose text is ours or the protocol's."""
        try:
            return await call_next(ctx)
        except MCPError:
            await self._audit_malformed(ctx)
            raise
        except ValidationError:
            await self._audit_malformed(ctx)
            raise MCPError(INVALID_PARAMS, "The parameters of this message cannot be read.") from None
        except EXPLAINED as error:
            raise MCPError(INTERNAL_ERROR, neutralise(str(error), ERROR_CHARACTERS)) from None
        except Exception as error:
            log_crash(f"message {neutralise(ctx.method, 80)}", error)
            raise MCPError(INTERNAL_ERROR, "Internal error") from None

    async def _audit_malformed(self, ctx: ServerRequestContext[Any, Any]) -> None:
        """A tools/call that never became a call of a tool is a call all the same."""
        if ctx.method != "tools/call":
            return
        try:
            await anyio.to_thread.run_sync(self._record, ctx)
        except EXPLAINED as error:
            raise MCPError(INTERNAL_ERROR, neutralise(str(error), ERROR_CHARACTERS)) from None

    def _record(self, ctx: ServerRequestContext[Any, Any]) -> None:
        params = dict(ctx.params or {})
        name = params.get("name")
        self._governor.record(
            self._source(client_name(ctx)),
            name if isinstance(name, str) else "?",
            params.get("arguments"),
            "invalid_arguments",
            "The message is not a call of a tool.",
        )


def client_name(ctx: ServerRequestContext[Any, Any] | None) -> str:
    """What the client calls itself, with its version; empty when it says nothing."""
    params = ctx.session.client_params if ctx else None
    return f"{params.client_info.name} {params.client_info.version}" if params else ""


@contextmanager
def reading(resource: str) -> Iterator[None]:
    """Around the reading of a resource: what goes wrong becomes the protocol's own error, in our words.

    Raises ResourceNotFoundError for what is not there and for what the caller may not read, else ResourceError.
    """
    try:
        yield
    except (NotFound, PermissionDenied) as error:
        raise ResourceNotFoundError(neutralise(str(error), ERROR_CHARACTERS)) from None
    except EXPLAINED as error:
        raise ResourceError(neutralise(str(error), ERROR_CHARACTERS)) from None
    except Exception as error:
        log_crash(f"resource {resource}", error)
        raise ResourceError("It could not be read; tell the operator the time of this call.") from None


def log_crash(what: str, error: Exception) -> None:
    """Logs where and how something failed, never the error's own text: it may hold row values."""
    places = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s failed with %s at\n%s", what, type(error).__name__, places)
