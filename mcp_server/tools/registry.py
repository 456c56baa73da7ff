"""Every tool of this process, by name: the built-in ones and those of the modules the TOML names; made by server.py."""

import importlib
from collections.abc import Iterable, Iterator
from types import ModuleType

from mcp_server.errors import ConfigurationInvalid
from mcp_server.tool import mark_of
from mcp_server.tools import candidates, changing, looking, proposing
from mcp_server.tools.domain import domain_tool
from mcp_server.tools.spec import ToolSpec

BUILT_IN: tuple[ToolSpec, ...] = (*looking.TOOLS, *changing.TOOLS, *proposing.TOOLS, *candidates.TOOLS)


class Registry:
    """Tools by name, in the order in which they are listed."""

    def __init__(self, tools: Iterable[ToolSpec]) -> None:
        """Raises ConfigurationInvalid when two tools have one name."""
        self._tools: dict[str, ToolSpec] = {}
        for tool in tools:
            if tool.name in self._tools:
                raise _invalid(f"Two tools are called {tool.name!r}")
            self._tools[tool.name] = tool

    def get(self, name: str) -> ToolSpec | None:
        """The tool of that name."""
        return self._tools.get(name)

    def __iter__(self) -> Iterator[ToolSpec]:
        return iter(self._tools.values())


def load_registry(modules: Iterable[str]) -> Registry:
    """The built-in tools and every `@tool` function of the named modules.

    Raises ConfigurationInvalid for a module that cannot be imported or holds no tool, and for an impossible tool.
    """
    return Registry([*BUILT_IN, *(tool for name in modules for tool in _tools_of(name))])


def _tools_of(name: str) -> list[ToolSpec]:
    try:
        module = importlib.import_module(name)
        found = list(_marked(module))
    except Exception as error:
        raise _invalid(f"The tools of {name!r} cannot be used: {type(error).__name__}: {error}") from error
    if not found:
        raise _invalid(f"The module {name!r} holds no @tool function")
    return found


def _marked(module: ModuleType) -> Iterator[ToolSpec]:
    seen: set[int] = set()
    for value in vars(module).values():
        mark = mark_of(value)
        if mark is not None and id(value) not in seen:
            seen.add(id(value))
            yield domain_tool(mark, value)


def _invalid(happened: str) -> ConfigurationInvalid:
    return ConfigurationInvalid(f"{happened}.", "The server was not started.", "Correct [tools] modules or the tool.")
