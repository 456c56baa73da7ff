"""Connections to the control database as its two roles, and the one place where their errors become ours."""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool
from sqlalchemy import Connection, Engine, create_engine, event, exc

from mcp_server.errors import ConfirmationRefused, DeskError, WrongState
from shadow.errors import SandboxUnavailable

#: A waiting writer gives up long before a person does; a proposal's rows come in one COPY, hence the longer limit.
_SETTINGS = "-c TimeZone=UTC -c lock_timeout=5s -c statement_timeout=60s"


def control_engine(control_url: str, *, size: int = 5) -> Engine:
    """A pool of connections as shadowdesk_control; the URL goes to libpq as it is. `dispose()` closes it."""
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(control_url, options=_SETTINGS, application_name="shadowdesk control"),
        pool_size=size,
        max_overflow=2 * size,
        pool_timeout=10,
        hide_parameters=True,
    )
    event.listen(engine, "checkout", _replace_lost)
    return engine


def audit_pool(audit_url: str, *, size: int = 4) -> ConnectionPool[psycopg.Connection[tuple[object, ...]]]:
    """Autocommit connections as shadowdesk_audit, for `audit.store.AuditStore`. `close()` closes it.

    A connection lost with a restarted server is replaced before it is used.
    """
    return ConnectionPool(
        audit_url,
        kwargs={"autocommit": True, "options": _SETTINGS, "application_name": "shadowdesk audit"},
        min_size=1,
        max_size=size,
        timeout=10,
        # Gives up early and starts afresh with the next call: a longer backoff would outlast the server's restart.
        reconnect_timeout=3,
        check=ConnectionPool.check_connection,
        open=True,
    )


def audit_session(audit_url: str) -> psycopg.Connection[tuple[object, ...]]:
    """One autocommit connection as shadowdesk_audit, for `audit.presence.Presence`. Raises psycopg.Error."""
    return psycopg.connect(audit_url, autocommit=True, options=_SETTINGS, application_name="shadowdesk presence")


def _replace_lost(connection: psycopg.Connection[Any], _record: object, _proxy: object) -> None:
    """SQLAlchemy's event `checkout`: the pool connects anew where the server has said something to an idle connection,
    which is its farewell or the end of the stream. Costs no round trip, which a question would.
    """
    readable = select.poll()
    readable.register(connection.pgconn.socket, select.POLLIN)
    if readable.poll(0):
        raise exc.DisconnectionError("the server ended this connection while nobody used it")


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One short transaction, committed at the end.

    Raises WrongState or ConfirmationRefused where the database refused the change, SandboxUnavailable where it
    could not be asked. No text of the driver is repeated: it holds row values.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except (exc.SQLAlchemyError, psycopg.Error, UnicodeEncodeError) as error:
        raise _explained(error) from error


def _explained(error: Exception) -> DeskError | SandboxUnavailable:
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    state = getattr(cause, "sqlstate", None) or ""
    if state == "SD103" or _about(cause).startswith("confirmations"):
        return ConfirmationRefused(
            "This proposal cannot be confirmed like that: it is over, taken, or not what was shown.",
            "Nothing was replayed; production is as it was.",
            "Reload its page and look at its state, its digest and its number of rows.",
        )
    if state.startswith("SD1"):
        return WrongState(
            "The dry run or proposal is in a state that does not allow this.",
            "Nothing was changed.",
            "Look at its status; somebody may have decided or edited it meanwhile.",
        )
    if state.startswith("23"):
        return WrongState(
            f"The control store refused the change ({_about(cause)}).",
            "Nothing was changed.",
            "Look at its status and try again.",
        )
    if isinstance(cause, psycopg.DataError | UnicodeEncodeError):
        return WrongState(
            "A text holds a character that PostgreSQL cannot store, or a number is too large.",
            "Nothing was changed.",
            "Send text without NUL characters and lone surrogates.",
        )
    return SandboxUnavailable(
        f"The control database could not be used ({type(cause).__name__}{f', SQLSTATE {state}' if state else ''}).",
        "Nothing was changed.",
        "Ask the operator to run `shadowdesk doctor`, then try again.",
    )


def _about(cause: Any) -> str:
    """Table and constraint that refused; names only, never values."""
    diagnostics = getattr(cause, "diag", None)
    if diagnostics is None:
        return ""
    return " ".join(name for name in (diagnostics.table_name, diagnostics.constraint_name) if name)
