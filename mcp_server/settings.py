"""The configuration of every process: environment over shadowdesk.toml over defaults; read once by the CLI.

An environment variable is `SHADOWDESK_` and the key's path with `__` between its parts
(`SHADOWDESK_PRODUCTION__READER_URL`); it wins over the file.
"""

import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from differ.measures import Measure
from mcp_server.errors import ConfigurationInvalid
from mcp_server.limits import LimitsSection
from mcp_server.settings_lines import line_of
from mcp_server.settings_sections import (
    ControlSection,
    FenceSection,
    GateSection,
    MaskingSection,
    MeasureSection,
    OAuthSection,
    PagesSection,
    PersonSection,
    PolicySection,
    ProductionSection,
    RoleSection,
    SandboxSection,
    StdioSection,
    ToolsSection,
)
from shadow.fence import FenceRules, TableRule
from shadow.links import via_from

ENV_PREFIX = "SHADOWDESK_"
CONFIG_VARIABLE = "SHADOWDESK_CONFIG"
DEFAULT_CONFIG = Path("shadowdesk.toml")

#: Used when the TOML names no roles at all.
DEFAULT_ROLES: Mapping[str, RoleSection] = {
    "intern": RoleSection(permissions=("dry_run.*",)),
    "rep": RoleSection(permissions=("dry_run.*",), confirm=("self",)),
    "senior_rep": RoleSection(permissions=("dry_run.*",), confirm=("self", "second")),
    "engineer": RoleSection(
        permissions=("dry_run.*", "shadow.inspect", "recording.*", "audit.read"),
        confirm=("self", "second", "engineer"),
    ),
    "qa": RoleSection(permissions=("dry_run.list", "dry_run.diff", "recording.*")),
    "operator": RoleSection(
        permissions=("dry_run.list", "dry_run.diff", "shadow.inspect", "sandbox.*", "audit.read", "token.*")
    ),
}


def platform_data_dir() -> Path:
    """Where this platform keeps a user's application data."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "shadowdesk"


class Settings(BaseSettings):
    """The whole configuration. Raises nothing of its own: make it with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    data_dir: Path = Field(default_factory=platform_data_dir)
    production: ProductionSection
    fence: FenceSection
    sandbox: SandboxSection = SandboxSection()
    control: ControlSection = ControlSection()
    measures: Mapping[str, MeasureSection] = {}
    gate: GateSection = GateSection()
    masking: MaskingSection = MaskingSection()
    limits: LimitsSection = LimitsSection()
    roles: Mapping[str, RoleSection] = DEFAULT_ROLES
    people: Mapping[str, PersonSection] = {}
    oauth: OAuthSection | None = None
    stdio: StdioSection = StdioSection()
    policy: PolicySection = PolicySection()
    pages: PagesSection = PagesSection()
    tools: ToolsSection = ToolsSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first, then what the file said (handed in as init values)."""
        return (EnvSettingsSource(settings_cls), init_settings)

    @model_validator(mode="after")
    def _references(self) -> "Settings":
        """Names that point at other sections must be there; one token means one person."""
        for name, person in self.people.items():
            if person.role not in self.roles:
                raise ValueError(f"people.{name}.role: there is no role {person.role!r} in [roles]")
            if not name.strip() or not name.isprintable() or len(name) > 100:
                raise ValueError("people: a name must be printable text of at most 100 characters")
        tokens = [person.token_sha256 for person in self.people.values() if person.token_sha256]
        if len(tokens) != len(set(tokens)):
            raise ValueError("people: two people have the same token_sha256")
        subjects = [person.subject for person in self.people.values() if person.subject]
        if len(subjects) != len(set(subjects)):
            raise ValueError("people: two people have the same subject")
        if self.stdio.person is not None and self.stdio.person not in self.people:
            raise ValueError(f"stdio.person: there is no person {self.stdio.person!r} in [people]")
        for index, rule in enumerate(self.policy.rules):
            if rule.measure is not None and rule.measure not in self.measures:
                raise ValueError(f"policy.rules.{index}.measure: there is no measure {rule.measure!r} in [measures]")
        return self

    def fence_rules(self) -> FenceRules:
        """The operator's tenancy as the shadow leaf takes it."""
        fence = self.fence
        names = set(TableRule.__dataclass_fields__)
        return FenceRules(
            root=fence.root,
            key=fence.key,
            label=fence.label or None,
            tenant_column=fence.tenant_column or None,
            tables={
                name: TableRule(
                    **{key: value for key, value in dict(table).items() if key in names and key != "via"},
                    via=via_from(table.model_dump()["via"]),
                )
                for name, table in fence.tables.items()
            },
        )

    def measure_list(self) -> tuple[Measure, ...]:
        """The measures as the differ leaf takes them, in the file's order."""
        return tuple(
            Measure(name=name, table=one.table, sum=one.sum, where=one.where, unit=one.unit)
            for name, one in self.measures.items()
        )


def load_settings(config: Path | None = None) -> Settings:
    """The settings of `config`, else of the file $SHADOWDESK_CONFIG names, else of ./shadowdesk.toml.

    A relative `data_dir` counts from the file's folder. Raises ConfigurationInvalid, which names key and line.
    """
    path = config or Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG)
    text, values = _read(path)
    _check_environment()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise _invalid("; ".join(_problem(path, text, one) for one in error.errors())) from None
    except SettingsError:
        raise _invalid(f"A {ENV_PREFIX}… variable does not hold the JSON that its section needs") from None
    folder = path.resolve().parent
    return settings.model_copy(update={"data_dir": folder / settings.data_dir.expanduser()})


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise _invalid(f"The configuration file {path} cannot be read") from None
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _invalid(f"{path} is not TOML: {error}") from None


def _check_environment() -> None:
    """A misspelt section in a variable's name would be ignored otherwise."""
    for name in os.environ:
        section = name.upper().removeprefix(ENV_PREFIX).split("__")[0].lower()
        if name.upper().startswith(ENV_PREFIX) and "__" in name and section not in Settings.model_fields:
            raise _invalid(f"The variable {name} names no section of the configuration")


def _problem(path: Path, text: str, error: Any) -> str:
    """One sentence part: which key, where, and what is wrong with it; never the value, which may be a password."""
    message = str(error["msg"]).removeprefix("Value error, ")
    loc = tuple(error["loc"])
    if not loc and ": " in message:
        dotted, _, message = message.partition(": ")
        loc = tuple(int(part) if part.isdigit() else part for part in dotted.split("."))
    dotted = ".".join(str(part) for part in loc)
    variable = ENV_PREFIX + "__".join(str(part) for part in loc).upper()
    if any(name.upper() == variable for name in os.environ):
        return f"{variable}: {message}"
    if error["type"] == "extra_forbidden":
        message = "there is no such key"
    where = line_of(text, loc)
    return f"{path}, line {where}, {dotted}: {message}" if where else f"{path}, {dotted}: {message}"


def _invalid(happened: str) -> ConfigurationInvalid:
    return ConfigurationInvalid(
        f"{happened}.",
        "Nothing was started.",
        "Correct the configuration and start again.",
    )
