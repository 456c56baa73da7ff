"""The control store's own SQL: `.sql` files cut into named blocks; its migrations read them here."""

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def _blocks() -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in sorted(files(__package__).iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".sql"):
            parts = _NAME.split(entry.read_text(encoding="utf-8"))
            found.update(zip(parts[1::2], parts[2::2], strict=True))
    return found


def block(name: str) -> LiteralString:
    """The SQL text of one named block; literal in that it ships with the package."""
    return _blocks()[name].strip()
