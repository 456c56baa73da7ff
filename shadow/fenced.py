"""A row's value inside a sentence of ours: fenced, so that it ends no sentence and gives no order to a model.

Called wherever an error or a note names a key or repeats the shadow's own message. What a terminal or a page shows is
neutralised once more by the hub; this holds for whoever shows the sentence as it is.
"""

import re
from collections.abc import Iterable

#: Keys as apps make them (numbers, uuids, codes) need no fence and stay readable.
_PLAIN = re.compile(r"[A-Za-z0-9._:+-]{1,64}")
#: Characters of a key or message that a sentence keeps.
CHARACTERS = 200


def fenced(text: str, cap: int = CHARACTERS) -> str:
    """`text` in backticks on one line, at most `cap` characters of it; what prints nothing is escaped as in Python."""
    inner = "".join(_printed(character) for character in text[:cap])
    return f"`{inner}`…" if len(text) > cap else f"`{inner}`"


def fenced_key(parts: Iterable[str | None]) -> str:
    """A key's texts with commas between them; plain ones as they are, NULL by its name, all others fenced."""
    return ", ".join("NULL" if part is None else part if _PLAIN.fullmatch(part) else fenced(part) for part in parts)


def _printed(character: str) -> str:
    if character == "`":
        return "'"
    return character if character.isprintable() else ascii(character)[1:-1]
