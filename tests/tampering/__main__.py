"""`python -m tests.tampering FILE [--json OUT] [--production 15|18]`: plays a file of the corpus' form on the real
stack and says what it found; the exit code is 1 when a check does not hold or a harmless entry is refused.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from shadow.embedded import bin_dir, open_sandbox, throw_away_folder
from tests.postgres import DEBIAN_15
from tests.tampering.corpus import STATEMENTS, read_entries
from tests.tampering.playing import Played
from tests.tampering.run import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.tampering", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=STATEMENTS)
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--production", choices=("15", "18"), default="18", help="Postgres that plays production")
    given = parser.parse_args(arguments)
    entries = read_entries(given.file)
    with throw_away_folder("shadowdesk-tampering-") as folder:
        (folder / "stack").mkdir()
        with (
            open_sandbox(folder / "sandbox") as sandbox,
            open_sandbox(folder / "app", binaries=DEBIAN_15 if given.production == "15" else bin_dir()) as production,
        ):
            report = run(entries, production, sandbox, folder / "stack", _tell)
    if given.json:
        given.json.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    print(
        f"Postgres {given.production}: {report.entries} entries in {report.seconds} s, {report.passed} passed,"
        f" {len(report.breaches)} breaches, {len(report.benign_refused)} harmless refused"
        f" {list(report.benign_refused)}, known limits {list(report.limits)}, not sendable {list(report.unsent)}"
    )
    return 1 if report.breaches or report.benign_refused else 0


def _tell(played: Played, found: list[str]) -> None:
    if found or (played.entry.expected == "allowed" and not played.entry.known_limit):
        failed = [
            a.words[:300] for side in played.sides for a in (*side.answers, *side.told, *side.replayed) if not a.ok
        ]
        if found or failed:
            print(f"{played.entry.id}: {', '.join(found) or 'refused'}: {failed}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
