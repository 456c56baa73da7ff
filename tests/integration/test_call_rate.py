"""Calls per minute are one number for all replicas: exact when many call at once, and forgotten after a minute."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from mcp_server.control.store import ControlStore
from shadow.errors import SandboxUnavailable
from tests.control import Urls, execute


@pytest.fixture
def replicas(urls: Urls) -> Iterator[tuple[ControlStore, ControlStore]]:
    with ControlStore.open(urls.control) as one, ControlStore.open(urls.control) as other:
        yield one, other


def test_two_replicas_count_together_and_each_person_alone(replicas: tuple[ControlStore, ControlStore]) -> None:
    one, other = replicas
    assert [store.take_call("rita", 3) for store in (one, other, one, other, one)] == [True] * 3 + [False] * 2
    assert other.take_call("ines", 3)
    assert one.take_call("rita", 4)


def test_no_call_too_many_is_let_through_when_all_call_at_once(replicas: tuple[ControlStore, ControlStore]) -> None:
    with ThreadPoolExecutor(16) as threads:
        taken = list(threads.map(lambda number: replicas[number % 2].take_call("rita", 50), range(200)))
    assert taken.count(True) == 50


def test_a_minute_later_they_are_forgotten_and_nothing_piles_up(
    urls: Urls, replicas: tuple[ControlStore, ControlStore]
) -> None:
    def pass_by(seconds: int) -> None:
        with psycopg.connect(urls.owner) as conn:
            kept = conn.execute("DELETE FROM control.calls RETURNING person, second, calls").fetchall()
            for person, second, calls in kept:
                past = second - seconds
                conn.execute("INSERT INTO control.calls VALUES (%s, %s, %s, %s)", (person, past % 60, past, calls))

    for _ in range(3):
        assert replicas[0].take_call("rita", 1)
        assert not replicas[1].take_call("rita", 1)
        pass_by(30)
        assert not replicas[1].take_call("rita", 1)
        pass_by(30)
    for _ in range(100):
        replicas[0].take_call("rita", 1000)
        pass_by(1)
    assert execute(urls.owner, "SELECT count(*) <= 60, max(calls) <= 2 FROM control.calls") == [(True, True)]


def test_a_count_that_cannot_be_taken_is_a_refusal(urls: Urls, replicas: tuple[ControlStore, ControlStore]) -> None:
    execute(urls.owner, "REVOKE EXECUTE ON FUNCTION control.take_call FROM shadowdesk_control")
    with pytest.raises(SandboxUnavailable, match="Nothing was changed"):
        replicas[0].take_call("rita", 10)
