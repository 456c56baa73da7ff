"""What an engineer needs to write a domain tool: `@tool`, the `Edit` it works through, and `EditRefused`.

A tool is a plain typed function that reads and writes a dry run's shadow and nothing else; `tools/domain.py` runs it.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mcp_server.errors import DeskError
from mcp_server.identity import Caller
from mcp_server.views import StepResult

if TYPE_CHECKING:
    from mcp_server.desk import Desk

F = TypeVar("F", bound=Callable[..., Any])
#: Parameters that the decorator adds to what the model sees.
ADDED = ("dry_run_id", "request")
#: Most rows one `Edit.query` may return.
QUERY_ROWS = 10_000
_MARK = "__shadowdesk_tool__"
_EDIT: ContextVar["Edit"] = ContextVar("shadowdesk_edit")


class EditRefused(DeskError):
    """A domain tool's own rule says no; steps the tool had made are taken back. Raised by tools, with one sentence."""

    def __init__(self, happened: str) -> None:
        super().__init__(
            happened,
            "Nothing of this call was kept.",
            "Correct the call if it was mistaken; the rule itself is the business' own.",
        )


class Edit:
    """One dry run's shadow, as a domain tool's body sees it; every write becomes a recorded step."""

    def __init__(
        self, desk: "Desk", caller: Caller, dry_run_id: str, tool: str, arguments: dict[str, Any], reason: str
    ) -> None:
        self._desk = desk
        self._caller = caller
        self.dry_run_id = dry_run_id
        self._tool = tool
        self._arguments = arguments
        self._reason = reason
        self._steps: list[StepResult] = []

    @property
    def steps(self) -> tuple[StepResult, ...]:
        """The steps this edit made so far."""
        return tuple(self._steps)

    def query(self, sql: str, params: Sequence[str | None] = ()) -> list[dict[str, str | None]]:
        """Rows of one SELECT by column name, each cell Postgres' own text, NULL as None; `$1` takes `params[0]`.

        Raises EditRefused when there are more rows than a tool may read at once, ValueError when two columns share
        a name, and the desk's StatementRefused and StatementFailed.
        """
        found = self._desk.query(self._caller, self.dry_run_id, sql, _texts(params), QUERY_ROWS)
        if found.truncated:
            raise EditRefused(f"A query of {self._tool} found more rows than it can read at once.")
        if len(set(found.columns)) != len(found.columns):
            raise ValueError("two columns of the query have the same name: give each its own with AS")
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]

    def run(self, sql: str, params: Sequence[str | None] = (), reason: str | None = None) -> StepResult:
        """Runs one INSERT, UPDATE, DELETE or MERGE and keeps it as the next step; the call's own reason by default.

        Raises the desk's StatementRefused, StatementFailed and QuotaExceeded; the step is not kept then.
        """
        step = self._desk.run(
            self._caller,
            self.dry_run_id,
            sql,
            reason or self._reason,
            _texts(params),
            tool=self._tool,
            arguments=self._arguments,
        )
        self._steps.append(step)
        return step


def current_edit() -> Edit:
    """The edit of the tool call that is running. Raises RuntimeError outside of one."""
    try:
        return _EDIT.get()
    except LookupError:
        raise RuntimeError("current_edit() is for the body of a tool while it is being rehearsed") from None


@contextmanager
def editing(edit: Edit) -> Iterator[None]:
    """Makes `edit` the current one while a tool's body runs."""
    token = _EDIT.set(edit)
    try:
        yield
    finally:
        _EDIT.reset(token)


@dataclass(frozen=True, kw_only=True)
class TenantSource:
    """How a call finds its tenant: the row whose `column` ("contracts.id") equals `argument`."""

    column: str
    argument: str


@dataclass(frozen=True, kw_only=True)
class ToolMark:
    """What `@tool` wrote on a function."""

    name: str
    permission: str
    description: str
    tenant_from: TenantSource | None


def tool(*, name: str, requires_permission: str, description: str, tenant_from: str | None = None) -> Callable[[F], F]:
    """Marks a function as a domain tool; the function itself stays as it is and may be called in tests.

    `tenant_from` ("contracts.id:contract_id") lets a call start its own dry run: the tenant that owns the row of
    `contracts` whose `id` is the argument `contract_id`. Raises TypeError when the function cannot be a tool.
    """

    def mark(function: F) -> F:
        parameters = inspect.signature(function).parameters
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{name}: a tool is a plain function, not async")
        if taken := [added for added in ADDED if added in parameters]:
            raise TypeError(f"{name}: {', '.join(taken)} is added to every tool; give the parameter another name")
        if any(one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) for one in parameters.values()):
            raise TypeError(f"{name}: every parameter of a tool has a name")
        source = _tenant_source(name, tenant_from, set(parameters)) if tenant_from else None
        setattr(
            function,
            _MARK,
            ToolMark(name=name, permission=requires_permission, description=description, tenant_from=source),
        )
        return function

    return mark


def mark_of(value: object) -> ToolMark | None:
    """What `@tool` wrote on `value`; None for everything else."""
    found = getattr(value, _MARK, None) if callable(value) else None
    return found if isinstance(found, ToolMark) else None


def _tenant_source(name: str, text: str, parameters: set[str]) -> TenantSource:
    column, _, argument = text.rpartition(":")
    if "." not in column or argument not in parameters:
        raise TypeError(f'{name}: tenant_from reads "table.column:parameter"')
    return TenantSource(column=column, argument=argument)


def _texts(params: Sequence[str | None]) -> list[str | None]:
    """The parameters, every one text or None: Postgres gives them their types. Raises TypeError for others."""
    for position, value in enumerate(params, 1):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"parameter ${position} is {type(value).__name__}: write it as text")
    return list(params)
