"""What every tool is made of: its names and permission, its argument and result models, and what runs it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mcp_types import ToolAnnotations
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from differ.text import neutralise
from mcp_server.errors import DeskError
from mcp_server.governed import Facts
from mcp_server.identity import Caller

if TYPE_CHECKING:
    from mcp_server.desk import Desk

#: Says the share of a long step that is done (0 to 1) and what is being done.
Progress = Callable[[str, float], None]
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
EDITS_SHADOW = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
)
_CONTAINERS = frozenset(
    {"list_type", "tuple_type", "set_type", "frozen_set_type", "dict_type", "model_type", "dataclass_type"}
)
#: Argument errors told at once.
_TOLD = 10


class WordsMissing(DeskError):
    """A request or reason that says nothing: the audit trail would not tell why."""


class Arguments(BaseModel):
    """Base of every tool's arguments: what the tool does not know is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, given: Any) -> Any:
        """Raises ValueError for texts that no database can hold: said here once, in words, and not by a driver."""
        if not _is_storable(given):
            raise ValueError("a text holds a NUL character or half a surrogate pair; leave it out")
        return given


def _is_storable(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return all(_is_storable(name) and _is_storable(item) for name, item in value.items())
    return not isinstance(value, list | tuple) or all(_is_storable(item) for item in value)


@dataclass(frozen=True, kw_only=True)
class Session:
    """One call's surroundings."""

    desk: "Desk"
    caller: Caller
    base_url: str
    progress: Progress

    def link(self, review_path: str) -> str:
        """The address of a review page. It holds no credential: whoever opens it logs in."""
        return self.base_url.rstrip("/") + review_path


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A tool's result: the structured value, the same in words, and what the audit should know."""

    value: BaseModel
    text: str
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True, kw_only=True)
class ToolSpec:
    """One tool of the surface; `run` gets validated arguments; `drawn` says that the MCP App draws the result."""

    name: str
    description: str
    permission: str
    arguments: type[BaseModel]
    result: type[BaseModel]
    annotations: ToolAnnotations
    run: Callable[[Session, Any], Answer]
    drawn: bool = False

    @property
    def title(self) -> str:
        """The name as people read it."""
        return self.name.replace("_", " ").capitalize()

    def parse(self, arguments: Mapping[str, Any]) -> BaseModel:
        """The validated arguments. Raises pydantic's ValidationError.

        Some clients send lists and objects as JSON text; such a text is read only where text was refused, so that
        no value ever changes its meaning ("null" stays the text null).
        """
        try:
            return self.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            mended = dict(arguments)
            for one in error.errors():
                name = one["loc"][0] if len(one["loc"]) == 1 else None
                if one["type"] in _CONTAINERS and isinstance(name, str) and isinstance(mended.get(name), str):
                    mended[name] = _container(mended[name])
            return self.arguments.model_validate(mended)


def _container(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, list | dict) else text


def problems(error: ValidationError) -> str:
    """What is wrong with the arguments, by field, without repeating a value."""
    told = []
    for one in error.errors()[:_TOLD]:
        where = neutralise(".".join(str(part) for part in one["loc"]) or "arguments", 80)
        what = "there is no such argument" if one["type"] == "extra_forbidden" else neutralise(one["msg"], 200)
        told.append(f"{where}: {what}")
    return "; ".join(told)


def said(text: str | None, what: str, next_step: str) -> str:
    """`text` when it says anything. Raises WordsMissing when it is blank, a dot or a dash."""
    if text is None or not any(character.isalnum() for character in text):
        raise WordsMissing(f"The {what} says nothing.", "Nothing ran.", next_step)
    return text
