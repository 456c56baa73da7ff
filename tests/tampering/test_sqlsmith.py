"""Random statements of Debian's sqlsmith as a shadow's role change nothing outside it; `make sqlsmith` sends 20,000."""

from pathlib import Path

import psycopg
import pytest

from shadow.embedded import EmbeddedServer
from tests.tampering import sqlsmith


def test_random_statements_change_nothing_outside_the_shadow(
    production_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path(sqlsmith.SQLSMITH).is_file():
        pytest.skip(f"NO SQLSMITH: looked for {sqlsmith.SQLSMITH} (Debian's package sqlsmith)")
    with sqlsmith.open_sandbox(tmp_path / "sandbox") as sandbox:  # its own: every role and database is compared
        report = sqlsmith.smith(300, 1, production_server, sandbox)
        assert (report.changed, report.server_up, report.statements) == ((), True, 300)
        assert report.ran > 50
        # the comparison sees what it must
        plain = sqlsmith._sent

        def meddling(url: str, count: int, seed: int) -> tuple[int, int]:
            with psycopg.connect(sandbox.owner_url, autocommit=True) as conn:
                conn.execute("CREATE ROLE somebody")
            return plain(url, count, seed)

        monkeypatch.setattr(sqlsmith, "_sent", meddling)
        assert {"roles", "the server"} <= set(sqlsmith.smith(2, 1, production_server, sandbox).changed)
