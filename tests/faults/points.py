"""Where and how an injection strikes, and the seeded plan of a run."""

import random
from dataclasses import dataclass
from typing import Literal

from tests.faults.wire import When

#: kill -9 of the replica; pg_terminate_backend; immediate stop of a server; a cut connection. 'stall': nothing moves
#: for a while, and a colleague confirms and rejects meanwhile. 'vanish': the same after a kill -9 that the server does
#: not notice until then.
HOWS = ("kill9", "terminate", "production", "sandbox", "control", "cut", "stall", "vanish")


@dataclass(frozen=True, kw_only=True)
class Point:
    """A boundary as the wire to `server` shows it; `lost`: the answer never arrives, whatever else happens."""

    server: Literal["production", "control"]
    needle: bytes
    when: When
    primed_by: bytes | None = None
    nth: int = 1
    lost: bool = False


_RECEIPT = b"INSERT INTO shadowdesk.receipts"


def _production(needle: bytes, when: When, *, nth: int = 1, lost: bool = False) -> Point:
    primed_by = _RECEIPT if needle == b"COMMIT" else None
    return Point(server="production", needle=needle, when=when, primed_by=primed_by, nth=nth, lost=lost)


def _control(needle: bytes, when: When, primed_by: bytes | None = None, *, lost: bool = False) -> Point:
    return Point(server="control", needle=needle, when=when, primed_by=primed_by, lost=lost)


_USED = b"SET used_at"
_RECORDED = b"receipt=$"
#: In the order in which a replay comes to them.
POINTS: dict[str, Point] = {
    "before anything": _production(b"shadowdesk replay", "before"),
    "before the yes is used": _control(_USED, "before"),
    "the yes is used, answer lost": _control(b"COMMIT", "after", _USED, lost=True),
    "the yes is used, replay not begun": _control(b"FROM control.proposal_rows", "before"),
    "before the replay begins": _production(b"BEGIN ISOLATION LEVEL", "before"),
    "before the receipt": _production(_RECEIPT, "before"),
    "after the receipt": _production(_RECEIPT, "after"),
    "before the fence": _production(b"CREATE SCHEMA", "before"),
    "rows locked": _production(b"FOR UPDATE OF t", "after"),
    "after the first statement": _production(b"times = times + 1", "after"),
    "between statements": _production(b"DELETE FROM", "before"),
    "after the last statement": _production(b"DELETE FROM", "after"),
    "before the comparison": _production(b"SET CONSTRAINTS ALL IMMEDIATE", "after"),
    "before COMMIT": _production(b"COMMIT", "before"),
    "in COMMIT": _production(b"COMMIT", "sent"),
    "COMMIT sent, answer lost": _production(b"COMMIT", "after", lost=True),
    "after COMMIT, control does not know": _control(_RECORDED, "before"),
    "control knows, answer lost": _control(b"COMMIT", "after", _RECORDED, lost=True),
    "before the audit outcome": _control(b'"kind":"outcome"', "before"),
}
#: The same yes several times at the same moment.
DOUBLES = ("two threads", "eight threads", "two processes", "two people", "a resent form")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One injection; equal seeds plan the same."""

    seed: int
    point: str
    how: str


def plan(count: int, seed: int) -> list[Planned]:
    """Every point with every how, and the doubles, in a shuffled order, again and again until there are `count`."""
    every = [(point, how) for point in POINTS for how in HOWS] + [("double confirm", how) for how in DOUBLES * 2]
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    planned: list[tuple[str, str]] = []
    while len(planned) < count:
        planned += chance.sample(every, len(every))
    return [Planned(seed=seed + n, point=point, how=how) for n, (point, how) in enumerate(planned[:count])]
