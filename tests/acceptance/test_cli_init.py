"""`shadowdesk init` on a database whose schema leaves much unsaid: what it writes loads, fences and counts."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mcp_server.cli import app
from mcp_server.first_settings import guessed_settings
from mcp_server.settings import load_settings
from shadow.fence import FenceRules
from shadow.links import LinkRule
from tests.lifecycle import installed
from tests.postgres import MakeDatabase

UNSAID = """
CREATE TABLE countries(id int PRIMARY KEY, name text);
CREATE TABLE organizations(id int PRIMARY KEY, name text NOT NULL, country_id int REFERENCES countries(id));
CREATE TABLE contracts(id int PRIMARY KEY, organization_id int NOT NULL REFERENCES organizations(id), total_amount numeric);
CREATE TABLE roles(id int PRIMARY KEY, organization_id int, name text);
CREATE TABLE lines(id int PRIMARY KEY, contract_id int NOT NULL, price_cents bigint);
CREATE TABLE line_notes(id int PRIMARY KEY, line_id int NOT NULL, body text);
CREATE TABLE comments(id int PRIMARY KEY, about_type text, about_id int, body text);
CREATE TABLE "odd table"(id int PRIMARY KEY, contract_id int);
INSERT INTO countries VALUES (1,'x');
INSERT INTO organizations VALUES (1,'a',1),(2,'b',1);
INSERT INTO contracts VALUES (1,1,10),(2,2,20); INSERT INTO roles VALUES (1,NULL,'owner'),(2,1,'mine');
INSERT INTO lines VALUES (1,1,5),(2,2,6); INSERT INTO line_notes VALUES (1,1,'x'),(2,2,'y');
INSERT INTO comments VALUES (1,'Contract',1,'x'),(2,'Line',2,'y'),(3,'Nothing',9,'z');
INSERT INTO "odd table" VALUES (1,1),(2,77);
"""


@pytest.fixture
def reader_url(database: MakeDatabase) -> str:
    """The reader's URL of that database."""
    return installed(database(UNSAID), FenceRules(root="organizations")).reader_url


def test_the_written_file_loads_and_says_what_is_guessed_and_why(
    reader_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shadowdesk.toml"
    monkeypatch.setenv("SHADOWDESK_PRODUCTION__READER_URL", reader_url)
    done = CliRunner().invoke(app, ["init", "-o", str(path)])
    assert done.exit_code == 0, done.output
    text = path.read_text(encoding="utf-8")
    assert "reader-password" not in text
    assert (
        "# GUESS: column contract_id without a foreign key; all of its 2 sampled values occur in contracts.id." in text
    )
    rules = load_settings(path).fence_rules()
    assert (rules.root, rules.key, rules.label, rules.tenant_column) == (
        "organizations",
        "id",
        "name",
        "organization_id",
    )
    assert rules.tables["lines"].via == "contract_id -> contracts.id"
    assert rules.tables["line_notes"].via == "line_id -> lines.id"
    assert rules.tables["comments"].via == (
        LinkRule(to="about_id -> contracts.id", when="\"about_type\" = 'Contract'"),
        LinkRule(to="about_id -> lines.id", when="\"about_type\" = 'Line'"),
    )
    assert "odd table" not in rules.tables
    assert '# [fence.tables."odd table"]\n# via = "contract_id -> contracts.id"' in text
    assert '# null_tenant = "everybody"' in text
    measures = {(m.table, m.sum) for m in load_settings(path).measure_list()}
    assert measures == {("contracts", '"total_amount"'), ("lines", '"price_cents"')}


def test_an_existing_file_is_only_overwritten_by_force(reader_url: str, tmp_path: Path) -> None:
    path = tmp_path / "shadowdesk.toml"
    path.write_text("mine")
    arguments = ["init", "-o", str(path), "--reader-url", reader_url]
    refused = CliRunner().invoke(app, arguments)
    assert "exists already" in str(refused.exception)
    assert path.read_text() == "mine"
    assert CliRunner().invoke(app, [*arguments, "--force"]).exit_code == 0
    assert "[fence]" in path.read_text()


def test_a_database_without_a_tenant_is_told(database: MakeDatabase) -> None:
    url = database("CREATE TABLE settings(key text PRIMARY KEY, value text)")
    with pytest.raises(Exception, match="can be a tenant's"):
        guessed_settings(url, ("public",))
