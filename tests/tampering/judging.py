"""The gate alone on an entry's texts, in a process that may die of it; run.py starts it, so it imports nothing more."""

from collections.abc import Sequence

from shadow.errors import StatementRefused
from shadow.gate import gate
from tests.tampering.surface import surface


def judged(texts: Sequence[str]) -> int:
    """How many of the texts the gate refused."""
    refusals = 0
    for text in texts:
        try:
            gate(text, (), surface())
        except StatementRefused:
            refusals += 1
    return refusals
