"""The gate's own time over every statement of the corpus, harmless and hostile, against 5 ms for the slowest hundredth."""

import time
from contextlib import suppress
from statistics import median

from shadow.errors import StatementRefused
from shadow.gate import gate
from tests.benchmarks.result import Result
from tests.tampering.surface import entries, surface

_GOAL_MS = 5.0


def gate_p99(repeats: int = 5) -> Result:
    """Each statement's median of a few judgements; the slowest hundredth of all statements, in milliseconds."""
    known = surface()
    figures = []
    for entry in entries():
        for text in entry.statements:
            seconds = []
            for _ in range(repeats):
                started = time.perf_counter()
                with suppress(StatementRefused):
                    gate(text, entry.params, known)
                seconds.append(time.perf_counter() - started)
            figures.append(median(seconds) * 1000)
    figures.sort()
    return Result.of("gate: p99 over the corpus / 5 ms", figures[int(len(figures) * 0.99)], _GOAL_MS, 1.0, "ms")
