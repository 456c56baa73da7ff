"""Plays a whole file of entries; used by `python -m tests.tampering` and by the tests."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from shadow.embedded import EmbeddedServer
from tests.tampering.checks import broken
from tests.tampering.corpus import Entry, written_out
from tests.tampering.judging import judged
from tests.tampering.playing import Played, Player
from tests.tampering.production import Bystander, Watched
from tests.tampering.stack import Logged, as_owner, databases, stack_on
from tests.tampering.surface import PLACEHOLDERS


@dataclass(frozen=True, kw_only=True)
class Breach:
    """One check that did not hold."""

    id: str
    check: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run found; `limits` are known limits that ended in their error, `unsent` what no client can send."""

    entries: int
    passed: int
    breaches: tuple[Breach, ...]
    benign_refused: tuple[str, ...]
    limits: tuple[str, ...]
    unsent: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, object]:
        """Plain values for a JSON file."""
        return asdict(self)


@contextmanager
def player_on(production: EmbeddedServer, sandbox: EmbeddedServer, folder: Path) -> Iterator[Player]:
    """A player on a fresh copy of the application."""
    logged = Logged()
    root = logging.getLogger()
    with databases(production, sandbox) as (owner_url, control_url), as_owner(sandbox, "postgres") as conn:
        watched = Watched(owner_url)
        root.addHandler(logged)
        try:
            with (
                Bystander(owner_url, patience_s=1.5).working() as bystander,
                stack_on(owner_url, control_url, sandbox, folder) as stack,
            ):
                yield Player(stack=stack, watched=watched, bystander=bystander, sandbox=conn, logged=logged)
        finally:
            root.removeHandler(logged)
            watched.conn.close()


def run(
    entries: Sequence[Entry],
    production: EmbeddedServer,
    sandbox: EmbeddedServer,
    folder: Path,
    tell: Callable[[Played, list[str]], None] = lambda played, found: None,
) -> Report:
    """Plays every entry, one after the other; `tell` hears of each."""
    started = time.monotonic()
    dead = _gate_dies_of(entries)
    breaches: list[Breach] = []
    passed, refused, limits, unsent = 0, [], [], []
    with player_on(production, sandbox, folder) as player:
        for entry in entries:
            played = replace(player.play(entry), gate_lives=entry.id not in dead)
            found = broken(played)
            tell(played, found)
            breaches += [Breach(id=entry.id, check=check) for check in found]
            passed += not found
            failed = any(not a.ok for side in played.sides for a in (*side.answers, *side.replayed))
            if entry.known_limit and failed:
                limits.append(entry.id)
            elif entry.expected == "allowed" and failed:
                refused.append(entry.id)
            if not played.sent:
                unsent.append(entry.id)
    return Report(
        entries=len(entries), passed=passed, breaches=tuple(breaches), benign_refused=tuple(refused),
        limits=tuple(limits), unsent=tuple(unsent), seconds=round(time.monotonic() - started, 1),
    )  # fmt: skip


def _gate_dies_of(entries: Sequence[Entry]) -> set[str]:
    """Entries that end the process in which the gate judges them; each dead process is replaced."""
    asked = [entry for entry in entries if "gate_process_survives" in entry.checks]
    found = set()
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn")) if asked else None
    for entry in asked:
        try:
            assert pool is not None
            texts = [
                written_out(text, {n.strip("{}"): v for n, v in PLACEHOLDERS.items()})
                for s in entry.sides
                for text in s
            ]
            pool.submit(judged, texts).result(timeout=60)
        except (BrokenProcessPool, TimeoutError):
            found.add(entry.id)
            pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    if pool is not None:
        pool.shutdown()
    return found
