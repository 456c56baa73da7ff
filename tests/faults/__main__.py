"""`make faults`: injections by seed, a report as JSON, exit code 0 only if nothing was lost, doubled or left unknown."""

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults.injection import Bench, Injection, Result
from tests.faults.judge import chain_of
from tests.faults.locks import measure
from tests.faults.points import plan
from tests.faults.servers import Servers


def totals(results: list[Result]) -> dict[str, Any]:
    """The sums of a run."""
    return {
        "injections": len(results),
        **{name: sum(getattr(r, name) for r in results) for name in ("lost", "doubled", "unknown", "misled")},
        "wrong": sum(bool(r.wrong) for r in results),
        "intents_cut_off": sum(r.audit["open"] for r in results),
        "reconciled": dict(Counter(r.reconciled for r in results)),
        "by_point": dict(Counter(r.point for r in results)),
        "by_how": dict(Counter(r.how for r in results)),
        "median_s": sorted(r.seconds for r in results)[len(results) // 2],
    }


def main() -> int:
    """Runs the plan and writes the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="a part of 'point / how'")
    given = parser.parse_args()
    results: list[Result] = []
    began = time.monotonic()
    with Servers() as servers:
        with Bench(servers) as bench:
            for planned in plan(given.count, given.seed):
                if given.only not in f"{planned.point} / {planned.how}":
                    continue
                result = Injection(bench, planned).run()
                results.append(result)
                print(
                    f"{result.seconds:6.2f} s  {'WRONG' if result.wrong else 'ok   '}  {result.seed}: {result.point} /"
                    f" {result.how}: {result.outcome}; reconciled: {result.reconciled}; again: {result.confirmed_again}",
                    *(f"\n          {words}" for words in result.wrong),
                    flush=True,
                )
            locks = measure(bench)
        chain = chain_of(servers)
    report = {
        "totals": totals(results),
        "locks": locks,
        "audit": chain,
        "injections": [asdict(result) for result in results],
    }
    report["totals"]["seconds"] = round(time.monotonic() - began, 1)
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps({"totals": report["totals"], "locks": locks, "audit": chain}, indent=2))
    return 1 if report["totals"]["wrong"] or not chain["holds"] or chain["intents_without_outcome"] else 0


if __name__ == "__main__":
    sys.exit(main())
