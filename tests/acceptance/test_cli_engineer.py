"""An engineer's commands on a real business: certificate, dry run of a file, inspection, doctor, audit, recordings."""

import json
import re
import shlex
import stat
import subprocess
from pathlib import Path

import psycopg
import pytest

from mcp_server.demo.business import business_sql
from tests.acceptance.cli_business import Business
from tests.postgres import MakeDatabase

pytest_plugins = ["tests.acceptance.cli_fixtures"]
TWO_STEPS = "UPDATE contracts SET status = 'ended' WHERE id = 1;\nDELETE FROM line_items WHERE contract_id = 1;"


def test_the_fence_certificate_names_every_table_and_its_class(business: Business) -> None:
    told = business.done("fence", "--person", "engineer")
    for table, fence_class in (("contracts", "direct"), ("line_items", "reached"), ("contract_history", "sink")):
        assert re.search(rf"{table}\W.*{fence_class}", told), told


def test_a_dry_run_of_a_file_shows_each_step_the_net_diff_measures_and_digest(business: Business) -> None:
    told = business.done("dry-run", "--tenant", "1", "--file", business.steps(TWO_STEPS), "--drop")
    assert "step 1: UPDATE contracts SET status = 'ended' WHERE id = 1" in told
    assert "step 2: DELETE FROM line_items WHERE contract_id = 1" in told
    assert "status: was `active`, now `ended`" in told
    assert re.search(r"billing_total .*−", told)
    assert re.search(r"digest of the rows: [0-9a-f]{64}\n", told)


def test_the_same_file_has_the_same_digest_and_leaves_production_alone(business: Business) -> None:
    def lines() -> list[tuple[object, ...]]:
        with psycopg.connect(business.owner_url) as connection:
            return connection.execute("SELECT l::text FROM line_items l ORDER BY id").fetchall()

    before = lines()
    file = business.steps("UPDATE line_items SET tax_code = 'NEW' WHERE contract_id = 1")
    arguments = ("dry-run", "--tenant", "1", "--file", file, "--drop")
    first, second = business.read(*arguments), business.read(*arguments)
    updated = {table["table"]: table["updated"] for table in first["net"]["tables"]}["line_items"]
    assert [step["row_count"] for step in first["steps"]] == [updated]
    assert updated > 0
    assert first["digest"] == second["digest"]
    assert lines() == before


def test_a_refused_statement_ends_with_1_and_keeps_the_steps_before_it(business: Business) -> None:
    file = business.steps("UPDATE contracts SET status = 'ended' WHERE id = 1; DROP TABLE contracts;")
    ended = business.run("dry-run", "--tenant", "1", "--file", file, "--drop", "--json")
    report = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert (len(report["steps"]), report["refusal"]["statement"]) == (1, 2)
    assert report["refusal"]["kind"] == "StatementRefused"


def test_an_unknown_tenant_ends_with_1(business: Business) -> None:
    ended = business.run("dry-run", "--tenant", "no-such", "--file", business.steps("SELECT 1"))
    assert ended.returncode == 1
    assert "There is no tenant with that key." in ended.stderr


def test_inspect_prints_a_psql_line_that_reads_the_shadow_and_cannot_write(business: Business) -> None:
    file = business.steps("UPDATE contracts SET status = 'ended' WHERE id = 1")
    dry_run = business.read("dry-run", "--tenant", "1", "--file", file, "--person", "engineer")["dry_run"]["id"]
    line = business.done("inspect", dry_run, "--person", "engineer").strip()
    psql = shlex.split(line)
    look = subprocess.run(
        [*psql, "-Atc", "SELECT status FROM contracts WHERE id = 1"], capture_output=True, text=True, check=False
    )
    assert look.stdout.strip() == "ended", look.stderr
    write = subprocess.run([*psql, "-c", "UPDATE contracts SET status = 'draft'"], capture_output=True, check=False)
    assert write.returncode != 0
    assert business.run("inspect", dry_run, "--person", "rep").returncode == 1


def test_the_fence_counts_the_rows_that_no_rule_reaches(business: Business) -> None:
    counts = {one["table"]: one for one in business.read("fence", "--count")}
    assert counts["tenants"]["owned"] == counts["tenants"]["rows"] > 0
    assert counts["line_items"]["nobody"] == counts["line_items"]["contradicted"] == 0
    assert "reached by no rule" in business.done("fence", "--count")


def test_doctor_finds_nothing_wrong_and_then_what_is(business: Business) -> None:
    checks = business.read("doctor")
    assert all(check["ok"] for check in checks), checks
    text = business.config.read_text(encoding="utf-8")
    business.config.write_text(re.sub(r'reader_url = "[^"]*"', f'reader_url = "{business.owner_url}"', text))
    ended = business.run("doctor", "--json")
    assert ended.returncode == 1
    wrong = [check for check in json.loads(ended.stdout) if not check["ok"]]
    assert wrong
    assert all(check["mend"] for check in wrong)


def test_doctor_finds_an_applier_where_only_a_model_is_served(business: Business) -> None:
    def wrong(part: str) -> list[str]:
        ended = business.run("doctor", "--only", part, "--json")
        found = [check["name"] for check in json.loads(ended.stdout) if not check["ok"]]
        assert ended.returncode == bool(found)
        return found

    assert (wrong("mcp"), wrong("pages")) == (["the MCP-only process has no applier URL at all"], [])
    text = business.config.read_text(encoding="utf-8")
    business.config.write_text(re.sub(r"(?m)^applier_url = .*$", "", text))
    assert (wrong("mcp"), wrong("pages")) == ([], ["the process with the pages has the applier URL"])


def test_install_prints_and_applies_what_the_configuration_needs(business: Business, database: MakeDatabase) -> None:
    fresh = database(business_sql())
    printed = business.done("install", "--owner-url", fresh)
    assert "CREATE" in printed
    with psycopg.connect(fresh) as connection:
        assert connection.execute("SELECT to_regclass('shadowdesk.receipts')").fetchone() == (None,)
    assert business.run("install", "--owner-url", "postgresql://127.0.0.1:1/none").returncode == 3


def test_the_audit_trail_is_shown_verified_exported_and_a_tampered_export_found(business: Business) -> None:
    business.done("proposals")
    assert business.run("proposals", "--person", "nobody").returncode == 1
    assert business.run("audit", "tail", "--person", "rep").returncode == 1
    events = business.read("audit", "tail", "--person", "engineer")
    assert ("rep", "list_dry_runs", "ok") in [(e["person"], e["tool"], e["outcome"]) for e in events]
    assert ("rep", "audit_tail", "denied") in [(e["person"], e["tool"], e["outcome"]) for e in events]
    assert business.read("audit", "verify")["events"] >= len(events)
    export = business.folder / "trail.jsonl"
    business.done("audit", "export", "-o", str(export), "--person", "engineer")
    assert stat.S_IMODE(export.stat().st_mode) == 0o600
    assert business.run("audit", "export", "-o", str(export), "--person", "engineer").returncode == 2
    report = business.read("audit", "verify", str(export))
    assert report["covered_to"] == report["events"]
    export.write_bytes(export.read_bytes().replace(b"list_dry_runs", b"LIST_dry_runs", 1))
    broken = business.run("audit", "verify", str(export))
    assert broken.returncode == 1
    assert "does not verify at event" in broken.stderr


def test_an_export_signed_by_another_key_is_refused_where_the_key_is_known(business: Business) -> None:
    export = business.folder / "trail.jsonl"
    business.done("audit", "export", "-o", str(export), "--person", "engineer")
    [key] = business.read("audit", "verify", str(export))["keys"]
    assert business.run("audit", "verify", str(export), "--trust", key).returncode == 0
    assert business.run("audit", "verify", str(export), "--trust", "00" * 32).returncode == 1
    assert business.run("audit", "verify", str(export), "--trust", "no key").returncode == 2


def test_a_recording_is_equal_where_nothing_changed_and_different_where_a_trigger_did(business: Business) -> None:
    file = business.steps("UPDATE line_items SET qty = qty + 1 WHERE id = 1")
    dry_run = business.read("dry-run", "--tenant", "1", "--file", file, "--person", "engineer")["dry_run"]["id"]
    recording = business.folder / "fix.recording.json"
    engineer = ("--person", "engineer")
    business.done("recording", "export", dry_run, "-o", str(recording), "--with-rows", *engineer)
    assert stat.S_IMODE(recording.stat().st_mode) == 0o600
    assert business.read("recording", "run", str(recording), *engineer) == {"equal": True, "differences": []}
    with psycopg.connect(business.owner_url) as connection:
        connection.execute("ALTER TABLE line_items DISABLE TRIGGER USER")
    ended = business.run("recording", "run", str(recording), *engineer)
    assert ended.returncode == 1
    assert re.search(r"contracts \(id 1\).*: expected", ended.stderr), ended.stderr


def test_a_recording_with_rows_needs_nothing_else(business: Business, tmp_path: Path) -> None:
    file = business.steps("UPDATE line_items SET qty = qty + 1 WHERE id = 1")
    dry_run = business.read("dry-run", "--tenant", "1", "--file", file, "--person", "engineer")["dry_run"]["id"]
    bare, full = tmp_path / "bare.recording.json", tmp_path / "full.recording.json"
    business.done("recording", "export", dry_run, "-o", str(bare), "--person", "engineer")
    business.done("recording", "export", dry_run, "-o", str(full), "--with-rows", "--person", "engineer")
    run = [*business.command, "recording", "run"]
    assert subprocess.run([*run, str(full)], capture_output=True, check=False).returncode == 0
    refused = subprocess.run([*run, str(bare)], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "carries no rows" in refused.stderr


def test_reap_says_what_it_dropped(business: Business) -> None:
    assert business.run("reap", "--person", "rep").returncode == 1
    assert isinstance(business.read("reap", "--person", "engineer"), list)


@pytest.mark.parametrize("command", [["audit", "verify", "no-such-file"], ["recording", "export", "dr_none"]])
def test_a_missing_argument_or_file_ends_with_2(business: Business, command: list[str]) -> None:
    assert business.run(*command).returncode == 2
