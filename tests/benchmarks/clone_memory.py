"""A large tenant (`SHADOWDESK_BENCH_LARGE=5000000` rows) is cloned within 200 MB: growth of our process' resident memory."""

import os
import threading
import time
from pathlib import Path

from shadow.embedded import EmbeddedServer
from tests.benchmarks.clone import RULES, production
from tests.benchmarks.result import Result
from tests.lifecycle import Lifecycle, installed

_GOAL_MB = 200.0
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def clone_memory(server: EmbeddedServer) -> list[Result]:
    """Peak growth in MB while the clone runs, sampled every 20 ms; nothing where the variable names no rows."""
    rows = int(os.environ.get("SHADOWDESK_BENCH_LARGE", "0"))
    if not rows:
        return []
    url = production(server, "bench_memory", rows, rows + 1000)
    life = Lifecycle(settings=installed(url, RULES), sandbox_server=server, tenant="1")
    before, samples, done = _resident(), [0.0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            samples.append(_resident() - before)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        life.shadow.ensure({"events": 1})
    finally:
        done.set()
        watcher.join()
    life.close()
    name = f"memory growth while a {rows:,}-row tenant is cloned / goal"
    return [Result.of(name, max(samples), _GOAL_MB, 1.0, "MB")]


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_MB
