"""Why a role may or may not do something, rule by rule; printed by `shadowdesk policy explain`.

It asks the very functions that decide, so that an explanation cannot say anything else than what happens.
"""

from dataclasses import dataclass

from mcp_server.permissions import PERMISSION_OF, Permissions
from mcp_server.scope import shown_target, tenant_listed, write_rule
from mcp_server.settings import Settings
from mcp_server.tools.registry import load_registry


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One question and its answer: `rule` is what decided, with its place in the configuration where it has one."""

    question: str
    allowed: bool
    rule: str


def explain(
    settings: Settings, role: str, tool: str | None, tenant: str | None, table: str | None, column: str | None
) -> list[Explained]:
    """What decides about a tool or verb, a tenant, and a change of a table or column, for people of the role."""
    permissions = Permissions.of(settings)
    found = []
    if tool is not None:
        found.append(_tool(settings, permissions, role, tool))
    if tenant is not None:
        found.append(_tenant(permissions, role, tenant))
    if table is not None:
        found.append(_write(permissions, role, table, column))
    return found


def permission_of(settings: Settings, tool: str) -> str | None:
    """The permission that a tool, a verb of pages and commands, or a permission itself needs; None for none of them."""
    if tool in PERMISSION_OF:
        return PERMISSION_OF[tool]
    known = load_registry(settings.tools.modules).get(tool)
    if known is not None:
        return known.permission
    return tool if "." in tool else None


def _tool(settings: Settings, permissions: Permissions, role: str, tool: str) -> Explained:
    permission = permission_of(settings, tool)
    question = f"use {tool}"
    if permission is None:
        return Explained(question=question, allowed=False, rule="There is no such tool: what is not there is denied.")
    decision = permissions.decide(role, permission)
    needs = f"needs {permission}" if permission else "needs no permission"
    rule = f"{decision.reason}{'' if decision.allowed else ' What nobody granted is denied.'}"
    return Explained(question=f"{question} ({needs})", allowed=decision.allowed, rule=rule)


def _tenant(permissions: Permissions, role: str, tenant: str) -> Explained:
    limits, place = permissions.limits(role), f"roles.{role}.limits"
    question = f"see tenant {tenant}"
    if limits.tenants is None and limits.tenants_query is None:
        return Explained(question=question, allowed=True, rule=f"{place} names no tenants: the role may see all.")
    entry = tenant_listed(limits, tenant)
    if entry is not None:
        return Explained(question=question, allowed=True, rule=f"{place}.tenants holds {entry!r}.")
    if limits.tenants_query is not None:
        rule = f"{place}.tenants does not name it: {place}.tenants_query decides, per person, when it is asked for."
        return Explained(question=question, allowed=False, rule=rule)
    return Explained(question=question, allowed=False, rule=f"{place}.tenants does not name it.")


def _write(permissions: Permissions, role: str, table: str, column: str | None) -> Explained:
    limits, place = permissions.limits(role), f"roles.{role}.limits"
    question = f"change {shown_target(table, column)} by free SQL"
    sql = permissions.decide(role, PERMISSION_OF["run_statement"])
    if not sql.allowed:
        return Explained(question=question, allowed=False, rule=sql.reason)
    if limits.writes is None:
        rule = f"{place} names no writes: the fence alone says what may be written."
        return Explained(question=question, allowed=True, rule=rule)
    entry = write_rule(limits.writes, table, column)
    rule = f"{place}.writes holds {entry!r}." if entry else f"{place}.writes does not name it."
    return Explained(question=question, allowed=entry is not None, rule=rule)
