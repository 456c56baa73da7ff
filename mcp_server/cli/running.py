"""Runs the servers behind `serve` and `stdio`: the pages' listener, the housekeeping, a clean end on SIGTERM."""

import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, NoReturn

import uvicorn

from mcp_server.assembly import Assembly, open_desk
from mcp_server.errors import ConfigurationInvalid
from mcp_server.expiring import expire_overdue
from mcp_server.http import http_app
from mcp_server.identity import stdio_caller, token_caller
from mcp_server.oauth import SigningKeys
from mcp_server.pages import pages_app
from mcp_server.probing import before_serving
from mcp_server.reconciling import reconcile_unknown
from mcp_server.server import build_server
from mcp_server.settings import Settings
from mcp_server.tokens import BearerTokens

logger = logging.getLogger(__name__)

#: Seconds between two rounds of housekeeping; each replica does its own.
ROUND_S = 60.0
#: Events after which the audit trail's head is signed again.
CHECKPOINT_EVERY = 500


def serve_http(settings: Settings, *, mcp: bool, pages: bool) -> None:
    """Serves until SIGTERM or Ctrl-C. Only a process with pages is given the applier's URL."""
    with (
        _process(),
        _listener(settings) as listener,
        open_desk(settings, applier=pages) as assembly,
        _signing_keys(settings, mcp) as keys,
    ):
        before_serving(assembly.production, assembly.sandbox)
        server = (
            build_server(
                assembly.desk,
                settings,
                assembly.governor,
                token_caller(settings),
                tokens=BearerTokens(settings, assembly.control, keys),
            )
            if mcp
            else None
        )
        app = http_app(settings, server=server, pages=_pages(assembly) if pages else None)
        with housekeeping(assembly):
            uvicorn.Server(_uvicorn(app, lifespan="on" if mcp else "off")).run(sockets=[listener])


def serve_stdio(settings: Settings, *, pages: bool) -> None:
    """Serves one MCP client on standard input and output until it closes them.

    With `pages`, the review pages are served beside it: on a laptop one process is enough. Where their port is
    taken, another process serves them already, and this one is not given the applier's URL.
    """
    with _process(), ExitStack() as stack:
        listener = stack.enter_context(_listener(settings)) if pages and _is_free(settings) else None
        assembly = stack.enter_context(open_desk(settings, applier=listener is not None))
        before_serving(assembly.production, assembly.sandbox)
        server = build_server(assembly.desk, settings, assembly.governor, stdio_caller(settings))
        if listener is not None:
            stack.enter_context(_beside(_uvicorn(_pages(assembly), lifespan="off"), listener))
        stack.enter_context(housekeeping(assembly))
        server.run("stdio")


@contextmanager
def _signing_keys(settings: Settings, wanted: bool) -> Iterator[SigningKeys | None]:
    """The identity provider's keys, kept fresh while the block lasts; None where there is no provider to trust."""
    if settings.oauth is None or not wanted:
        yield None
        return
    with SigningKeys(settings.oauth) as keys:
        yield keys


@contextmanager
def housekeeping(assembly: Assembly) -> Iterator[None]:
    """Drops strays and signs checkpoints now and then, in a thread that ends with the block."""
    stop = threading.Event()

    def rounds() -> None:
        while not stop.wait(ROUND_S):
            for what, work in (
                ("expiring", lambda: expire_overdue(assembly.control)),
                ("reaping", assembly.shadows.reap),
                ("reconciling", lambda: reconcile_unknown(assembly.desk, assembly.governor)),
                ("closing", lambda: assembly.trail.tidy(assembly.presence)),
                ("checkpoint", lambda: _checkpoint(assembly)),
            ):
                try:
                    work()
                except Exception as error:
                    # The next round tries again; the text may hold row values, so its kind alone is logged.
                    logger.warning("%s failed with %s", what, type(error).__name__)

    thread = threading.Thread(target=rounds, name="housekeeping", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)


def _checkpoint(assembly: Assembly) -> None:
    assembly.checkpoints.sign_if_due(assembly.audit.head(), every=CHECKPOINT_EVERY)


def _pages(assembly: Assembly) -> Any:
    return pages_app(assembly.desk, assembly.settings, assembly.governor, assembly.control)


def _uvicorn(app: Any, *, lifespan: Any) -> uvicorn.Config:
    # No access log: the address of a log-in holds its token.
    return uvicorn.Config(app, access_log=False, log_config=None, lifespan=lifespan, server_header=False)


@contextmanager
def _beside(config: uvicorn.Config, listener: socket.socket) -> Iterator[None]:
    """Serves in a thread until the block ends; a replay that has begun is waited for."""
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="review pages")
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def _listener(settings: Settings) -> Iterator[socket.socket]:
    """A listening socket on [pages] host and port. Raises ConfigurationInvalid when it is taken or not ours."""
    host, port = settings.pages.host, settings.pages.port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigurationInvalid(
            f"Nothing can listen on {host} port {port} ({error.strerror}).",
            "Nothing was started.",
            "Stop what listens there, or choose another [pages] port.",
        ) from None
    with listener:
        yield listener


def _is_free(settings: Settings) -> bool:
    try:
        with _listener(settings):
            return True
    except ConfigurationInvalid as taken:
        logger.info("the review pages are not served by this process: %s", taken.happened)
        return False


@contextmanager
def _process() -> Iterator[None]:
    """Logs to standard error (standard output is the protocol's) and ends cleanly on SIGTERM.

    uvicorn sends a signal it caught once more when it has stopped; unhandled, that would end the process before the
    embedded servers are closed.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
