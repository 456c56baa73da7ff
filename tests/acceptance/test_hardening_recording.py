"""Hostile recordings: QA runs a file from somewhere, and nothing in it may act with QA's rights."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_server.errors import ConfigurationInvalid
from mcp_server.recording_run import run_with_rows
from tests.acceptance.cli_business import Business

pytest_plugins = ["tests.acceptance.cli_fixtures"]

Document = dict[str, Any]
EVIL = (
    "CREATE FUNCTION public.evil(n {type}) RETURNS {returns} LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN"
    " PERFORM pg_catalog.lo_export(pg_catalog.lo_from_bytea(0, 'x'), '{marker}'); RETURN {value}; END $$;\n"
)


def evil(marker: Path, type_: str = "bigint", returns: str = "boolean", value: str = "true") -> str:
    """A function that writes a file where it runs as a superuser."""
    return EVIL.format(type=type_, returns=returns, value=value, marker=marker)


def psql_shell(document: Document, marker: Path) -> None:
    document["definitions"] += f"\n\\! touch {marker}\n"


def program(document: Document, marker: Path) -> None:
    document["definitions"] += f"\nCOPY (SELECT 1) TO PROGRAM 'touch {marker}';\n"


def block(document: Document, marker: Path) -> None:
    document["definitions"] += f"\nDO $$ BEGIN COPY (SELECT 1) TO PROGRAM 'touch {marker}'; END $$;\n"


def check(document: Document, marker: Path) -> None:
    document["definitions"] += evil(marker) + "ALTER TABLE public.accounts ADD CHECK (public.evil(id));\n"


def index(document: Document, marker: Path) -> None:
    document["definitions"] += evil(marker) + "CREATE INDEX ON public.accounts (public.evil(id));\n"


def always(document: Document, marker: Path) -> None:
    document["definitions"] += (
        f"CREATE FUNCTION public.evil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN COPY (SELECT 1) TO PROGRAM"
        f" 'touch {marker}'; RETURN NEW; END $$;\n"
        "CREATE TRIGGER evil BEFORE INSERT ON public.contracts FOR EACH ROW EXECUTE FUNCTION public.evil();\n"
        "ALTER TABLE public.contracts ENABLE ALWAYS TRIGGER evil;\n"
    )


def measure_statement(document: Document, marker: Path) -> None:
    document["measures"][0]["sum"] = f"1); COPY (SELECT 1) TO PROGRAM 'touch {marker}'; SELECT (1"


def measure_file(document: Document, marker: Path) -> None:
    document["measures"][0]["sum"] = "length(pg_read_file('/etc/passwd'))"


def measure_function(document: Document, marker: Path) -> None:
    document["definitions"] += evil(marker, "public.line_items", "numeric", "1")
    document["measures"][0]["sum"] = "line_items.evil"


def condition(document: Document, marker: Path) -> None:
    rule = dict.fromkeys(("fence_class", "column", "via", "rows", "surface", "when")) | {"actor_columns": []}
    found = document["fence"]["tables"].get("invoices") or rule
    document["fence"]["tables"]["invoices"] = found | {
        "when": f"true)); COPY (SELECT 1) TO PROGRAM 'touch {marker}'; SELECT ((true"
    }


ATTACKS: tuple[Callable[[Document, Path], None], ...] = (
    psql_shell, program, block, check, index, always, measure_statement, measure_file, measure_function, condition,
)  # fmt: skip


@pytest.fixture
def recorded(business: Business) -> Document:
    """An honest recording with its rows."""
    file = business.steps("UPDATE line_items SET qty = qty + 1 WHERE id = 1")
    dry_run = business.read("dry-run", "--tenant", "1", "--file", file, "--person", "engineer")["dry_run"]["id"]
    path = business.folder / "full.recording.json"
    business.done("recording", "export", dry_run, "-o", str(path), "--with-rows", "--person", "engineer")
    document: Document = json.loads(path.read_text())
    return document


def test_no_code_of_a_recording_runs_with_the_rights_of_who_runs_it(recorded: Document, tmp_path: Path) -> None:
    marker = tmp_path / "owned"
    for attack in ATTACKS:
        document = copy.deepcopy(recorded)
        attack(document, marker)
        with pytest.raises(ConfigurationInvalid) as told:
            run_with_rows(document)
        assert not marker.exists(), attack.__name__
        assert "No statement of the recording ran" in str(told.value), attack.__name__
    assert run_with_rows(recorded) == []


def test_on_a_configured_database_a_recordings_own_measures_are_not_taken(
    business: Business, recorded: Document, tmp_path: Path
) -> None:
    marker = tmp_path / "owned"
    measure_statement(recorded, marker)
    path = tmp_path / "hostile.recording.json"
    path.write_text(json.dumps(recorded))
    ended = business.run("recording", "run", str(path), "--person", "engineer")
    assert ended.returncode == 1, ended.stderr
    assert "not a measure of this configuration" in ended.stderr
    assert not marker.exists()
