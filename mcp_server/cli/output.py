"""What every command prints with: exit codes, JSON of our views, tables; used by each command file.

Exit codes: 0 done (equal, verified), 1 refused or different, 2 wrong usage, 3 a server or store could not be reached,
4 a fault of ours.
"""

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

#: Characters of one line that repeats what others wrote.
LINE_CHARACTERS = 4000
OK, REFUSED, USAGE, UNAVAILABLE, FAULT = 0, 1, 2, 3, 4


def say(text: str = "") -> None:
    """One line to standard output, as it is: no markup is read from it."""
    sys.stdout.write(f"{text}\n")


def complain(text: str) -> None:
    """Lines to standard error; what could act on the terminal in them is made visible."""
    sys.stderr.write("".join(f"{printable(line)}\n" for line in text.split("\n")))


def printable(text: str) -> str:
    """A sentence that may repeat words of people or values of rows, on one line and harmless to a terminal."""
    from differ.text import neutralise

    return neutralise(text, LINE_CHARACTERS)


def say_json(value: Any) -> None:
    """A view, or a list of them, as indented JSON."""
    say(json.dumps(plain(value), indent=2, ensure_ascii=True))


def plain(value: Any) -> Any:
    """A view as JSON values: dataclasses as objects, times in ISO 8601, tuples as lists; a Diff in its own form."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | frozenset | set):
        return [plain(item) for item in value]
    return value


def say_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table fitted to the terminal; cells are shown as text, their markup unread."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, header_style="bold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    Console().print(table)


def exit_code(error: Exception) -> int:
    """Which code an explained error ends the command with."""
    from audit.errors import AuditUnavailable
    from mcp_server.errors import ConfigurationInvalid
    from shadow.errors import OutcomeUnknown, SandboxUnavailable

    if isinstance(error, ConfigurationInvalid):
        return USAGE
    if isinstance(error, SandboxUnavailable | AuditUnavailable | OutcomeUnknown):
        return UNAVAILABLE
    return REFUSED
