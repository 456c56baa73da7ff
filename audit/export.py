"""The whole trail as one file that verifies alone: a line per event, the checkpoints at the end.

Written for `shadowdesk audit export`, read by `verify.py`. A line is JSON, and holds the event's exact bytes.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from audit.chain import Link
from audit.checkpoint import Checkpoint, Checkpoints
from audit.errors import AuditBroken
from audit.store import AuditStore

_EVENT = re.compile(rb'\{"seq":([1-9][0-9]{0,18}),"hash":"([0-9a-f]{64})","event":(\{.*\})\}')


def export(store: AuditStore, checkpoints: Checkpoints, out: BinaryIO) -> Checkpoint:
    """Writes the trail up to its present head and returns the checkpoint signed for it, the file's last line."""
    head = store.head()
    for link in itertools.takewhile(lambda link: link.seq <= head.seq, store.links()):
        out.write(event_line(link))
    last = checkpoints.sign(head)
    for checkpoint in checkpoints.all():
        out.write(json.dumps({"checkpoint": checkpoint.to_json()}).encode() + b"\n")
    return last


def event_line(link: Link) -> bytes:
    """One line; canonical bytes hold no line break."""
    return b'{"seq":%d,"hash":"%s","event":%s}\n' % (link.seq, link.hash.hex().encode(), link.data)


def read_export(lines: Iterable[bytes]) -> Iterator[Link | Checkpoint]:
    """What the lines hold; AuditBroken at the first that was not written by `export`."""
    seq = 0
    for line in lines:
        found = _EVENT.fullmatch(line.rstrip(b"\n"))
        if found:
            seq = int(found[1])
            yield Link(seq=seq, data=found[3], hash=bytes.fromhex(found[2].decode()))
        else:
            yield _checkpoint(line, seq + 1)


def _checkpoint(line: bytes, seq: int) -> Checkpoint:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise AuditBroken(seq, "a line of the file is not readable") from error
    if not isinstance(value, dict) or set(value) != {"checkpoint"}:
        raise AuditBroken(seq, "a line of the file is neither an event nor a checkpoint")
    return Checkpoint.from_json(value["checkpoint"])
