"""Who may do what: default deny, patterns per role; asked by the governor before every call.

What a role may confirm is said by its `confirm` list alone: no pattern, not even `*`, opens the confirmation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mcp_server.settings import Settings

#: Every verb of the built-in surface (tools, pages, command line) and the permission it needs; "" needs a known role.
PERMISSION_OF: Mapping[str, str] = {
    "find_tenant": "tenants.find",
    "describe_tables": "tables.describe",
    "start_dry_run": "dry_run.start",
    "query_shadow": "dry_run.query",
    "run_statement": "dry_run.run",
    "undo_statement": "dry_run.undo",
    "show_diff": "dry_run.diff",
    "propose": "dry_run.propose",
    "proposal_status": "dry_run.diff",
    "open_review": "dry_run.diff",
    "escalate": "dry_run.escalate",
    "revert": "dry_run.revert",
    "compare_dry_runs": "dry_run.diff",
    "branch_dry_run": "dry_run.branch",
    "list_dry_runs": "dry_run.list",
    "discard_dry_run": "dry_run.discard",
    "confirm": "proposal.confirm",
    "approve": "proposal.answer",
    "reject": "proposal.answer",
    "inspect": "shadow.inspect",
    "audit_tail": "audit.read",
    "audit_export": "audit.read",
    "recording_export": "recording.export",
    "recording_run": "recording.run",
    "reap": "sandbox.reap",
    "login": "",
    "logout": "",
    "token_issue": "",
    "token_list": "",
    "token_revoke": "",
}
#: Given by the role's `confirm` list, never by a pattern.
BY_CONFIRM = frozenset({"proposal.confirm", "proposal.answer"})
#: Whoever may start a dry run may look up for whom and on what.
IMPLIED: Mapping[str, str] = {"tenants.find": "dry_run.start", "tables.describe": "dry_run.start"}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a call may go ahead; `reason` is a sentence for the person."""

    allowed: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class RoleLimits:
    """What narrows a role's permissions; None leaves that side to the fence and the common limits.

    `tenants` are keys or patterns, `tenants_query` a SELECT of keys: either may name a tenant. `writes` are tables
    and `table.column`s for statements of free SQL.
    """

    tenants: tuple[str, ...] | None = None
    tenants_query: str | None = None
    writes: tuple[str, ...] | None = None
    rows_per_step: int | None = None
    statement_timeout_s: int | None = None


#: Of a role that is not there.
NOTHING = RoleLimits(tenants=(), writes=(), rows_per_step=0)


@dataclass(frozen=True, kw_only=True)
class Role:
    """Patterns of permissions, which kinds of proposals the role may confirm, and its limits."""

    name: str
    permissions: tuple[str, ...] = ()
    confirm: frozenset[str] = frozenset()
    sees_masked: bool = False
    masked: tuple[str, ...] = ()
    limits: RoleLimits = RoleLimits()


class Permissions:
    """All roles of the configuration."""

    def __init__(self, roles: Mapping[str, Role]) -> None:
        self._roles = dict(roles)

    @classmethod
    def of(cls, settings: Settings) -> "Permissions":
        """The roles of shadowdesk.toml, or the shipped ones."""
        return cls(
            {
                name: Role(
                    name=name,
                    permissions=one.permissions,
                    confirm=frozenset(one.confirm),
                    sees_masked=one.sees_masked,
                    masked=(*settings.masking.columns, *one.masked),
                    limits=RoleLimits(**dict(one.limits)),
                )
                for name, one in settings.roles.items()
            }
        )

    def decide(self, role: str, permission: str) -> Decision:
        """Whether people of `role` hold `permission`; what nobody granted is denied."""
        known = self._roles.get(role)
        if known is None:
            return Decision(allowed=False, reason=f"There is no role {role!r}.")
        if not permission:
            return Decision(allowed=True, reason="Everybody with a role may do this.")
        if permission in BY_CONFIRM:
            return self._by_confirm(known, permission)
        for pattern in known.permissions:
            if matches(pattern, permission) or matches(pattern, IMPLIED.get(permission, permission)):
                return Decision(allowed=True, reason=f"Role {role} is granted {pattern}.")
        return Decision(allowed=False, reason=f"Role {role} is not granted {permission}.")

    def confirm_rights(self, role: str) -> frozenset[str]:
        """Which of 'self', 'second', 'engineer' the role may confirm as; empty for unknown roles."""
        known = self._roles.get(role)
        return known.confirm if known else frozenset()

    def limits(self, role: str) -> RoleLimits:
        """What narrows the role's permissions; everything, for a role that is not there."""
        known = self._roles.get(role)
        return known.limits if known else NOTHING

    def sees_masked(self, role: str) -> bool:
        """Whether people of the role see masked values on pages; a model never does."""
        known = self._roles.get(role)
        return known is not None and known.sees_masked

    def masked(self, role: str) -> tuple[str, ...]:
        """Patterns of the columns whose values are masked for the role; all of them for a role that is not there."""
        known = self._roles.get(role)
        return known.masked if known else ("*.*",)

    def all_masked(self) -> frozenset[str]:
        """The patterns of all roles."""
        return frozenset(pattern for role in self._roles.values() for pattern in role.masked)

    def _by_confirm(self, role: Role, permission: str) -> Decision:
        if role.confirm:
            return Decision(allowed=True, reason=f"Role {role.name} may confirm: {', '.join(sorted(role.confirm))}.")
        return Decision(allowed=False, reason=f"Role {role.name} may rehearse and may confirm nothing ({permission}).")


def matches(pattern: str, permission: str) -> bool:
    """`*` holds everything, `a.*` everything under `a.`, anything else itself."""
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return permission.startswith(pattern[:-1])
    return pattern == permission
