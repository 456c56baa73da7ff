"""Exactly once under faults: a few injections of each kind; `make faults` does them all."""

from collections.abc import Iterator

import pytest

from shadow.embedded import bin_dir
from shadow.errors import SandboxUnavailable
from tests.faults.injection import Bench, Injection
from tests.faults.judge import chain_of
from tests.faults.points import Planned
from tests.faults.servers import Servers

STRUCK = [
    ("before anything", "stall"),
    ("the yes is used, answer lost", "cut"),
    ("the yes is used, replay not begun", "stall"),
    ("after the receipt", "terminate"),
    ("rows locked", "production"),
    ("between statements", "kill9"),
    ("before COMMIT", "sandbox"),
    ("before COMMIT", "vanish"),
    ("in COMMIT", "cut"),
    ("COMMIT sent, answer lost", "kill9"),
    ("after COMMIT, control does not know", "control"),
    ("double confirm", "eight threads"),
    ("double confirm", "two people"),
]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    try:
        bin_dir()
    except SandboxUnavailable as error:
        pytest.skip(f"NO EMBEDDED POSTGRES: {error}")
    with Servers() as servers:
        with Bench(servers) as bench:
            yield bench
        chain = chain_of(servers)
        assert (chain["holds"], chain["intents_without_outcome"]) == (True, 0)


@pytest.mark.parametrize(("seed", "point", "how"), [(7000 + n, *struck) for n, struck in enumerate(STRUCK)])
def test_a_confirmed_proposal_is_applied_once_and_never_lost(bench: Bench, seed: int, point: str, how: str) -> None:
    result = Injection(bench, Planned(seed=seed, point=point, how=how)).run()
    assert not result.wrong, result
