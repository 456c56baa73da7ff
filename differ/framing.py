"""How a row becomes bytes before it is hashed, so that no two rows read the same.

`digest.py` builds these bytes in Python; `compose.py` has Postgres build the same ones (tested to be equal).
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence

from differ.model import Column

#: The oid of `text` (pg_type.dat); array_send writes it.
TEXT_OID = 25
#: What stands for an after cell's kind in a row's bytes.
KIND_LETTERS = {"value": "v", "clock": "c", "wall": "w", "generated": "g"}


def frame(text: str) -> str:
    """One text with its length in characters in front."""
    return f"{len(text)}:{text}"


def framed(texts: Iterable[str]) -> str:
    """Several texts one after the other."""
    return "".join(frame(text) for text in texts)


def sent(cells: Sequence[str | None]) -> bytes:
    """What Postgres' `array_send` writes for a text[]: a header, then each cell with its length in bytes, -1 for NULL.

    Source: array_send in src/backend/utils/adt/arrayfuncs.c; the format is that of the binary protocol.
    """
    if not cells:
        return struct.pack(">iii", 0, 0, TEXT_OID)
    parts = [struct.pack(">iiiii", 1, None in cells, TEXT_OID, len(cells), 1)]
    for cell in cells:
        if cell is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            data = cell.encode()
            parts += (struct.pack(">i", len(data)), data)
    return b"".join(parts)


def shape_hash(columns: Sequence[Column]) -> bytes:
    """SHA-256 over the columns' names and types in order: what a row's cells are cells of."""
    names = framed(text for column in columns for text in (column.name, column.type))
    return hashlib.sha256(names.encode()).digest()
