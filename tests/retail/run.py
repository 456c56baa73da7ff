"""The fidelity run: sessions through one driver, the shop restored in between; called by __main__."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psycopg

from tests.retail.changes import changes, dump, put_back
from tests.retail.data import Session, Shop
from tests.retail.loader import TABLES
from tests.retail.session import Driver, Outcome, judge, play


@dataclass(frozen=True, kw_only=True)
class Report:
    """All sessions of one run."""

    outcomes: tuple[Outcome, ...]

    def to_json(self) -> dict[str, object]:
        """The figures: `equal`, `refusals_equal`, `diff_equal` count sessions (null if not shown)."""
        times = sorted(one.ms for one in self.outcomes)
        shown = [one.diff_equal for one in self.outcomes if one.diff_equal is not None]
        return {
            "sessions": len(self.outcomes),
            "writes": sum(one.writes for one in self.outcomes),
            "equal": sum(one.equal for one in self.outcomes),
            "refusals_equal": sum(one.refusals_equal for one in self.outcomes),
            "diff_equal": sum(shown) if shown else None,
            "differences": [
                {"session": one.session, "where": where} for one in self.outcomes for where in one.differences
            ],
            "p50_ms": round(statistics.median(times), 1) if times else None,
            "p95_ms": round(times[-(-len(times) * 95 // 100) - 1], 1) if times else None,
        }

    @property
    def good(self) -> bool:
        """Every session equal in every respect that was looked at, and at least one was played."""
        return bool(self.outcomes) and not any(one.differences for one in self.outcomes)


def run(
    sessions: Iterable[Session],
    shop: Shop,
    connection: psycopg.Connection,
    driver: Driver,
    progress: Callable[[Outcome], None] = lambda _: None,
) -> Report:
    """Plays the sessions on the loaded shop, one after the other, each from the shop's first state.

    Restoring is outside the timing, and checked: raises ValueError where the shop did not come back.
    """
    first = dump(connection)
    outcomes = []
    for session in sessions:
        played = play(session, driver)
        after = dump(connection)
        outcome = judge(session, played, shop, connection, frozenset(changes(first, after)))
        put_back(connection, first, after, list(TABLES))
        if any(changes(first, dump(connection))):
            raise ValueError(f"after session {session.id} the shop could not be restored")
        outcomes.append(outcome)
        progress(outcome)
    return Report(outcomes=tuple(outcomes))
