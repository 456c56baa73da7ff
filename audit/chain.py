"""The chain: each event's hash covers its bytes, its number and the hash before it.

The database computes the same hash as it links a row (`sql/schema.sql`); `verify.py` recomputes it here.
"""

import hashlib
from dataclasses import dataclass

DOMAIN = b"shadowdesk.audit.event.v1\0"
#: What the first event links to.
GENESIS = bytes(32)


@dataclass(frozen=True, kw_only=True)
class Head:
    """The end of a chain: how many events it has and the hash of the last one."""

    seq: int
    hash: bytes


@dataclass(frozen=True, kw_only=True)
class Link:
    """One event in its chain; `data` are its canonical bytes. `columns` is None where there are none beside."""

    seq: int
    data: bytes
    hash: bytes
    prev_hash: bytes | None = None
    #: call_id, kind, dry_run_id as the table's index columns have them.
    columns: tuple[str, str, str | None] | None = None


def link_hash(prev: bytes, seq: int, data: bytes) -> bytes:
    """SHA-256 of domain ‖ hash before (32 bytes) ‖ number (8 bytes, big endian) ‖ canonical bytes."""
    return hashlib.sha256(DOMAIN + prev + seq.to_bytes(8, "big") + data).digest()
