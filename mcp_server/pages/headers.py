"""The security headers of every page, and the check that a POST comes from our own pages; used by `app.py`.

Rules: the Content Security Policy Level 3 and Fetch standards. Pages carry `Referrer-Policy: same-origin` and not
`no-referrer`: under the latter a browser sends `Origin: null` with our own forms (Fetch, "append a request `Origin`
header"), which would leave nothing to check. No other origin ever gets a referrer; the log-in link alone, whose
address holds a token, answers with `no-referrer`.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)

PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
DEFAULT_PORTS = {"http": 80, "https": 443}


class PageHeaders:
    """Sets `PAGE_HEADERS` on each answer, error answers included, where the page did not set its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in PAGE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class KnownHosts:
    """Answers only under the configured name and this machine's own: no rebound DNS name reaches the pages."""

    def __init__(self, app: ASGIApp, base_url: str) -> None:
        self.app = app
        self._known = {urlsplit(base_url).hostname, *LOCAL_NAMES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_known(Headers(scope=scope).get("host", "")):
            await PlainTextResponse("This server has another name.", status_code=421)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_known(self, host: str) -> bool:
        try:
            return urlsplit(f"//{host}").hostname in self._known
        except ValueError:
            return False


def from_our_pages(headers: Headers, base_url: str) -> bool:
    """Whether a request was sent by a page of `base_url`: by its Origin, or where that is absent its Referer."""
    source = headers.get("origin") or headers.get("referer") or ""
    return _origin(source) is not None and _origin(source) == _origin(base_url)


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for `null` and for whatever is no http address."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or port is None:
        return None
    return parts.scheme, parts.hostname, port
