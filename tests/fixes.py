"""A whole desk on real servers in one process, for tests of what happens after a fix was applied.

`Fixes` applies lists of statements the way people do: dry run, proposal, confirmation, replay.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from mcp_server.control.store import ControlStore
from mcp_server.desk import Desk
from mcp_server.dry_runs import DryRunSettings
from mcp_server.identity import Caller
from mcp_server.permissions import Permissions, Role
from mcp_server.policy import Policy
from mcp_server.production import Production
from mcp_server.reverting import RevertView
from mcp_server.shadows import Shadows, ShadowSettings
from shadow.embedded import EmbeddedServer
from shadow.fence import FenceRules
from shadow.sandbox import Sandbox, SandboxLimits
from tests.lifecycle import dump, installed

REP = Caller(name="rep", role="rep", channel="cli", client="test")
OTHER = Caller(name="other", role="rep", channel="cli", client="test")
WORDS = "that was a mistake, please put it back"


@dataclass(frozen=True, kw_only=True)
class Fixes:
    """A desk with its production."""

    desk: Desk
    owner_url: str
    tenant: str = "1"

    def rehearse(self, statements: Sequence[str], tenant: str | None = None) -> str:
        """A dry run with these steps."""
        dry_run = self.desk.start_dry_run(REP, tenant or self.tenant, "please", "a fix")
        for text in statements:
            self.desk.run(REP, dry_run.id, text, "as asked")
        return dry_run.id

    def confirm(self, dry_run_id: str) -> str:
        """Proposes a dry run and applies it; the proposal's id."""
        proposal = self.desk.propose(REP, dry_run_id)
        self.desk.confirm(REP, proposal.id, proposal.digest, proposal.rows)
        return proposal.id

    def applied(self, statements: Sequence[str]) -> str:
        """A fix from first step to receipt; the proposal's id."""
        return self.confirm(self.rehearse(statements))

    def reverted(self, proposal_id: str) -> RevertView:
        """Puts a proposal back, all the way."""
        made = self.desk.revert(REP, proposal_id, WORDS)
        self.confirm(made.dry_run.id)
        return made

    def rows(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of production, read by nobody of ours."""
        return dump(self.owner_url)

    def production(self, statement: str) -> list[tuple[object, ...]]:
        """Somebody else's statement on production."""
        with psycopg.connect(self.owner_url, autocommit=True) as conn:
            cursor = conn.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@contextmanager
def fixes_on(
    production_url: str,
    control_url: str,
    sandbox_server: EmbeddedServer,
    rules: FenceRules,
    tenant: str = "1",
    search_path: tuple[str, ...] = ("public",),
    pool: int = 0,
    max_open: int = 4,
) -> Iterator[Fixes]:
    """A desk on these databases; `control_url` is the migrated database as shadowdesk_control."""
    production = Production(installed(production_url, rules, search_path=search_path))
    sandbox = Sandbox(sandbox_server.owner_url, SandboxLimits(max_shadows=200), idle=max(pool, 2))
    shadows = Shadows(production, sandbox, sandbox_server.bin_dir, ShadowSettings(pool=pool, max_open=max_open))
    permissions = Permissions({"rep": Role(name="rep", permissions=("dry_run.*",), confirm=frozenset({"self"}))})
    try:
        with ControlStore.open(control_url) as control:
            earlier = {dry_run.id for dry_run in control.list_dry_runs(limit=10_000)}
            desk = Desk(
                settings=DryRunSettings(), production=production, shadows=shadows, control=control,
                permissions=permissions, policy=Policy((), permissions),
            )  # fmt: skip
            try:
                yield Fixes(desk=desk, owner_url=production_url, tenant=tenant)
            finally:
                desk.close()
                for dry_run in control.list_dry_runs(limit=10_000):  # other tests share this sandbox and its limit
                    if dry_run.id not in earlier:
                        shadows.drop(dry_run.id, dry_run.shadow_id)
    finally:
        shadows.close()
