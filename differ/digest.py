"""The digest of a proposal, and the row hashes under it in Python; called by the hub at propose and confirm.

Layers: one SHA-256 per changed row over framed (column, type, text) cells of its key, before and after
image; one per table over its row hashes in key order (both in SQL, `sql/diff.sql`); one over the tables;
one over the header. Clock and generated cells go in by kind, not by value, so that the digest means what
the person saw and no more.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import rfc8785

from differ.framing import KIND_LETTERS, frame, framed, sent, shape_hash
from differ.model import Column, FrozenRow

#: Without these a confirmed digest would not say what runs, where, and what it adds up to.
REQUIRED = frozenset({"statements", "tenant", "measures"})


def digest(header: Mapping[str, Any], tables_root: str) -> str:
    """SHA-256 (hex) over the RFC 8785 canonical JSON of `header` with `tables_root` added.

    `header` holds `statements` (each with text, params and pins), `tenant`, `measures` and whatever else a
    person confirms; only strings, whole numbers, booleans, None, lists and string-keyed mappings.
    ValueError when one of them is missing or `tables_root` is already taken; rfc8785.CanonicalizationError
    for other values.
    """
    missing = REQUIRED - header.keys()
    if missing or "tables_root" in header:
        raise ValueError(f"a digest header needs {sorted(REQUIRED)} and must leave tables_root free")
    return hashlib.sha256(rfc8785.dumps({**header, "tables_root": tables_root})).hexdigest()


def tables_root(roots: Mapping[str, str]) -> str:
    """SHA-256 (hex) over table names and their roots (hex), in name order."""
    text = "".join(framed((table, roots[table])) for table in sorted(roots))
    return hashlib.sha256(text.encode()).hexdigest()


def sink_root(table: str, rows: int) -> str:
    """A sink's root: how many rows were written there. Their cells name the shadow's own role and drawn keys."""
    return hashlib.sha256(f"{frame(table)}sink:{rows}".encode()).hexdigest()


def table_root(
    table: str,
    columns: Sequence[Column],
    key: Sequence[str],
    rows: Iterable[FrozenRow],
    generated: frozenset[str] = frozenset(),
) -> str:
    """The same hex as `TableSummary.root`, from one table's frozen rows; unchanged ones do not count."""
    names = [column.name for column in columns]
    steady = [place for place, name in enumerate(key) if name not in generated]
    places = [names.index(name) for name in key]
    hashes = sorted(
        ([row.key[place].encode() for place in steady], row_hash(columns, places, row)) for row in rows if row.changed
    )
    head = f"{frame(table)}{len(hashes)};"
    return hashlib.sha256(head.encode() + b"".join(found for _, found in hashes)).hexdigest()


def row_hash(columns: Sequence[Column], key_positions: Sequence[int], row: FrozenRow) -> bytes:
    """The SHA-256 of one changed row, as SQL computes it; `key_positions` count from 0 into `columns`."""
    return hashlib.sha256(shape_hash(columns) + row_bytes(key_positions, row)).digest()


def row_bytes(key_positions: Sequence[int], row: FrozenRow) -> bytes:
    """Key, before and after image as length-prefixed cells; a clock or generated cell by its kind alone."""
    new = row.before is None
    key = [
        None if new and row.kinds[place] == "generated" else text
        for place, text in zip(key_positions, row.key, strict=True)
    ]
    before = b"i" if row.before is None else sent(row.before)
    if row.after is None:
        return sent(key) + before + b"d"
    cells = [cell if kind == "value" else None for cell, kind in zip(row.after, row.kinds, strict=True)]
    letters = "".join(KIND_LETTERS[kind] for kind in row.kinds)
    return sent(key) + before + sent(cells) + letters.encode()
