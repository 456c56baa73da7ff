"""The command line without a server behind it: start time, usage, exit codes, keys, and what is read from a file."""

import getpass
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

import mcp_server.cli as cli
from audit.errors import AuditUnavailable
from mcp_server.cli import dry_run, keys, output, people
from mcp_server.errors import ConfigurationInvalid, NotFound, PermissionDenied
from mcp_server.settings import Settings, load_settings
from mcp_server.views import TenantHit
from shadow.errors import OutcomeUnknown, SandboxUnavailable, StatementRefused

SENTENCES = ("It happened.", "That did not.", "Do this.")
COMMANDS = (
    "login", "proposals", "confirm", "reject", "dry-run", "inspect", "fence", "init", "install", "doctor", "reap", "serve",
    "stdio", "demo", "audit", "recording",
)  # fmt: skip
CONFIGURATION = f"""
[production]
reader_url = "postgresql://nowhere.invalid/production"
[fence]
root = "tenants"
[people.rita]
role = "rep"
confirm_key_sha256 = "{hashlib.sha256(b"rita's key").hexdigest()}"
[people.noel]
role = "rep"
[stdio]
person = "rita"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "shadowdesk.toml"
    path.write_text(CONFIGURATION, encoding="utf-8")
    return path


@pytest.fixture
def settings(config: Path) -> Settings:
    return load_settings(config)


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The console script as a process, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "mcp_server", *arguments],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "100", **environment},
    )  # fmt: skip


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Runs a command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["shadowdesk", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    code = left.value.code
    assert isinstance(code, int)
    return code


def test_the_version_imports_no_heavy_library() -> None:
    script = (
        "import sys\nsys.argv = ['shadowdesk', '--version']\nfrom mcp_server.cli import main\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert not left.code, left\n"
        "heavy = {'mcp', 'alembic', 'sqlalchemy', 'psycopg', 'starlette', 'pydantic', 'postgast', 'deepdiff', 'docker'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["shadowdesk 0.1.0", "[]"]


def test_help_names_every_command_and_the_exit_codes() -> None:
    done = command("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)
    assert "1 refused or different" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["no-such"], ["dry-run"], ["dry-run", "--tenant", "1", "--file", "no-such.sql"], ["confirm"], ["audit", "no-such"],
     ["recording", "run", "no-such.json"], ["serve", "--only", "both"], ["proposals", "--unknown"]],
)  # fmt: skip
def test_wrong_usage_ends_with_2_and_says_what(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    assert ended(monkeypatch, *arguments) == output.USAGE


def test_a_configuration_that_cannot_be_read_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ended(monkeypatch, "proposals", "--config", str(tmp_path / "missing.toml")) == output.USAGE
    told = capsys.readouterr()
    assert "cannot be read. Nothing was started." in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationInvalid(*SENTENCES), 2),
        (SandboxUnavailable(*SENTENCES), 3),
        (AuditUnavailable(*SENTENCES), 3),
        (OutcomeUnknown(*SENTENCES), 3),
        (NotFound(*SENTENCES), 1),
        (StatementRefused(*SENTENCES), 1),
    ],
)
def test_an_outcome_has_its_exit_code(error: Exception, code: int) -> None:
    assert output.exit_code(error) == code


def test_a_fault_ends_with_4_and_shows_nothing_of_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "@".join(("ann", "example.com"))

    def fault(config: Path) -> None:
        raise RuntimeError(f"DETAIL: Key (email)=({address})")

    monkeypatch.setattr("mcp_server.settings.load_settings", fault)
    assert ended(monkeypatch, "proposals") == output.FAULT
    told = capsys.readouterr()
    assert "RuntimeError" in told.err
    assert address not in told.err + told.out


@pytest.mark.parametrize("verb", ["confirm", "reject"])
def test_a_decision_needs_the_key(monkeypatch: pytest.MonkeyPatch, config: Path, verb: str) -> None:
    """Refused before anything is opened for the decision itself; the wrong key is audited without the applier."""
    audited: list[tuple[object, ...]] = []

    @contextmanager
    def only_the_trail(settings: Settings) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(governor=SimpleNamespace(record=lambda *call: audited.append(call)))

    monkeypatch.setattr(people, "opened", lambda *_, **__: pytest.fail("a server was opened"))
    monkeypatch.setattr(keys, "opened", only_the_trail)
    monkeypatch.setattr(people, "_need_terminal", lambda: None)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: "wrong")
    more = ["--comment", "no"] if verb == "reject" else []
    assert ended(monkeypatch, verb, "pr_x", "--config", str(config), *more) == output.REFUSED
    [(caller, *rest)] = audited
    assert (getattr(caller, "channel", ""), *rest[:3]) == ("cli", verb, {}, "denied")
    assert "wrong" not in str(rest)


def test_confirm_without_a_terminal_is_refused_before_anything_is_opened(config: Path) -> None:
    done = command("confirm", "pr_aaaaaaaaaaaa", "--config", str(config), SHADOWDESK_KEY="rita's key")
    assert done.returncode == output.REFUSED
    assert "needs a terminal" in done.stderr
    assert not (config.parent / "data").exists()


def test_the_right_key_is_its_person(settings: Settings) -> None:
    caller = keys.person_with_key(settings, None, "rita's key")
    assert (caller.name, caller.role, caller.channel) == ("rita", "rep", "cli")


@pytest.mark.parametrize(
    ("person", "key"), [("rita", "wrong"), ("rita", ""), ("noel", ""), ("noel", "rita's key"), ("nobody", "rita's key")]
)
def test_a_wrong_key_is_nobody_and_the_answer_does_not_say_why(settings: Settings, person: str, key: str) -> None:
    with pytest.raises(PermissionDenied, match="The name and the personal key do not belong together"):
        keys.person_with_key(settings, person, key)


def test_a_key_comes_from_the_environment_only_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.KEY_VARIABLE, "from the environment")
    monkeypatch.setattr(getpass, "getpass", lambda prompt: "typed")
    assert keys.read_key(None, environment=True) == "from the environment"
    assert keys.read_key(None, environment=False) == "typed"


def test_a_key_file_must_be_its_owner_s_alone(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("my key\n", encoding="utf-8")
    file.chmod(0o640)
    with pytest.raises(PermissionDenied, match="can be read by others"):
        keys.read_key(file, environment=False)
    file.chmod(0o600)
    assert keys.read_key(file, environment=False) == "my key"
    with pytest.raises(PermissionDenied, match="cannot be read"):
        keys.read_key(tmp_path / "missing", environment=False)


@pytest.mark.parametrize("server", ["serve", "stdio", "demo"])
def test_a_server_refuses_to_start_with_a_personal_key_at_hand(config: Path, server: str) -> None:
    arguments = [server] if server == "demo" else [server, "--config", str(config)]
    done = command(*arguments, SHADOWDESK_KEY="rita's key")
    assert done.returncode == output.USAGE
    assert "SHADOWDESK_KEY is set" in done.stderr
    assert "rita's key" not in done.stderr + done.stdout


def test_a_file_is_split_by_postgres_own_grammar(tmp_path: Path) -> None:
    file = tmp_path / "steps.sql"
    file.write_text("UPDATE a SET b = 'x;y'; -- why; not\nDELETE FROM é WHERE z = $$;$$;\n\n", encoding="utf-8")
    assert dry_run.statements_of(file) == ["UPDATE a SET b = 'x;y'", "DELETE FROM é WHERE z = $$;$$"]


@pytest.mark.parametrize("text", ["", "-- nothing\n", "UPDATE a SET b = 'x", "UPDATE WHERE"])
def test_a_file_that_holds_no_statement_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "steps.sql"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(StatementRefused, match=r"Nothing ran\."):
        dry_run.statements_of(file)


def test_views_become_json(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    output.say_json([TenantHit(key="1", label="Ä\x1b[31m"), {"at": at, "rows": (1, None)}])
    told = capsys.readouterr().out
    assert json.loads(told) == [{"key": "1", "label": "Ä\x1b[31m"}, {"at": at.isoformat(), "rows": [1, None]}]
    assert "\x1b" not in told
