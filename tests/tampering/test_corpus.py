"""The whole corpus on the real stack: no check is broken, nothing harmless is refused."""

from pathlib import Path

import pytest

from shadow.embedded import EmbeddedServer, open_sandbox, throw_away_folder
from tests.tampering.corpus import STATEMENTS, read_entries
from tests.tampering.playing import Played
from tests.tampering.run import run


@pytest.mark.parametrize("half", [0, 1])
def test_no_check_is_broken_and_nothing_harmless_is_refused(
    production_server: EmbeddedServer, tmp_path: Path, half: int
) -> None:
    """On servers of its own: the roles of a whole server are compared, and other tests make some.

    Every second entry each, so that two workers share the time.
    """
    said: dict[str, str] = {}

    def tell(played: Played, found: list[str]) -> None:
        failed = [a.words for side in played.sides for a in (*side.answers, *side.replayed) if not a.ok]
        said[played.entry.id] = f"{found} {failed}"

    every = read_entries(STATEMENTS)
    entries = every[half::2]
    with (
        throw_away_folder("shadowdesk-tampering-") as folder,
        open_sandbox(folder / "production", binaries=production_server.bin_dir) as production,
        open_sandbox(folder / "sandbox") as sandbox,
    ):
        report = run(entries, production, sandbox, tmp_path, tell)
    print(f"{report.passed} of {report.entries} entries passed in {report.seconds} s")
    assert [(breach.id, breach.check, said[breach.id]) for breach in report.breaches] == []
    assert [(name, said[name]) for name in report.benign_refused] == []
    assert len(every) == 439 and report.entries == len(entries) and set(report.unsent) <= {"parameter-03", "bytes-02"}
