"""`python -m tests.tampering.sharp [--only gate|grants] [--every N] [--json OUT]`: are the tests sharp?

Each change of `mutants.py` is made in a copy of the source, where the tests that should notice run until one fails. A
change that no test notices is a survivor; the exit code is 1 where fewer than 95 % are noticed. Used by `make sharp`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tests.tampering.mutants import ROOT, Mutant, grants, reason, rules

WANTED = 0.95
_COPIED = ("shadow", "audit", "differ", "mcp_server", "tests", "pyproject.toml", "docker", "docs", "README.md")
_GATE = (
    "tests/unit/test_gate.py tests/unit/test_gate_environment.py tests/unit/test_gate_facts.py"
    " tests/unit/test_gate_looks.py tests/unit/test_gate_moving.py tests/integration/test_gate_corpus.py",
)
#: Beginning of a path → the tests that should notice a change there, the quickest first.
_TESTS: Mapping[str, tuple[str, ...]] = {
    "shadow/gate_masks": ("tests/integration/test_masked_reads.py",),
    "shadow/gate": _GATE,
    "shadow/extensions.py": ("tests/integration/test_schema_triggers.py",),
    "shadow/mirror.py": ("tests/integration/test_grants.py", "tests/integration/test_schema_triggers.py"),
    "mcp_server/recording_place.py": ("tests/acceptance/test_hardening_recording.py",),
    "": ("tests/integration/test_grants.py",),
}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was noticed, and what was not, by name; `no_difference` are changes that none could notice, with why."""

    mutants: int
    noticed: int
    survivors: tuple[str, ...]
    no_difference: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            "mutants": self.mutants, "noticed": self.noticed, "survivors": list(self.survivors),
            "no_difference": list(self.no_difference),
        }  # fmt: skip


@contextmanager
def _copies(count: int):  # type: ignore[no-untyped-def]
    """A queue of that many copies of the source."""
    with tempfile.TemporaryDirectory(prefix="shadowdesk-sharp-") as folder:
        free: SimpleQueue[Path] = SimpleQueue()
        for number in range(count):
            copy = Path(folder) / str(number)
            copy.mkdir()
            for name in _COPIED:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / name, copy / name)
            free.put(copy)
        yield free


def _noticed(mutant: Mutant, copy: Path) -> bool:
    """Whether one of the tests fails with the change in place; the copy is as before afterwards."""
    target = copy / mutant.path
    source = target.read_bytes()
    tests = next(found for start, found in _TESTS.items() if mutant.path.startswith(start))
    try:
        target.write_bytes(mutant.applied(source))
        return any(not _pass(copy, stage.split()) for stage in tests)
    finally:
        target.write_bytes(source)


def _pass(copy: Path, tests: Sequence[str]) -> bool:
    asked = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            asked, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True, check=False,
            timeout=600,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False  # a rule against endless work went
    if done.returncode > 2:
        raise RuntimeError(f"the tests could not be run: {done.stdout[-500:]}{done.stderr[-500:]}")
    return done.returncode == 0


def sharp(mutants: Sequence[Mutant], workers: int = 2) -> Report:
    """Makes each change in turn and reports who noticed. RuntimeError where the tests fail without any change."""
    asked = [mutant for mutant in mutants if not reason(mutant)]
    survivors = []
    with _copies(workers) as free:
        first = free.get()
        if any(mutant.kind == "gate" for mutant in asked) and not _pass(first, _GATE[0].split()):
            raise RuntimeError("the tests fail without any change")
        free.put(first)

        def judged(mutant: Mutant) -> bool:
            copy = free.get()
            try:
                return _noticed(mutant, copy)
            finally:
                free.put(copy)

        with ThreadPoolExecutor(workers) as pool:
            for mutant, seen in zip(asked, pool.map(judged, asked), strict=True):
                if not seen:
                    survivors.append(mutant.name)
                    print(f"nobody noticed: {mutant.name}", file=sys.stderr, flush=True)
    return Report(
        mutants=len(asked), noticed=len(asked) - len(survivors), survivors=tuple(survivors),
        no_difference=tuple(f"{mutant.name}: {reason(mutant)}" for mutant in mutants if reason(mutant)),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.tampering.sharp", description=__doc__)
    parser.add_argument("--only", choices=("gate", "grants"))
    parser.add_argument("--every", type=int, default=1, help="only each Nth change")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the report here")
    given = parser.parse_args(arguments)
    mutants = [m for m in (*rules(), *grants()) if given.only in (None, m.kind)][:: given.every]
    report = sharp(mutants, given.workers)
    text = json.dumps(report.to_json(), indent=2)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0 if report.noticed >= WANTED * report.mutants else 1


if __name__ == "__main__":
    sys.exit(main())
