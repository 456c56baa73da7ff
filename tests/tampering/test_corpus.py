"""The whole corpus on the real stack: no check is broken, nothing harmless is refused."""

from pathlib import Path

from shadow.embedded import EmbeddedServer, open_sandbox, throw_away_folder
from tests.tampering.corpus import STATEMENTS, read_entries
from tests.tampering.playing import Played
from tests.tampering.run import run


def test_no_check_is_broken_and_nothing_harmless_is_refused(production_server: EmbeddedServer, tmp_path: Path) -> None:
    """On servers of its own: the roles of a whole server are compared, and other tests make some."""
    said: dict[str, str] = {}

    def tell(played: Played, found: list[str]) -> None:
        failed = [a.words for side in played.sides for a in (*side.answers, *side.replayed) if not a.ok]
        said[played.entry.id] = f"{found} {failed}"

    entries = read_entries(STATEMENTS)
    with (
        throw_away_folder("shadowdesk-tampering-") as folder,
        open_sandbox(folder / "production", binaries=production_server.bin_dir) as production,
        open_sandbox(folder / "sandbox") as sandbox,
    ):
        report = run(entries, production, sandbox, tmp_path, tell)
    print(f"{report.passed} of {report.entries} entries passed in {report.seconds} s")
    assert [(breach.id, breach.check, said[breach.id]) for breach in report.breaches] == []
    assert [(name, said[name]) for name in report.benign_refused] == []
    assert report.entries == 439 and set(report.unsent) <= {"parameter-03", "bytes-02"}
