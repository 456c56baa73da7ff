"""The bridge (`shadowdesk bridge`): one MCP client on standard input and output, the team's ShadowDesk over HTTPS.

It holds a personal token and nothing else: no configuration, no database. It is also the whole program in the bundle
for Claude Desktop, so it imports the MCP SDK and nothing of ours. Every message is a request of its own (`/mcp` keeps
no session), so the bridge is connected again as soon as the server is.
"""

import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
from mcp.client.streamable_http import streamable_http_client
from mcp.server.stdio import stdio_server
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
)
from mcp.shared.message import ClientMessageMetadata, SessionMessage
from mcp_types import JSONRPCResponse

URL_VARIABLE = "SHADOWDESK_URL"
TOKEN_VARIABLE = "SHADOWDESK_TOKEN"  # noqa: S105 - the variable's name
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
#: JSON-RPC's code for an error of the server's own making (-32000 to -32099).
UNREACHABLE = -32000
#: How long a client that begins is kept waiting for a server that is not there yet, in seconds.
PATIENCE_S = 20.0
PAUSE_S = 1.0
#: Longest wait for an answer: a host gives up sooner.
ANSWER_S = 300.0
_BEGINNINGS = frozenset({"initialize", "server/discover"})
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


class BridgeRefused(Exception):
    """The bridge cannot start; the text says what is wrong with its environment."""


def bridge(environment: Mapping[str, str], patience_s: float = PATIENCE_S) -> None:
    """Carries messages until the client closes standard input. Raises BridgeRefused."""
    url, token = address_of(environment), token_of(environment)
    anyio.run(_carry, url, token, patience_s)


def address_of(environment: Mapping[str, str]) -> str:
    """The address of `/mcp` from SHADOWDESK_URL: https, or http on this machine. Raises BridgeRefused."""
    given = environment.get(URL_VARIABLE, "").strip().rstrip("/")
    parts = urlsplit(given)
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        raise BridgeRefused(f"{URL_VARIABLE} is not the address of a ShadowDesk server, like https://desk.example.")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise BridgeRefused(f"{URL_VARIABLE} is not https: the personal token would go over the network in the open.")
    return given if parts.path.endswith("/mcp") else f"{given}/mcp"


def token_of(environment: Mapping[str, str]) -> str:
    """The personal token from SHADOWDESK_TOKEN. Raises BridgeRefused."""
    token = environment.get(TOKEN_VARIABLE, "").strip()
    if not token or not token.isascii() or not token.isprintable():
        raise BridgeRefused(f"{TOKEN_VARIABLE} holds no personal token; `shadowdesk token issue` gives one.")
    return token


async def _carry(url: str, token: str, patience_s: float) -> None:
    headers = {"authorization": f"Bearer {token}"}
    timeout = httpx2.Timeout(ANSWER_S, connect=10)
    transport = Explaining(httpx2.AsyncHTTPTransport(), patience_s)
    async with (
        stdio_server() as (from_client, to_client),
        httpx2.AsyncClient(headers=headers, timeout=timeout, transport=transport) as http,
        streamable_http_client(url, http_client=http, terminate_on_close=False) as (from_server, to_server),
        # closed by us: the writer behind it ends with it, and not with the client's input
        to_client,
        anyio.create_task_group() as tasks,
    ):
        versions = Versions()

        async def answers() -> None:
            async for message in from_server:
                if isinstance(message, SessionMessage):
                    versions.answered(message)
                    await to_client.send(message)

        tasks.start_soon(answers)
        async for message in from_client:
            # what cannot be read was answered by nobody: a client that sends such a thing sees no reply, as on HTTP
            if isinstance(message, SessionMessage):
                await to_server.send(versions.stamped(message))
        tasks.cancel_scope.cancel()


class Versions:
    """Gives each message the HTTP headers that its protocol version asks for (MCP 2026-07-28, Transports)."""

    def __init__(self) -> None:
        self._negotiated: str | None = None
        self._initializing: Any = None

    def stamped(self, message: SessionMessage) -> SessionMessage:
        """The client's message with its headers."""
        data = message.message.model_dump(by_alias=True, mode="json", exclude_unset=True)
        method, params = data.get("method"), data.get("params") or {}
        if method == "initialize":
            self._initializing = data.get("id")
            return message
        modern = (params.get("_meta") or {}).get(VERSION_KEY)
        version = modern or self._negotiated
        if version is None or method is None:
            return message
        headers = {MCP_PROTOCOL_VERSION_HEADER: str(version)}
        if modern:
            headers[MCP_METHOD_HEADER] = str(method)
            name = params.get(NAME_BEARING_METHODS.get(str(method), ""))
            if isinstance(name, str):
                headers[MCP_NAME_HEADER] = encode_header_value(name)
        return SessionMessage(message.message, metadata=ClientMessageMetadata(headers=headers))

    def answered(self, message: SessionMessage) -> None:
        """Notes the version that `initialize` agreed on."""
        found = message.message
        if isinstance(found, JSONRPCResponse) and found.id == self._initializing:
            self._negotiated = str(found.result.get("protocolVersion") or "") or None
            self._initializing = None


class Explaining(httpx2.AsyncBaseTransport):
    """Answers for a server that does not: in words that a model can pass on, as the result of the call it made."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, patience_s: float) -> None:
        self._inner = inner
        self._patience_s = patience_s

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The server's answer, or ours when there is none or none for an MCP client."""
        asked = _asked(request)
        deadline = anyio.current_time() + (self._patience_s if asked.get("method") in _BEGINNINGS else 0)
        while True:
            answer = await self._once(request)
            if isinstance(answer, httpx2.Response):
                return answer
            if answer.final or anyio.current_time() >= deadline:
                return _answer(request, asked, answer.words)
            await anyio.sleep(PAUSE_S)

    async def _once(self, request: httpx2.Request) -> "httpx2.Response | Away":
        host = request.url.host
        try:
            response = await self._inner.handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout):
            return Away(
                f"ShadowDesk at {host} cannot be reached. Nothing ran. Check the network or the VPN, then try again."
            )
        except httpx2.TransportError:
            return Away(_lost(host), final=True)
        if response.status_code < 400:
            return self._watched(request, response)
        body = await response.aread()
        await response.aclose()
        if _speaks_json_rpc(body):
            return httpx2.Response(response.status_code, headers={"content-type": "application/json"}, content=body)
        return _refused(host, response.status_code)

    def _watched(self, request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        """The answer, which ends in our words when it breaks off."""
        asked, kind = _asked(request), response.headers.get("content-type", "")
        if asked.get("id") is None or not kind.startswith("text/event-stream"):
            return response
        assert isinstance(response.stream, httpx2.AsyncByteStream)  # noqa: S101 - of an asynchronous transport
        watched = _Watched(response.stream, _event(_reply(asked, _lost(request.url.host))))
        return httpx2.Response(
            response.status_code, headers=response.headers, stream=watched, extensions=response.extensions
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._inner.aclose()


class _Watched(httpx2.AsyncByteStream):
    """The events of an answer, and one more where the connection breaks before they end."""

    def __init__(self, inner: httpx2.AsyncByteStream, last: bytes) -> None:
        self._inner = inner
        self._last = last

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._inner:
                yield part
        except httpx2.TransportError:
            yield self._last

    async def aclose(self) -> None:
        await self._inner.aclose()


class Away:
    """Why there is no answer, in words; `final` when waiting cannot help."""

    def __init__(self, words: str, *, final: bool = False) -> None:
        self.words = words
        self.final = final


def _lost(host: str) -> str:
    return (
        f"The connection to ShadowDesk at {host} was lost before it answered. Production was not touched, but a step"
        " may have been made on the shadow. Look with list_dry_runs and show_diff before trying again."
    )


def _refused(host: str, status: int) -> Away:
    if status == 401:
        return Away(
            f"ShadowDesk at {host} does not accept your personal token: it is over, revoked, or of a role you no longer"
            " have. Nothing ran. Get a new one with `shadowdesk token issue`, for this connection's settings.",
            final=True,
        )
    if status >= 500 or status == 429:
        return Away(f"ShadowDesk at {host} is not ready ({status}). Nothing is known to have run. Try again soon.")
    return Away(
        f"What answers at {host} is not ShadowDesk, or refuses this address ({status}). Nothing ran."
        f" Check {URL_VARIABLE} with your operator.",
        final=True,
    )


def _asked(request: httpx2.Request) -> dict[str, Any]:
    try:
        message = json.loads(request.content)
    except (ValueError, httpx2.RequestNotRead):
        return {}
    return message if isinstance(message, dict) else {}


def _answer(request: httpx2.Request, asked: Mapping[str, Any], words: str) -> httpx2.Response:
    if asked.get("id") is None:
        return httpx2.Response(202, request=request)
    return httpx2.Response(200, request=request, json=_reply(asked, words))


def _reply(asked: Mapping[str, Any], words: str) -> dict[str, Any]:
    """The words as a tool's refusal, which the model reads; as an error for everything else."""
    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
    if asked.get("method") == "tools/call":
        meta = (asked.get("params") or {}).get("_meta") or {}
        kind = {"resultType": "complete"} if VERSION_KEY in meta else {}
        reply["result"] = {"content": [{"type": "text", "text": words}], "isError": True, **kind}
    else:
        reply["error"] = {"code": UNREACHABLE, "message": words}
    return reply


def _event(reply: Mapping[str, Any]) -> bytes:
    """One server-sent event after whatever was half sent."""
    return f"\n\nevent: message\ndata: {json.dumps(reply)}\n\n".encode()


def _speaks_json_rpc(body: bytes) -> bool:
    try:
        message = json.loads(body)
    except ValueError:
        return False
    return isinstance(message, dict) and message.get("jsonrpc") == "2.0" and "error" in message


def main() -> None:
    """The bundle's entry point."""
    try:
        bridge(os.environ)
    except BridgeRefused as refused:
        sys.stderr.write(f"{refused}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
