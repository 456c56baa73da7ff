"""How a row becomes bytes before it is hashed: each text with its length, so that no two rows read the same.

`<length in characters>:<text>` for a text, three marks for what is not one. Used in SQL by `compose.py` and
in Python by `digest.py`; both must give the same bytes (tested).
"""

from collections.abc import Iterable

#: SQL NULL, or an image of a row that does not exist.
NOTHING = "-"
#: An after cell that is the transaction's own time.
CLOCK = "!clock"
#: An after cell, or key, of a new row that was drawn inside a trigger.
GENERATED = "!generated"


def frame(text: str | None) -> str:
    """One text with its length, a mark for NULL; only a framed text starts with a digit."""
    return NOTHING if text is None else f"{len(text)}:{text}"


def framed(texts: Iterable[str | None]) -> str:
    """Several texts one after the other."""
    return "".join(frame(text) for text in texts)
