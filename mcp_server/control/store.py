"""The control store: everything about dry runs that outlives a process; used by the desk, the pages and the CLI."""

from types import TracebackType
from typing import Self

from sqlalchemy import Engine

from mcp_server.control.calls import CallTable
from mcp_server.control.confirmations import ConfirmationTable
from mcp_server.control.connections import control_engine
from mcp_server.control.logins import LoginTable
from mcp_server.control.personal_tokens import MaskSecretTable, PersonalTokenTable
from mcp_server.control.proposals import ProposalTable


class ControlStore(ProposalTable, ConfirmationTable, LoginTable, PersonalTokenTable, MaskSecretTable, CallTable):
    """Safe to share between threads; every method is one short transaction of its own.

    All raise SandboxUnavailable where the control database cannot be used.
    """

    def __init__(self, engine: Engine) -> None:
        """`engine` comes from `control_engine`; `close` disposes of it."""
        self._engine = engine

    @classmethod
    def open(cls, control_url: str) -> Self:
        """A store as the role shadowdesk_control; it connects on first use."""
        return cls(control_engine(control_url))

    def close(self) -> None:
        """Closes the pool's connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
