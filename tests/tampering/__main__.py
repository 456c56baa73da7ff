"""`python -m tests.tampering FILE [--json OUT] [--production 15|18]`: any corpus file against the whole stack."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from shadow.embedded import throw_away_folder
from tests.tampering.entry import UnknownForm, read_entries
from tests.tampering.run import Thrower
from tests.tampering.stack import open_stack, production_server

_DEBIAN = Path("/usr/lib/postgresql/15/bin")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when nothing broke and nothing benign was refused, 1 when something did, 2 for a bad file."""
    parser = argparse.ArgumentParser(prog="python -m tests.tampering", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", type=Path, help="where the report goes")
    parser.add_argument("--production", choices=("15", "18"), default="18")
    parser.add_argument("--only", help="ids that contain this")
    given = parser.parse_args(arguments)
    try:
        entries = [entry for entry in read_entries(given.file) if not given.only or given.only in entry.id]
    except (OSError, UnknownForm) as error:
        print(f"cannot read {given.file}: {error}", file=sys.stderr)
        return 2
    started = time.monotonic()
    binaries = _DEBIAN if given.production == "15" else None
    with throw_away_folder("shadowdesk-tampering-") as folder, production_server(folder, binaries) as server:
        with open_stack(folder, server) as stack:
            outcome = Thrower(stack).run(entries)
    report = {**outcome.to_json(), "production": given.production, "seconds": round(time.monotonic() - started, 1)}
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))
    return 1 if outcome.breaches or outcome.benign_refused else 0


if __name__ == "__main__":
    sys.exit(main())
