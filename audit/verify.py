"""Proves that a trail is what was written: recomputes every hash and holds it against signed checkpoints.

Called by `shadowdesk audit verify` on the live store, or on an export file with nothing else at hand.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from audit.chain import GENESIS, Head, Link, link_hash
from audit.checkpoint import Checkpoint
from audit.errors import AuditBroken
from audit.event import AuditEvent, indexable
from audit.export import read_export
from audit.store import AuditStore


@dataclass(frozen=True, kw_only=True)
class Report:
    """A trail that verifies.

    `covered_to` is the last event that a checkpoint signs: what follows it could have been longer once.
    `unfinished` counts calls announced and not ended: running now, or cut off by a crash.
    `keys` are the public keys (hexadecimal) that signed: compare them with those known from elsewhere.
    """

    events: int
    head: Head
    checkpoints: int
    covered_to: int
    unfinished: int
    keys: tuple[str, ...]


def verify_store(
    store: AuditStore, checkpoints: Iterable[Checkpoint] = (), *, trusted: frozenset[bytes] | None = None
) -> Report:
    """Checks the live trail against checkpoints kept outside it. Raises AuditBroken, AuditUnavailable.

    `trusted`: the raw public keys that may have signed; None accepts any and leaves them to the reader.
    """
    return _verify(store.links(), list(checkpoints), trusted)


def verify_export(
    lines: Iterable[bytes], checkpoints: Iterable[Checkpoint] = (), *, trusted: frozenset[bytes] | None = None
) -> Report:
    """Checks an export alone, line by line; `checkpoints` may add some kept elsewhere. Raises AuditBroken.

    Each event of an export is covered by a checkpoint: one that is not was added, or the end was cut off.
    """
    found = list(checkpoints)
    report = _verify(_events_of(lines, found), found, trusted)
    if not found:
        raise AuditBroken(report.events + 1, "the file has no checkpoint, so its end is cut off")
    if report.covered_to < report.events:
        raise AuditBroken(report.covered_to + 1, "no checkpoint of the file covers it")
    return report


def _events_of(lines: Iterable[bytes], found: list[Checkpoint]) -> Iterator[Link]:
    """The events; checkpoints, which come last, are put into `found` on the way."""
    own = 0
    last = 0
    for item in read_export(lines):
        if isinstance(item, Checkpoint):
            own += 1
            found.append(item)
        elif own:
            raise AuditBroken(last + 1, "an event stands after the checkpoints")
        else:
            last = item.seq
            yield item


@dataclass
class _Walk:
    """How far the chain was followed; every hash is kept, 32 bytes each, for the checkpoints to come."""

    seq: int = 0
    hash: bytes = GENESIS
    hashes: bytearray = field(default_factory=lambda: bytearray(GENESIS))
    unfinished: set[str] = field(default_factory=set)

    def follow(self, link: Link) -> None:
        """One step; raises AuditBroken where it is not what was written."""
        seq = self.seq + 1
        if link.seq != seq:
            raise AuditBroken(seq, f"number {link.seq} stands in its place")
        if link.prev_hash is not None and link.prev_hash != self.hash:
            raise AuditBroken(seq, "it does not follow the event before it")
        if link.hash != link_hash(self.hash, seq, link.data):
            raise AuditBroken(seq, "its hash is not that of its content after the event before it")
        self._read(seq, link)
        self.seq, self.hash = seq, link.hash
        self.hashes += link.hash

    def hash_at(self, seq: int) -> bytes:
        """The hash of event `seq`, the genesis hash at 0."""
        return bytes(self.hashes[32 * seq : 32 * seq + 32])

    def _read(self, seq: int, link: Link) -> None:
        try:
            event = AuditEvent.from_bytes(link.data, seq=seq)
            expected = (indexable(event.call_id), event.kind, indexable(event.dry_run_id))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise AuditBroken(seq, "its content is not an event") from error
        if link.columns is not None and link.columns != expected:
            raise AuditBroken(seq, "its index columns differ from its content")
        if event.kind == "intent":
            self.unfinished.add(event.call_id)
        elif event.call_id in self.unfinished:
            self.unfinished.remove(event.call_id)
        else:
            raise AuditBroken(seq, "it is an outcome without an intent before it")


def _verify(links: Iterable[Link], checkpoints: list[Checkpoint], trusted: frozenset[bytes] | None) -> Report:
    walk = _Walk()
    for link in links:
        walk.follow(link)
    for checkpoint in sorted(checkpoints, key=lambda each: each.head.seq):
        _hold(checkpoint, walk, trusted)
    return Report(
        events=walk.seq,
        head=Head(seq=walk.seq, hash=walk.hash),
        checkpoints=len(checkpoints),
        covered_to=max((checkpoint.head.seq for checkpoint in checkpoints), default=0),
        unfinished=len(walk.unfinished),
        keys=tuple(sorted({checkpoint.public_key.hex() for checkpoint in checkpoints})),
    )


def _hold(checkpoint: Checkpoint, walk: _Walk, trusted: frozenset[bytes] | None) -> None:
    """Holds one checkpoint against the chain; raises AuditBroken where they differ."""
    seq = checkpoint.head.seq
    if not checkpoint.is_valid():
        raise AuditBroken(seq, "the signature of its checkpoint is not valid")
    if trusted is not None and checkpoint.public_key not in trusted:
        raise AuditBroken(seq, "its checkpoint was signed with a key that is not trusted")
    if seq > walk.seq:
        raise AuditBroken(walk.seq + 1, f"the trail ends before it, but a checkpoint signs {seq} events")
    if walk.hash_at(seq) != checkpoint.head.hash:
        raise AuditBroken(seq, "it is not the event that its checkpoint signed")
