"""An export verifies alone; whatever was done to the file afterwards is found, and where."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from audit.canonical import canonical
from audit.chain import GENESIS, Head, Link, link_hash
from audit.checkpoint import Checkpoints
from audit.errors import AuditBroken, AuditUnavailable
from audit.export import event_line
from audit.verify import verify_export
from tests.control import event


def links(texts: list[bytes]) -> list[Link]:
    """A chain over these bytes."""
    found: list[Link] = []
    head = GENESIS
    for seq, data in enumerate(texts, 1):
        head = link_hash(head, seq, data)
        found.append(Link(seq=seq, data=data, hash=head))
    return found


def contents(count: int) -> list[bytes]:
    """Intent and outcome of `count` calls."""
    return [
        event(f"call {n}", kind, reason=f"reason {n}").to_bytes()
        for n in range(count)
        for kind in ("intent", "outcome")
    ]


def signed(chain: list[Link], checkpoints: Checkpoints) -> list[bytes]:
    """The lines of an export of this chain."""
    head = Head(seq=chain[-1].seq, hash=chain[-1].hash) if chain else Head(seq=0, hash=GENESIS)
    checkpoint = checkpoints.sign(head)
    return [*map(event_line, chain), b'{"checkpoint": %s}\n' % canonical(checkpoint.to_json())]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "audit")


@pytest.fixture
def lines(checkpoints: Checkpoints) -> list[bytes]:
    """An export of four events."""
    return signed(links(contents(2)), checkpoints)


def test_an_untouched_export_verifies_and_says_who_signed_it(lines: list[bytes], checkpoints: Checkpoints) -> None:
    report = verify_export(lines, trusted=frozenset({checkpoints.public_key}))
    assert (report.events, report.covered_to, report.checkpoints, report.unfinished) == (4, 4, 1, 0)
    assert report.keys == (checkpoints.public_key.hex(),)


def test_an_empty_trail_verifies(checkpoints: Checkpoints) -> None:
    assert verify_export(signed([], checkpoints)).events == 0


def test_an_intent_without_an_outcome_is_counted(checkpoints: Checkpoints) -> None:
    assert verify_export(signed(links(contents(2)[:3]), checkpoints)).unfinished == 1


def changed(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b"reason 0", b"reason 9") if n == 1 else line for n, line in enumerate(lines)]


def swapped(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def inserted(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[1], *lines[2:]]


def rewritten(lines: list[bytes]) -> list[bytes]:
    """Changed and linked anew from there on: every hash is right."""
    texts = contents(2)
    texts[1] = texts[1].replace(b"reason 0", b"reason 9")
    return [*map(event_line, links(texts)), lines[-1]]


def added(lines: list[bytes]) -> list[bytes]:
    """A fifth event with a right hash, which no checkpoint signs."""
    more = links([*contents(2), event("late").to_bytes()])
    return [*map(event_line, more), lines[-1]]


TAMPERED: list[tuple[str, Callable[[list[bytes]], list[bytes]], int]] = [
    ("a changed line", changed, 2),
    ("a removed line", lambda lines: [lines[0], *lines[2:]], 2),
    ("a removed first line", lambda lines: lines[1:], 1),
    ("swapped lines", swapped, 2),
    ("a repeated line", inserted, 3),
    ("a line of garbage", lambda lines: [*lines[:2], b"{}\n", *lines[2:]], 3),
    ("a cut tail", lambda lines: [*lines[:3], lines[-1]], 4),
    ("a tail cut with its checkpoint", lambda lines: lines[:3], 4),
    ("a chain rewritten from the middle", rewritten, 4),
    ("an event added at the end", added, 5),
    ("an event after the checkpoints", lambda lines: [*lines[:3], lines[-1], lines[3]], 4),
]


@pytest.mark.parametrize(("tamper", "seq"), [case[1:] for case in TAMPERED], ids=[case[0] for case in TAMPERED])
def test_tampering_is_found_and_located(
    lines: list[bytes], tamper: Callable[[list[bytes]], list[bytes]], seq: int
) -> None:
    with pytest.raises(AuditBroken) as broken:
        verify_export(tamper(lines))
    assert broken.value.seq == seq


def test_a_chain_rewritten_and_signed_with_another_key_is_found_by_who_knows_the_key(
    lines: list[bytes], checkpoints: Checkpoints, tmp_path: Path
) -> None:
    forged = signed(links(contents(1)), Checkpoints(tmp_path / "forger"))
    assert verify_export(forged).keys != (checkpoints.public_key.hex(),)
    with pytest.raises(AuditBroken, match="not trusted"):
        verify_export(forged, trusted=frozenset({checkpoints.public_key}))


def test_a_cut_export_with_an_older_checkpoint_is_found_by_a_checkpoint_kept_elsewhere(
    checkpoints: Checkpoints,
) -> None:
    older = signed(links(contents(1)), checkpoints)
    verify_export(older)
    chain = links(contents(2))
    kept_elsewhere = checkpoints.sign(Head(seq=4, hash=chain[-1].hash))
    with pytest.raises(AuditBroken) as broken:
        verify_export(older, [kept_elsewhere])
    assert broken.value.seq == 3


def test_an_outcome_without_its_intent_is_found(checkpoints: Checkpoints) -> None:
    with pytest.raises(AuditBroken, match="without an intent"):
        verify_export(signed(links(contents(1)[1:]), checkpoints))


@pytest.mark.parametrize("data", [b"{}", b'{"call_id":{}}', canonical({"at": 5}), b'{"a":"\\ud800"}'])
def test_content_that_is_not_an_event_is_found(checkpoints: Checkpoints, data: bytes) -> None:
    with pytest.raises(AuditBroken) as broken:
        verify_export(signed(links([data]), checkpoints))
    assert broken.value.seq == 1


def test_the_key_is_private_and_made_once(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path / "audit")
    assert (tmp_path / "audit" / "checkpoint.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o700
    assert Checkpoints(tmp_path / "audit").public_key == first.public_key
    assert sorted(path.name for path in (tmp_path / "audit").iterdir()) == ["checkpoint.key"]


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    Checkpoints(tmp_path)
    (tmp_path / "checkpoint.key").chmod(0o644)
    with pytest.raises(AuditUnavailable):
        Checkpoints(tmp_path)


def test_checkpoints_are_kept_in_order_and_made_when_due(checkpoints: Checkpoints) -> None:
    made = [checkpoints.sign_if_due(Head(seq=seq, hash=bytes(32)), every=10) for seq in (5, 10, 15, 19, 20)]
    assert [each.head.seq for each in made if each] == [10, 20]
    assert checkpoints.all() == [each for each in made if each]


def test_a_changed_checkpoint_is_not_valid(checkpoints: Checkpoints) -> None:
    checkpoint = checkpoints.sign(Head(seq=3, hash=bytes(32)))
    assert checkpoint.is_valid()
    assert not replace(checkpoint, head=Head(seq=2, hash=bytes(32))).is_valid()
    assert not replace(checkpoint, head=Head(seq=3, hash=bytes([1]) * 32)).is_valid()
    assert not replace(checkpoint, public_key=b"short").is_valid()


@pytest.mark.parametrize("line", [b"x\n", b"[]\n", b'{"seq":-1}\n', b'{"seq":"1"}\n'])
def test_a_checkpoint_file_that_was_changed_is_found(checkpoints: Checkpoints, tmp_path: Path, line: bytes) -> None:
    checkpoints.sign(Head(seq=1, hash=bytes(32)))
    with (tmp_path / "audit" / "checkpoints.jsonl").open("ab") as file:
        file.write(line)
    with pytest.raises(AuditBroken):
        checkpoints.all()
