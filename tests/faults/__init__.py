"""Fault injection for "exactly once": `python -m tests.faults` kills, cuts and stalls at every boundary of a replay.

`wire.py` sees the boundaries on the wire, `points.py` lists them, `servers.py` and `replica.py` are what is killed,
`injection.py` does one injection, `judge.py` looks from outside, `locks.py` measures who waits for whom.
"""
