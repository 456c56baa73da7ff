"""Turns: a few at once, and nobody waits for ever behind long work."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shadow.turns import Turns


def test_no_more_than_a_few_have_a_turn_at_once_and_everybody_gets_one() -> None:
    turns, lock = Turns(2, patience_s=60), threading.Lock()
    working = most = 0

    def work(_number: int) -> bool:
        nonlocal working, most
        with turns.turn() as had:
            with lock:
                working += 1
                most = max(most, working)
            time.sleep(0.005)
            with lock:
                working -= 1
            return had

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(24)))
    assert most == 2


def test_one_goes_without_a_turn_when_those_before_take_long() -> None:
    turns = Turns(1, patience_s=0.01)
    with turns.turn() as first, turns.turn() as second:
        assert first and not second
    with turns.turn() as again:  # the one without gave none back
        assert again
        with turns.turn() as other:
            assert not other


def test_a_turn_is_given_back_when_its_work_fails() -> None:
    turns = Turns(1, patience_s=0)

    def work() -> None:
        with turns.turn() as had:
            assert had
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            work()
