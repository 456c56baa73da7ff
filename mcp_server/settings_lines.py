"""Finds the line of a TOML text where a key stands, so that a configuration error can point at it."""

import tomllib
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]


def line_of(text: str, wanted: Path) -> int | None:
    """The line (from 1) of the longest part of `wanted` that is written in the text; None when no part is."""
    places = dict(reversed(list(_places(text))))
    for length in range(len(wanted), 0, -1):
        if wanted[:length] in places:
            return places[wanted[:length]]
    return None


def _places(text: str) -> Iterator[tuple[Path, int]]:
    """Every heading and key with its path and line, in order; table arrays count their entries."""
    section: Path = ()
    arrays: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        heading = _heading(line)
        if heading is not None:
            section = _section(heading, line.lstrip().startswith("[["), arrays)
            yield section, number
            continue
        for path in _keys(line):
            yield section + path, number


def _section(names: tuple[str, ...], is_array: bool, arrays: dict[Path, int]) -> Path:
    """The path of a heading with the running index after each name of a table array."""
    path: Path = ()
    for position, name in enumerate(names):
        path += (name,)
        if is_array and position == len(names) - 1:
            arrays[path] = arrays.get(path, -1) + 1
        if path in arrays:
            path += (arrays[path],)
    return path


def _heading(line: str) -> tuple[str, ...] | None:
    if not line.lstrip().startswith("["):
        return None
    try:
        value: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    names: list[str] = []
    while value:
        if isinstance(value, list):
            value = value[0]
            continue
        [(name, value)] = value.items()
        names.append(name)
    return tuple(names)


def _keys(line: str) -> Iterator[Path]:
    """The key a line begins with, dotted keys and the keys of an inline table too."""
    if "=" not in line or line.lstrip().startswith("#"):
        return
    try:
        value: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        # A value that goes on over more lines: only its key is read.
        try:
            value = tomllib.loads(line.split("=", 1)[0] + "= 0")
        except tomllib.TOMLDecodeError:
            return
    yield from _nested(value, ())


def _nested(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from _nested(inner, (*path, name))
