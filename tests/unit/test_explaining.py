"""`shadowdesk policy explain`: the shipped roles load, and each answer names the rule that decided."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mcp_server.cli import app
from mcp_server.errors import ConfigurationInvalid
from mcp_server.settings import load_settings

EXAMPLE = Path(__file__).parents[2] / "docs" / "roles.example.toml"
BASE = '[production]\nreader_url = "postgresql://reader@localhost/app"\n[fence]\nroot = "tenants"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "shadowdesk.toml"
    path.write_text(BASE + EXAMPLE.read_text() + '[tools]\nmodules = ["mcp_server.demo.tools"]\n')
    return path


def test_the_shipped_roles_load(config: Path) -> None:
    settings = load_settings(config)
    assert list(settings.roles) == ["intern", "rep", "senior_rep", "engineer", "qa", "operator"]
    assert settings.roles["intern"].limits.tenants == ("1", "practice-*")
    assert len(settings.policy.rules) == 7


@pytest.mark.parametrize(
    ("role", "question", "answer", "rule"),
    [
        ("intern", ["--tool", "run_statement"], 1, "not granted dry_run.run"),
        ("intern", ["--tool", "correct_signatory_on_contract"], 0, "granted contracts.edit_signatory"),
        ("intern", ["--tool", "find_tenant"], 0, "granted dry_run.start"),
        ("intern", ["--tool", "confirm"], 1, "may confirm nothing"),
        ("senior_rep", ["--tool", "confirm"], 0, "may confirm: second, self"),
        ("rep", ["--tool", "correct_signatory_on_contract"], 0, "granted contracts.*"),
        ("qa", ["--tool", "start_dry_run"], 1, "What nobody granted is denied"),
        ("operator", ["--tool", "token.manage"], 0, "granted token.*"),
        ("rep", ["--tool", "nonsense"], 1, "no such tool"),
        ("boss", ["--tool", "propose"], 1, "no role 'boss'"),
        ("intern", ["--tenant", "practice-7"], 0, "practice-*"),
        ("intern", ["--tenant", "7"], 1, "does not name it"),
        ("rep", ["--tenant", "7"], 0, "may see all"),
        ("rep", ["--table", "contracts", "--column", "code"], 0, "'contracts.code'"),
        ("rep", ["--table", "contracts"], 1, "does not name it"),
        ("rep", ["--table", "line_items"], 0, "'line_items'"),
        ("intern", ["--table", "contracts"], 1, "not granted dry_run.run"),
        ("boss", ["--tenant", "1", "--table", "contracts"], 1, "does not name it"),
    ],
)  # fmt: skip
def test_the_rule_that_decided_is_named(config: Path, role: str, question: list[str], answer: int, rule: str) -> None:
    done = CliRunner().invoke(app, ["policy", "explain", "--config", str(config), "--as", role, *question])
    assert done.exit_code == answer, done.output
    assert rule in done.output
    assert done.output.startswith("yes" if answer == 0 else "no")


@pytest.mark.parametrize(
    "text",
    ['[roles.x]\npermision = ["*"]\n', '[roles.x]\npermissions = ["Dry Run"]\n', '[roles.x]\nlimits = { tenant = ["1"] }\n',
     '[roles.x]\nlimits = { rows_per_step = -1 }\n', '[roles.x]\nconfirm = ["peer"]\n',
     '[[policy.rules]]\ndecision = "second"\noutside_hours = "8-18"\n', '[[policy.rules]]\ndecision = "second"\non_days = ["Sunday"]\n',
     '[policy]\ntimezone = "Mars/Base"\n', '[[policy.rules]]\ndecision = "second"\nclasses = ["outside"]\n'],
)  # fmt: skip
def test_unknown_words_are_fatal(tmp_path: Path, text: str) -> None:
    path = tmp_path / "shadowdesk.toml"
    path.write_text(BASE + text)
    with pytest.raises(ConfigurationInvalid, match="line "):
        load_settings(path)
