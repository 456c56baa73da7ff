"""The sections of shadowdesk.toml as pydantic models, every unknown key refused; used by settings.py."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator

Decision = Literal["self", "second", "engineer", "nobody"]
TableClass = Literal["root", "direct", "reached", "shared", "sink"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
#: `08:00-18:00`: from the first minute up to, not including, the last; over midnight when the first is later.
Hours = Annotated[str, StringConstraints(pattern=rf"^{_CLOCK}-{_CLOCK}$")]
#: What a rule of the policy can look at.
CONDITIONS = (
    "rows_over", "deletes_over", "cascades_over", "tables", "classes", "outside_hours", "on_days", "measure",
)  # fmt: skip
Right = Literal["self", "second", "engineer"]
#: `*`, `contracts.*` or `contracts.edit_signatory`.
Pattern = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z][a-z0-9_]*(\.[a-z0-9_]+)*(\.\*)?)$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{64}$", to_lower=True)]
Seconds = Annotated[int, Field(gt=0)]
#: `users.email`, `*.phone` or `users.*`.
ColumnPattern = Annotated[str, StringConstraints(pattern=r"^[^.]+(\.[^.]+)*\.[^.]+$")]
Name = Annotated[str, StringConstraints(min_length=1)]
#: https, or http on this machine only: keys that arrive over a plain network prove nothing.
WebAddress = Annotated[
    str, StringConstraints(pattern=r"^(https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/])[^?#@\s]*$")
]
#: Asymmetric signatures only: with a shared secret, whoever verifies could also sign.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class Section(BaseModel):
    """Base of every section: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, hide_input_in_errors=True)


class ProductionSection(Section):
    """Where production is; `applier_url` only for processes that confirm."""

    reader_url: SecretStr
    applier_url: SecretStr | None = None
    search_path: tuple[str, ...] = Field(default=("public",), min_length=1)


class SandboxSection(Section):
    """Where shadows live and what they may use."""

    url: SecretStr = SecretStr("embedded")
    pool: int = Field(default=2, ge=0, le=100)
    snapshot_max_s: Seconds = 600
    ttl_s: Seconds = 7200
    max_shadow_mb: int = Field(default=2048, gt=0)
    max_shadows: int = Field(default=200, gt=0)
    statement_timeout_s: Seconds = 10


class ControlSection(Section):
    """The control database: `url` is the owner's, used to migrate; the other two are the roles the server runs as."""

    url: SecretStr = SecretStr("embedded")
    control_url: SecretStr = SecretStr("")
    audit_url: SecretStr = SecretStr("")


class LinkSection(Section):
    """One declared link: `to` is `column -> table.column`; `lookup` names the reference table that `when` speaks of."""

    to: str = Field(min_length=1)
    when: str | None = Field(default=None, min_length=1)
    lookup: str | None = Field(default=None, min_length=1)


class TableSection(Section):
    """One correction of the derived fence."""

    fence_class: Literal["direct", "reached", "shared", "sink", "outside"] | None = Field(default=None, alias="class")
    column: str | tuple[str, ...] | None = None
    via: str | tuple[str | LinkSection, ...] | None = None
    rows: Literal["all", "referenced"] | None = None
    surface: bool | None = None
    actor_columns: tuple[str, ...] = ()
    when: str | None = None
    null_tenant: Literal["everybody"] | None = None


class FenceSection(Section):
    """Whose rows are whose; everything not said here follows from the foreign keys."""

    root: str = Field(min_length=1)
    key: str | tuple[str, ...] = Field(default="id", min_length=1)
    label: str = ""
    tenant_column: str | tuple[str, ...] = ""
    tables: Mapping[str, TableSection] = {}


class MeasureSection(Section):
    """A named sum over a table's rows; the operator's SQL is trusted."""

    table: str = Field(min_length=1)
    sum: str = Field(min_length=1)
    where: str = ""
    unit: str | None = None


class GateSection(Section):
    """What a statement may call and how large it may be."""

    allow_functions: tuple[str, ...] = ()
    max_rows_changed: int = Field(default=200_000, gt=0)
    max_bytes: int = Field(default=65_536, gt=0)


class MaskingSection(Section):
    """Columns whose values no model is shown."""

    columns: tuple[ColumnPattern, ...] = ()


class RoleLimitsSection(Section):
    """What narrows a role's permissions further; a key that is left out narrows nothing."""

    tenants: tuple[Name, ...] | None = None
    tenants_query: Name | None = None
    writes: tuple[Name, ...] | None = None
    rows_per_step: int | None = Field(default=None, ge=0)
    statement_timeout_s: Seconds | None = None


class RoleSection(Section):
    """What people of one role may do; `confirm` alone says what they may confirm."""

    permissions: tuple[Pattern, ...] = ()
    confirm: tuple[Right, ...] = ()
    sees_masked: bool = False
    masked: tuple[ColumnPattern, ...] = ()
    limits: RoleLimitsSection = RoleLimitsSection()


class PersonSection(Section):
    """One person: a role, what the identity provider calls them, hashes of a token (MCP) and of the personal key."""

    role: str
    subject: str | None = Field(default=None, min_length=1, max_length=255)
    token_sha256: Sha256 | None = None
    confirm_key_sha256: Sha256 | None = None


class OAuthSection(Section):
    """The identity provider whose access tokens open `/mcp`; `people.X.subject` names its people."""

    issuer: WebAddress
    jwks_url: WebAddress
    audience: str | None = None
    algorithms: tuple[Algorithm, ...] = Field(default=("RS256", "ES256"), min_length=1)
    scopes: tuple[Annotated[str, StringConstraints(pattern=r"^[!#-\[\]-~]+$")], ...] = ()
    refresh_s: Seconds = 300
    keys_max_age_s: Seconds = 86_400


class StdioSection(Section):
    """Who the caller is on stdio."""

    person: str | None = None


class RuleSection(Section):
    """One rule of the policy: all its conditions must hold. `outside_hours` and `on_days` are in policy.timezone."""

    decision: Decision
    name: str | None = None
    rows_over: int | None = Field(default=None, ge=0)
    deletes_over: int | None = Field(default=None, ge=0)
    cascades_over: int | None = Field(default=None, ge=0)
    tables: tuple[str, ...] | None = Field(default=None, min_length=1)
    classes: tuple[TableClass, ...] | None = Field(default=None, min_length=1)
    outside_hours: Hours | None = None
    on_days: tuple[Day, ...] | None = Field(default=None, min_length=1)
    measure: str | None = None
    abs_delta_over: Decimal | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _complete(self) -> "RuleSection":
        if (self.measure is None) != (self.abs_delta_over is None):
            raise ValueError("measure and abs_delta_over belong together")
        if not any(getattr(self, name) is not None for name in CONDITIONS):
            raise ValueError(f"a rule needs one of {', '.join(CONDITIONS)} (measure with abs_delta_over)")
        return self


class PolicySection(Section):
    """Who may confirm what; the strictest of the default and the rules that hold decides.

    `stale`: whether rows that a dry run only looked at and that changed since are reported, or stop its replay.
    """

    default: Decision = "self"
    stale: Literal["report", "block"] = "report"
    timezone: str = "UTC"
    rules: tuple[RuleSection, ...] = ()

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("there is no such time zone on this machine") from None
        return name


class PagesSection(Section):
    """Where people reach the pages; `base_url` starts every review link, so it holds no credential."""

    base_url: str = Field(default="http://127.0.0.1:8765", pattern=r"^https?://[^/?#@\s]+(/[^?#@\s]*)?$")
    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65_535)
    login_ttl_s: Seconds = 300
    session_ttl_s: Seconds = 28_800
    confirmation_ttl_s: Seconds = 86_400
    elicit: bool = False
    elicit_s: Seconds = 45


class ToolsSection(Section):
    """Importable modules that hold domain tools."""

    modules: tuple[str, ...] = ()
