"""Hostile arguments to every command, drawn by hypothesis from the parameters that typer itself knows; see attack.py.

Commands run in this process, through the console script's own entry point: a process each would take a second.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import typer.main
from hypothesis import strategies as st

from mcp_server.cli import app, main
from tests.hostile.arguments import NASTY

#: Commands that serve until they are stopped: only what is refused before they start is sent to them.
SERVING = frozenset({"serve", "stdio", "bridge", "demo"})
#: Options that say where a file goes: a text with a path in it would be an honest order to write there.
WRITTEN = frozenset({"output"})
#: What an operating system hands over to a process.
SENDABLE = [text for text in NASTY if "\0" not in text and "\ud800" not in text and len(text) < 100_000]
Case = tuple[str, list[str]]


def every_command() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Words and definition of each command, groups opened."""

    def walk(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
        if hasattr(command, "commands"):
            for name, one in sorted(command.commands.items()):
                yield from walk((*words, name), one)
        else:
            yield words, command

    yield from walk((), typer.main.get_command(app))


def hostile_lines(words: tuple[str, ...], command: click.Command, config: str) -> st.SearchStrategy[Case]:
    """(what is wrong, the command line) for one command."""
    odd = st.sampled_from(("--nobody-asked", "--\x1b[2J", "-\u202e", "--config=")).map(
        lambda option: ("with an option nobody asked for", [*words, option])
    )
    many = st.sampled_from(SENDABLE).map(lambda text: ("with thirty arguments", [*words, "--", *[text] * 30]))
    if words[0] in SERVING:
        return odd | many
    given = [one for one in command.params if one.name not in ("help", "config")]
    drawn = st.tuples(*(_parameter(one) for one in given)).map(lambda parts: [item for part in parts for item in part])
    settings = ["--config", config] if any(one.name == "config" for one in command.params) else []
    return st.one_of(odd, many, drawn.map(lambda line: ("with hostile values", [*words, *line, *settings])))


def _parameter(one: click.Parameter) -> st.SearchStrategy[list[str]]:
    """A hostile value for one parameter, or none."""
    texts = st.sampled_from([text for text in SENDABLE if one.name not in WRITTEN or "/" not in text])
    if not hasattr(one, "is_flag"):
        return st.one_of(texts.map(lambda text: [text]), st.just([]))
    option = max(one.opts, key=len)
    if one.is_flag:
        return st.sampled_from(([], [option]))
    # `--option=value`, so that a value is never read as the next option
    values = (
        texts | st.integers().map(str) | st.text(st.characters(exclude_categories=["Cs"], min_codepoint=1), max_size=9)
    )
    if one.name in WRITTEN:
        values = texts
    return st.one_of(values.map(lambda text: [f"{option}={text}"]), st.just([]))


def played(line: list[str], folder: Path, key: str) -> tuple[int, str]:
    """Exit code and everything said by one command line, run in `folder` as the console script runs it.

    `key` is a person's own, in their environment: nobody is there to type one.
    """
    said = io.StringIO()
    before, code = sys.argv, 0
    try:
        sys.argv = ["shadowdesk", *line]
        with patch.dict(os.environ, SHADOWDESK_KEY=key), chdir(folder), redirect_stdout(said), redirect_stderr(said):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
    return code, said.getvalue()
