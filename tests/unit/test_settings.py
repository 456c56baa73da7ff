"""shadowdesk.toml: what is read, what wins, and how a mistake is told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_server.errors import ConfigurationInvalid
from mcp_server.settings import Settings, load_settings

MINIMAL = """
[production]
reader_url = "postgresql://reader:hunter2@db/app"

[fence]
root = "tenants"
"""
Load = Callable[[str], Settings]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("SHADOWDESK_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(text: str) -> Settings:
        path = tmp_path / "shadowdesk.toml"
        path.write_text(text)
        return load_settings(path)

    return loaded


def test_two_sections_are_enough_and_the_rest_has_defaults(load: Load) -> None:
    settings = load(MINIMAL)
    assert settings.sandbox.url.get_secret_value() == "embedded"
    assert (settings.sandbox.ttl_s, settings.pages.port, settings.policy.default) == (7200, 8765, "self")
    assert set(settings.roles) == {"intern", "rep", "senior_rep", "engineer", "qa", "operator"}
    assert settings.data_dir.is_absolute()


def test_every_key_of_the_specification_is_read(load: Load) -> None:
    settings = load(
        MINIMAL
        + """
tenant_column = "tenant_id"
[fence.tables."contract_history"]
class = "sink"
actor_columns = ["who"]
[fence.tables.invoices]
via = "contract_id -> contracts.id"
[measures.billing_total]
table = "line_items"
sum = "qty * unit_price"
unit = "USD"
[gate]
allow_functions = ["app.price"]
[roles.rep]
permissions = ["dry_run.*", "contracts.edit"]
confirm = ["self"]
sees_masked = true
[people.alice]
role = "rep"
token_sha256 = "ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
[stdio]
person = "alice"
[[policy.rules]]
name = "big money"
measure = "billing_total"
abs_delta_over = "5000"
decision = "engineer"
[tools]
modules = ["acme.tools"]
"""
    )
    rules = settings.fence_rules()
    assert (rules.root, rules.label, rules.tenant_column) == ("tenants", None, "tenant_id")
    assert rules.tables["contract_history"].fence_class == "sink"
    assert rules.tables["invoices"].via == "contract_id -> contracts.id"
    assert settings.measure_list()[0].sum == "qty * unit_price"
    assert (settings.people["alice"].token_sha256 or "").startswith("abcdef")
    assert settings.policy.rules[0].abs_delta_over == 5000
    assert set(settings.roles) == {"rep"}


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        (MINIMAL + "[pages]\nlogin_ttl = 3\n", 8, "pages.login_ttl"),
        (MINIMAL + "[sandbx]\npool = 3\n", 7, "sandbx"),
        (MINIMAL + "\n[sandbox]\npool = -1\n", 9, "sandbox.pool"),
        (MINIMAL + '[fence.tables."a b"]\nclas = "sink"\n', 8, "fence.tables.a b.clas"),
        (MINIMAL + '[[policy.rules]]\nrows_over = 1\ndecision="self"\n[[policy.rules]]\ndecision = "all"\n', 11,
         "policy.rules.1.decision"),
        (MINIMAL + 'tables.x = { class = "sink", colum = "y" }\n', 7, "fence.tables.x.colum"),
        (MINIMAL + '[people.bo]\nrole = "boss"\n', 8, "people.bo.role"),
        (MINIMAL + '[stdio]\nperson = "nobody"\n', 8, "stdio.person"),
        ("[fence]\nroot = \"t\"\n[production]\nsearch_path = [\n\"a\"\n]\n", 3, "production.reader_url"),
    ],
)  # fmt: skip
def test_a_mistake_is_fatal_and_named_with_its_key_and_line(load: Load, text: str, line: int, key: str) -> None:
    with pytest.raises(ConfigurationInvalid) as error:
        load(text)
    assert f"line {line}, {key}:" in str(error.value)


@pytest.mark.parametrize(
    "rule",
    ['decision = "self"', 'decision = "self"\nmeasure = "m"', 'decision = "self"\nabs_delta_over = 1',
     'decision = "self"\nmeasure = "unknown"\nabs_delta_over = 1'],
)  # fmt: skip
def test_a_policy_rule_that_could_never_hold_is_refused(load: Load, rule: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="policy"):
        load(f'{MINIMAL}[measures.m]\ntable = "t"\nsum = "x"\n[[policy.rules]]\n{rule}\n')


def test_two_people_cannot_share_a_token(load: Load) -> None:
    token = "ab" * 32
    people = "".join(f'[people.{name}]\nrole = "rep"\ntoken_sha256 = "{token}"\n' for name in ("a", "b"))
    with pytest.raises(ConfigurationInvalid, match="same token"):
        load(MINIMAL + people)


def test_the_environment_wins_over_the_file(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHADOWDESK_SANDBOX__POOL", "7")
    monkeypatch.setenv("SHADOWDESK_PRODUCTION__APPLIER_URL", "postgresql://applier@db/app")
    settings = load(MINIMAL + "[sandbox]\npool = 3\nttl_s = 60\n")
    assert (settings.sandbox.pool, settings.sandbox.ttl_s) == (7, 60)
    assert settings.production.applier_url is not None
    assert settings.production.reader_url.get_secret_value() == "postgresql://reader:hunter2@db/app"


@pytest.mark.parametrize(
    ("name", "value"),
    [("SHADOWDESK_SANDBOX__POL", "7"), ("SHADOWDESK_SANBOX__POOL", "7"), ("SHADOWDESK_SANDBOX__POOL", "many"),
     ("SHADOWDESK_SANDBOX", "{no json")],
)  # fmt: skip
def test_a_mistake_in_the_environment_is_fatal(
    load: Load, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationInvalid, match="SHADOWDESK_"):
        load(MINIMAL)


def test_no_password_is_ever_shown(load: Load) -> None:
    assert "hunter2" not in repr(load(MINIMAL))
    broken = MINIMAL.replace('reader_url = "', 'reader_url = ["').replace('/app"', '/app"]')
    with pytest.raises(ConfigurationInvalid) as error:
        load(broken)
    assert "hunter2" not in f"{error.value}{error.value.__cause__}"


@pytest.mark.parametrize("url", ["https://user:pw@desk.example", "ftp://desk.example", "desk.example"])
def test_the_base_of_review_links_is_a_plain_web_address(load: Load, url: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"pages\.base_url"):
        load(f'{MINIMAL}[pages]\nbase_url = "{url}"\n')


def test_a_missing_file_and_broken_toml_are_explained(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="cannot be read"):
        load_settings(tmp_path / "none.toml")
    with pytest.raises(ConfigurationInvalid, match="line 1"):
        load("root = \nkey = 1")


def test_the_file_is_found_by_variable_then_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shadowdesk.toml").write_text(MINIMAL)
    (tmp_path / "other.toml").write_text('data_dir = "data"\n' + MINIMAL)
    monkeypatch.chdir(tmp_path)
    assert load_settings().fence.root == "tenants"
    monkeypatch.setenv("SHADOWDESK_CONFIG", str(tmp_path / "other.toml"))
    assert load_settings().data_dir == tmp_path / "data"
