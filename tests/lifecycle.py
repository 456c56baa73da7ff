"""One fix from statement to receipt on real servers, without the server around it: the tests' way through the leaves.

`Lifecycle` clones, runs, diffs, undoes, rehearses and replays; `dump` reads every row independently of all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from differ.digest import digest
from differ.frozen import frozen_rows
from differ.model import Diff
from differ.net import net_diff, step_diff
from mcp_server.images import step_clocks, table_images
from mcp_server.install import APPLIER, READER, install
from mcp_server.production import Production, ProductionSettings
from mcp_server.shadows import Shadows, ShadowSettings
from mcp_server.surface import gate_surface
from shadow.drawn import forget_drawn, made_by_triggers, note_given, rehearse_again
from shadow.embedded import EmbeddedServer
from shadow.fence import FenceRules
from shadow.freshness import looked_at
from shadow.gate import gate
from shadow.rehearsal import Recorded, drawn, rehearse
from shadow.replay import Frozen, Receipt, ReplayLimits, replay
from shadow.replay_rows import TouchedRow
from shadow.replay_session import open_session
from shadow.run import Ran, fill_pins, run_query, run_step
from shadow.sandbox import Sandbox, SandboxLimits, new_id
from shadow.shadow import Shadow

PASSWORDS = {READER: "reader-password", APPLIER: "applier-password"}


def installed(owner_url: str, rules: FenceRules, *, search_path: tuple[str, ...] = ("public",)) -> ProductionSettings:
    """Production with our roles and receipts installed, as an operator would."""
    with psycopg.connect(make_conninfo(owner_url, dbname="postgres"), autocommit=True) as guard:
        # Roles belong to the whole server: parallel tests take turns.
        guard.execute("SELECT pg_advisory_lock(20)")
        install(owner_url, search_path, PASSWORDS)
        # The sandbox may be on the same server: it is refused while PUBLIC may connect.
        database = sql.Identifier(str(conninfo_to_dict(owner_url)["dbname"]))
        guard.execute(sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))
    return ProductionSettings(
        reader_url=make_conninfo(owner_url, user=READER, password=PASSWORDS[READER]),
        applier_url=make_conninfo(owner_url, user=APPLIER, password=PASSWORDS[APPLIER]),
        rules=rules,
        search_path=search_path,
    )


def dump(owner_url: str, schemas: Sequence[str] = ("public",)) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table as text, sorted: an independent picture of production."""
    with psycopg.connect(owner_url) as conn:
        tables = conn.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname = ANY(%s) ORDER BY 1, 2",
            (list(schemas),),
        ).fetchall()
        return {
            name: sorted(
                conn.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, name))).fetchall()
            )
            for schema, name in tables
        }


@dataclass
class Lifecycle:
    """One tenant's dry run on a real shadow."""

    settings: ProductionSettings
    sandbox_server: EmbeddedServer
    tenant: str
    allow_functions: frozenset[str] = frozenset()
    steps: list[Recorded] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.production = Production(self.settings)
        self.sandbox = Sandbox(self.sandbox_server.owner_url, SandboxLimits(), idle=2)
        self.shadows = Shadows(
            self.production,
            self.sandbox,
            self.sandbox_server.bin_dir,
            ShadowSettings(pool=0),
        )
        self.shadow: Shadow
        try:
            self.shadow, self.mirror = self.shadows.start(self.tenant)
        except BaseException:
            self.shadows.close()
            raise
        self.shadows.keep("test", self.shadow)

    def close(self) -> None:
        """Drops the shadow."""
        self.shadows.drop("test", self.shadow.id)
        self.shadows.close()

    def run(self, text: str, params: Sequence[str | None] = ()) -> Ran:
        """One kept step."""
        surface = gate_surface(self.shadow.fence, self.tenant, self.allow_functions)
        gated = fill_pins(self.shadow, gate(text, tuple(params), surface))
        ran = run_step(self.shadow, gated, len(self.steps) + 1)
        self.steps.append(Recorded(step=len(self.steps) + 1, gated=gated, row_count=ran.row_count))
        return ran

    def query(self, text: str, params: Sequence[str | None] = (), limit: int = 100) -> Ran:
        """One read."""
        surface = gate_surface(self.shadow.fence, self.tenant, self.allow_functions)
        return run_query(self.shadow, gate(text, tuple(params), surface, query=True), limit)

    def undo(self, to_step: int) -> None:
        """Back to the end of a step."""
        self.shadow.undo_to(to_step)
        del self.steps[to_step:]

    @property
    def sets(self) -> frozenset[tuple[str, str]]:
        """Columns the kept statements assign."""
        return frozenset(pair for step in self.steps for pair in step.gated.set_columns)

    def net(self, *, rehearsal: bool = False, page_size: int = 1_000_000) -> Diff:
        """The net diff, with that many rows."""
        return net_diff(
            self.shadow.owner,
            table_images(self.shadow),
            clocks=step_clocks(self.shadow, None, rehearsal=rehearsal),
            set_columns=self.sets,
            rehearsal=rehearsal,
            page_size=page_size,
        )

    def step(self, number: int) -> Diff:
        """One step's own diff."""
        return step_diff(
            self.shadow.owner,
            table_images(self.shadow),
            number,
            clocks=step_clocks(self.shadow, [number], rehearsal=False),
            set_columns=self.steps[number - 1].gated.set_columns,
            page_size=1_000_000,
        )

    def freeze(self) -> tuple[Frozen, Diff]:
        """The rehearsal and what a proposal would freeze of it."""
        forget_drawn(self.shadow)
        stepped = self.net(page_size=0)
        made = made_by_triggers(self.shadow, rehearsal=False)
        rehearsed = rehearse(self.shadow, self.steps)
        note_given(self.shadow, made)
        diff = self.net(rehearsal=True)
        if stepped.tables_root != diff.tables_root:
            rehearsed = rehearse_again(self.shadow, self.steps, rehearsed, self.sets)
            diff = self.net(rehearsal=True)
        rows = frozen_rows(
            self.shadow.owner,
            table_images(self.shadow),
            clocks=step_clocks(self.shadow, None, rehearsal=True),
            set_columns=self.sets,
        )
        touched = [
            TouchedRow(table=r.table, key=r.key, before=r.before, after=r.after, kinds=tuple(r.kinds)) for r in rows
        ]
        frozen = Frozen(
            proposal_id=f"pr_{new_id()}",
            digest=digest({"tenant": self.tenant, "statements": [], "measures": []}, diff.tables_root),
            tenant_key=self.tenant,
            confirmed_by="a person",
            statements=tuple(self.steps),
            row_counts=rehearsed.row_counts,
            draws=drawn(self.shadow),
            counters=rehearsed.counters,
            rows=touched,
            fingerprint=self.shadow.fence.catalog.fingerprint,
            changed_rows=diff.total_rows - diff.side_effects,
            looked=looked_at(self.shadow),
        )
        return frozen, diff

    def replay(self, frozen: Frozen, limits: ReplayLimits | None = None) -> Receipt:
        """Production's one transaction."""
        assert self.settings.applier_url is not None
        with open_session(self.settings.applier_url, self.settings.search_path, frozen.proposal_id) as session:
            fence, definitions = self.production.fence(), self.production.fingerprint
            return replay(session, fence, frozen, limits or ReplayLimits(), definitions)
