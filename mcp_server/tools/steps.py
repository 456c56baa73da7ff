"""Which recorded steps belong to which call of a domain tool; used by undo, and before a rehearsed call is proposed."""

from collections.abc import Mapping
from typing import Any, Protocol

from audit.canonical import canonical


class RecordedStep(Protocol):
    """A kept statement as the control store gives it back."""

    @property
    def step(self) -> int: ...
    @property
    def tool(self) -> str | None: ...
    @property
    def arguments(self) -> Mapping[str, Any] | None: ...


def made_by(step: RecordedStep, tool: str, arguments: Mapping[str, Any]) -> bool:
    """Whether `step` was made by a call of `tool` with exactly these arguments."""
    return step.tool == tool and canonical(dict(step.arguments or {})) == canonical(dict(arguments))


def same_call(one: RecordedStep, other: RecordedStep) -> bool:
    """Whether two steps may be of one call: same tool, same arguments."""
    return one.tool is not None and made_by(other, one.tool, one.arguments or {})
