"""The limits of a role inside what it is granted: which tenants, which tables and columns, how many rows, how long.

Asked by the desk's verbs, never by tools: whatever calls the desk is held to it. Limits only ever take away.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import psycopg

from mcp_server.errors import ConfigurationInvalid, NotFound, PermissionDenied
from mcp_server.identity import Caller
from mcp_server.permissions import Permissions, RoleLimits
from mcp_server.production import Production
from shadow.errors import QuotaExceeded, TenantNotFound
from shadow.run import failed
from shadow.shadow import Shadow
from shadow.statement import GatedStatement


class Scope:
    """What each caller's role may see and change; reads `tenants_query` on production as the reader."""

    def __init__(self, permissions: Permissions, production: Production) -> None:
        self._permissions = permissions
        self._production = production

    def limits(self, caller: Caller) -> RoleLimits:
        """The limits of the caller's role."""
        return self._permissions.limits(caller.role)

    def sees_all(self, caller: Caller) -> bool:
        """True for those who answer for, inspect or re-execute other people's dry runs."""
        return bool(self._permissions.confirm_rights(caller.role) & {"second", "engineer"}) or any(
            self._permissions.decide(caller.role, permission).allowed
            for permission in ("shadow.inspect", "recording.run")
        )

    def tenants(self, caller: Caller, keys: Iterable[str]) -> frozenset[str]:
        """Those of the tenants' keys that the caller may see.

        Raises ConfigurationInvalid when the operator's query cannot be run: nobody is seen then.
        """
        asked = frozenset(keys)
        limits = self.limits(caller)
        if limits.tenants is None and limits.tenants_query is None:
            return asked
        seen = frozenset(key for key in asked if tenant_listed(limits, key))
        if limits.tenants_query is None or seen == asked:
            return seen
        return seen | self._of_query(limits.tenants_query, caller, sorted(asked - seen))

    def require_tenant(self, caller: Caller, key: str) -> None:
        """Raises TenantNotFound, in the words for a tenant that is not there: which tenants exist is not told."""
        if key not in self.tenants(caller, (key,)):
            raise TenantNotFound(
                "There is no tenant with that key.",
                "No dry run was started.",
                "Look the key up with find_tenant and use it as it is written there.",
            )

    def require_visible(self, caller: Caller, key: str, dry_run_id: str) -> None:
        """Raises NotFound for a dry run of a tenant that the caller may not see (any more)."""
        if key not in self.tenants(caller, (key,)):
            raise NotFound(
                f"There is no dry run {dry_run_id} of yours.",
                "Nothing ran.",
                "list_dry_runs shows the ones you started.",
            )

    def require_writes(self, caller: Caller, gated: GatedStatement, tool: str | None) -> None:
        """Raises PermissionDenied when a statement of the caller's own changes what their role may not.

        What a domain tool changes is granted with the tool.
        """
        writes = self.limits(caller).writes
        if writes is None or tool is not None:
            return
        for what in _changed(gated):
            if write_rule(writes, *what) is None:
                raise PermissionDenied(
                    f"Role {caller.role} may not change {shown_target(*what)} with a statement of its own.",
                    "Nothing ran.",
                    "Use a domain tool that does it, or ask a colleague whose role may.",
                )

    def require_rows(self, caller: Caller, rows: int, most: int) -> None:
        """Raises QuotaExceeded when a step changed more rows than `most`, everybody's limit, or than the role's own."""
        limit = self.limits(caller).rows_per_step
        allowed = most if limit is None else min(limit, most)
        if rows > allowed:
            raise QuotaExceeded(
                f"The statement changed {rows} rows; a step of yours may change {allowed}.",
                "It was taken back: the shadow is as before.",
                "Narrow the WHERE clause, or ask a colleague whose role may change more rows at once.",
            )

    def set_timeout(self, caller: Caller, shadow: Shadow) -> None:
        """Gives the caller's next statement on this shadow the role's time, within the sandbox' own limit."""
        seconds = self.limits(caller).statement_timeout_s
        milliseconds = None if seconds is None else seconds * 1000
        if milliseconds == shadow.timeout_ms:
            return
        try:
            shadow.role.execute(
                "SELECT set_config(name, least(%s, nullif(reset_val::int, 0))::text, false)"
                " FROM pg_catalog.pg_settings WHERE name = 'statement_timeout'",
                (milliseconds,),
            )
        except psycopg.Error as error:
            raise failed(shadow, error) from None
        shadow.timeout_ms = milliseconds

    def _of_query(self, query: str, caller: Caller, keys: Sequence[str]) -> frozenset[str]:
        """The operator's trusted SELECT of one column of keys; `%(person)s` in it is the caller's name."""
        text = f"SELECT DISTINCT key::text FROM ({query}) AS allowed(key) WHERE key::text = ANY(%(keys)s)"  # noqa: S608
        given: dict[str, Any] = {"person": caller.name, "keys": list(keys)}
        try:
            with self._production.reader() as conn:
                return frozenset(str(row[0]) for row in conn.execute(text.encode(), given))
        except psycopg.Error as error:
            raise ConfigurationInvalid(
                f"The tenants_query of role {caller.role} could not be run ({error.sqlstate or 'no answer'}).",
                "No tenant was shown and nothing ran.",
                "Tell the operator: it is one SELECT of one column, which shadowdesk_reader may run.",
            ) from None


def tenant_listed(limits: RoleLimits, key: str) -> str | None:
    """The entry of the role's `tenants` that names this key, by itself or as a pattern with * and ?; None without.

    A bracket is a bracket: a key of several columns begins with one.
    """
    return next((entry for entry in limits.tenants or () if fnmatchcase(key, entry.replace("[", "[[]"))), None)


def write_rule(writes: Sequence[str], table: str, column: str | None) -> str | None:
    """The entry that allows it: `*`, the table, or `table.column` for an update of that column; None without.

    `column` is None for inserting and deleting whole rows.
    """
    good = {"*", table} if column is None else {"*", table, f"{table}.{column}"}
    return next((entry for entry in writes if entry in good), None)


def shown_target(table: str, column: str | None) -> str:
    """What would be changed, in words."""
    return f"whole rows of {table}" if column is None else f"{table}.{column}"


def _changed(gated: GatedStatement) -> list[tuple[str, str | None]]:
    """Every column that is assigned, and every table whose rows come or go; what may be either counts as the latter."""
    whole = gated.deletes | {table for table, _ in gated.inserts}
    if gated.kind == "merge":
        whole |= gated.writes
    columns = {(table, column) for table, column in gated.set_columns if table not in whole}
    unclear = gated.writes - whole - {table for table, _ in columns}
    return sorted([*((table, None) for table in whole | unclear), *columns], key=lambda one: (one[0], one[1] or ""))
