"""Turns for work that keeps every processor busy: a few at once, the others after them.

Called by `Shadow.ensure` for loading rows. Sixteen at once would all end last; in turns the first ends after a
sixteenth of that time, and who only starts a dry run need not wait for all of them.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """At most `at_once` have a turn; who has waited for `patience_s` seconds goes without: a long piece of work before
    them must not hold them up. Shared between threads.
    """

    def __init__(self, at_once: int, patience_s: float) -> None:
        self._free = threading.BoundedSemaphore(at_once)
        self._patience_s = patience_s

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Waits for a turn; False when it goes without one."""
        had = self._free.acquire(timeout=self._patience_s)
        try:
            yield had
        finally:
            if had:
                self._free.release()
