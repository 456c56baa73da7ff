"""A domain tool's signature: the arguments a model gives, the result it gets, where the edit goes; for domain.py."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, Field, create_model

from mcp_server.tool import ADDED, Edit
from mcp_server.tools.results import ProposalResult, Step
from mcp_server.tools.spec import Arguments

DRY_RUN = "dry_run"
_DRY_RUN_ID = Annotated[
    str | None, Field(max_length=60, description="Continue this open dry run; without it one is started.")
]
_REQUEST = Annotated[
    str | None,
    Field(max_length=4000, description="The rep's own words that led to this; needed when a dry run is started."),
]
_DRY_RUN = Annotated[
    bool,
    Field(
        description=(
            "true rehearses on the shadow. false never writes either: it proposes the dry run whose last step this"
            " same call made, and a person decides on its page."
        )
    ),
]


class DomainResult(BaseModel):
    """What a domain tool's call came to: rehearsed steps, or the proposal that was made of them."""

    dry_run_id: str
    steps: tuple[Step, ...] = ()
    proposal: ProposalResult | None = None


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A function as a tool: its models, and which of its parameters are filled by us."""

    function: Callable[..., Any]
    arguments: type[BaseModel]
    result: type[BaseModel]
    own: tuple[str, ...]
    edit_parameter: str | None
    takes_dry_run: bool

    def call(self, given: BaseModel, edit: Edit) -> Any:
        """The function's own result for these arguments, rehearsed."""
        values = {name: getattr(given, _field(name)) for name in self.own}
        if self.edit_parameter:
            values[self.edit_parameter] = edit
        if self.takes_dry_run:
            values[DRY_RUN] = True
        return self.function(**values)

    def recorded(self, given: BaseModel) -> dict[str, Any]:
        """The function's own arguments as JSON, defaults filled in: what a step is recorded with."""
        values = given.model_dump(mode="json", by_alias=True)
        return {name: values[name] for name in self.own}


def read_signature(name: str, function: Callable[..., Any]) -> Signature:
    """The function's models. Raises TypeError when a parameter's type is missing or nothing pydantic can read."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    edits = [one for one in parameters if hints.get(one) is Edit]
    own = tuple(one for one in parameters if one not in edits and one != DRY_RUN)
    if untyped := [one for one in own if one not in hints]:
        raise TypeError(f"{name}: say the type of {', '.join(untyped)}")
    if len(edits) > 1:
        raise TypeError(f"{name}: one edit parameter is enough")
    fields = {one: (hints[one], parameters[one].default) for one in own}
    return Signature(
        function=function,
        arguments=_arguments(name, fields),
        result=_result(name, hints.get("return")),
        own=own,
        edit_parameter=edits[0] if edits else None,
        takes_dry_run=DRY_RUN in parameters,
    )


def _arguments(name: str, own: Mapping[str, tuple[Any, Any]]) -> type[BaseModel]:
    added = {
        DRY_RUN: (_DRY_RUN, True),
        ADDED[0]: (_DRY_RUN_ID, None),
        ADDED[1]: (_REQUEST, None),
    }
    fields: dict[str, Any] = {
        # Fields go by another name than their alias, so that a parameter called `copy` hides nothing of pydantic's.
        _field(one): (Annotated[kind, Field(alias=one)], ... if default is inspect.Parameter.empty else default)
        for one, (kind, default) in {**own, **added}.items()
    }
    return create_model(f"{name}_arguments", __base__=Arguments, **fields)


def _result(name: str, own: Any) -> type[BaseModel]:
    kind = Any if own is None else own | None if own is not type(None) else own
    fields: dict[str, Any] = {"result": (kind, None)}
    return create_model(f"{name}_result", __base__=DomainResult, **fields)


def _field(name: str) -> str:
    return f"given_{name}"


def given(arguments: BaseModel, name: str) -> Any:
    """The value of one argument by the name the model knows it by."""
    return getattr(arguments, _field(name))
