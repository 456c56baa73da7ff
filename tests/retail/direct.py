"""Runs the shop's tools on a plain database, without the product: shows that the tools alone are right."""

import inspect
from collections.abc import Sequence
from typing import Any, get_type_hints

import psycopg
from psycopg import pq
from pydantic import ConfigDict, ValidationError, create_model

from mcp_server.tool import EditRefused
from tests.retail import tools
from tests.retail.data import Document


class DirectEdit:
    """The Edit of a tool on one plain connection: same SQL, same text parameters, same text results.

    `statements` are the writes that ran.
    """

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self.statements: list[str] = []

    def query(self, sql: str, params: Sequence[str | None] = ()) -> list[dict[str, str | None]]:
        """Rows as Postgres text by column name."""
        return _execute(self.connection, sql, params)

    def run(self, sql: str, params: Sequence[str | None] = (), reason: str | None = None) -> None:
        """Runs one write."""
        self.statements.append(sql)
        _execute(self.connection, sql, params)


def act(edit: DirectEdit, function: Any, arguments: Document) -> Any:
    """One tool in its own transaction: its result. Raises EditRefused or pydantic's ValidationError."""
    accepted = _typed(function, arguments)
    with edit.connection.transaction():
        return function(**accepted, edit=edit)


def _typed(function: Any, arguments: Document) -> Document:
    """The arguments in the tool's own types; refused like the product does: none missing, none unknown."""
    hints = get_type_hints(function, include_extras=True)
    fields: Any = {
        name: (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "edit"
    }
    model = create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)
    return dict(model(**arguments))


def _execute(connection: psycopg.Connection, sql: str, params: Sequence[str | None]) -> list[dict[str, str | None]]:
    """The extended protocol with parameters of unknown type, as the product sends them."""
    values = [None if one is None else one.encode() for one in params]
    result = connection.pgconn.exec_params(sql.encode(), values)
    if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        raise psycopg.DatabaseError(result.error_message.decode(errors="replace"))
    names = [(result.fname(at) or b"").decode() for at in range(result.nfields)]
    return [
        {name: _decoded(result.get_value(row, at)) for at, name in enumerate(names)} for row in range(result.ntuples)
    ]


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


class DirectDriver:
    """A session's actions on the plain database: each is committed when it was done, no diff is shown."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def start(self, user_id: str, request: str) -> None:
        """Nothing to open."""

    def call(self, tool: str, arguments: Document) -> str | None:
        """The words of the refusal, None where the action was done."""
        try:
            act(DirectEdit(self._connection), getattr(tools, tool), arguments)
        except (EditRefused, ValidationError) as refusal:
            return str(refusal)
        return None

    def propose(self) -> None:
        """There is no diff to show."""

    def confirm(self) -> None:
        """Every action is done already."""

    def close(self) -> None:
        """The connection is its opener's to close."""
