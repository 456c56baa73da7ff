"""`make bench`: measures every ratio once and writes bench.json."""

import json
from dataclasses import asdict
from pathlib import Path

from shadow.embedded import open_sandbox, throw_away_folder
from tests.benchmarks.branch import branches
from tests.benchmarks.clone import clone_500k, dry_run_10k
from tests.benchmarks.clone_memory import clone_memory
from tests.benchmarks.effect import capture_100k, diff_100k, diff_of_ten, replay_rows, revert_10k
from tests.benchmarks.gate import gate_p99
from tests.benchmarks.governed import governed_call
from tests.benchmarks.pool import pool
from tests.benchmarks.reps import reps
from tests.benchmarks.wide import wide


def main() -> None:
    """Runs the benchmarks one after the other."""
    results = [gate_p99()]
    with throw_away_folder("shadowdesk-bench-") as folder:
        with open_sandbox(folder / "postgres") as server:
            results.append(clone_500k(server))
            results.append(dry_run_10k(server))
            results += clone_memory(server)
            results.append(capture_100k(server))
            results.append(diff_of_ten(server))
            results.append(diff_100k(server))
            results += [result for rows in (10, 10_000) for result in replay_rows(server, rows)]
            results.append(revert_10k(server))
            results += wide(server)
            results += branches(server)
            results += pool(server)
            results += reps(server)
        results.append(governed_call(folder / "stage"))
    Path("bench.json").write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    for result in results:
        goal = f" (goal {result.goal})" if result.goal is not None else ""
        print(
            f"{result.ratio:8.2f}{goal}  {result.name}: {result.ours} {result.unit} / {result.reference} {result.unit}"
        )


main()
