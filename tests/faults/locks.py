"""Who waits for whom: locks held while a person thinks, and how long other writers wait during replays."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.faults.injection import Bench
from tests.faults.judge import mark
from tests.faults.replica import Ask, Waiting
from tests.faults.servers import Servers
from tests.faults.wire import Trap

REPLAYS = 10
HELD_S = 1.0
#: Locks of ours on the app's tables and rows; the catalog's own are taken by every connection.
_HELD = """
SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class c ON c.oid = l.relation
WHERE a.usename IN ('shadowdesk_reader', 'shadowdesk_applier') AND c.oid >= 16384
"""


def measure(bench: Bench) -> dict[str, Any]:
    """Longest waits in milliseconds; the writer's statement changes a row of another tenant in the same table."""
    servers = bench.servers
    proposals = [_propose(bench, f"locks{n}") for n in range(REPLAYS + 1)]
    thinking = int(servers.rows("production", _HELD)[0][0])
    quiet: list[float] = []
    with _writer(servers, "tenant_id = 2 AND id = 1", quiet):
        time.sleep(2.0)
    replays, other = [], list[float]()
    with _writer(servers, "tenant_id = 2 AND id = 1", other):
        for proposal in proposals[:REPLAYS]:
            began = time.monotonic()
            _confirm(bench, proposal)
            replays.append(time.monotonic() - began)
    held = _held_before_commit(bench, proposals[REPLAYS])
    return {
        "app_locks_while_a_person_thinks": thinking,
        "proposals_waiting_then": len(proposals),
        "confirm_max_ms": _ms(replays),
        "other_tenant_write_max_ms": _ms(other),
        "other_tenant_writes": len(other),
        "without_replays_write_max_ms": _ms(quiet),
        **held,
    }


def _held_before_commit(bench: Bench, proposal: Waiting) -> dict[str, float]:
    """A replay that stands still before COMMIT for a second: who notices?"""
    servers, wire = bench.servers, bench.servers.wires["production"]

    def hold() -> bool:
        time.sleep(HELD_S)
        return True

    wire.trap = Trap(needle=b"COMMIT", when="before", act=hold, primed_by=b"INSERT INTO shadowdesk.receipts")
    touched = servers.rows("production", "SELECT min(id) FROM notes WHERE body = %s", f"locks{REPLAYS} a")[0][0]
    other: list[float] = []
    same: list[float] = []
    try:
        bench.victim.ask(Ask(verb="confirm", proposal=proposal))
        wire.trap.fired.wait(20)
        with _writer(servers, "tenant_id = 2 AND id = 2", other), _writer(servers, f"id = {touched}", same):
            wire.trap.done.wait(20)
            time.sleep(0.1)
        bench.victim.answers()
    finally:
        wire.trap = None
    return {
        "held_before_commit_ms": HELD_S * 1000,
        "other_tenant_write_max_ms_meanwhile": _ms(other),
        "confirmed_row_write_max_ms_meanwhile": _ms(same),
    }


def _propose(bench: Bench, name: str) -> Waiting:
    return bench.colleague.prepare(mark(bench.servers, name).statements, "measure locks")


def _confirm(bench: Bench, proposal: Waiting) -> None:
    bench.victim.ask(Ask(verb="confirm", proposal=proposal))
    [answer] = bench.victim.answers()
    if answer.kind != "applied":
        raise RuntimeError(f"a replay without faults ended as {answer}")


@contextmanager
def _writer(servers: Servers, where: str, took: list[float]) -> Iterator[None]:
    """Another writer of production, one short transaction after the other; the seconds of each go to `took`."""
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(servers.url("production"), autocommit=True) as conn:
            while not stop.is_set():
                began = time.monotonic()
                conn.execute(f"UPDATE notes SET body = body WHERE {where}".encode())
                took.append(time.monotonic() - began)
                time.sleep(0.001)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _ms(seconds: list[float]) -> float:
    return round(max(seconds, default=0.0) * 1000, 1)
