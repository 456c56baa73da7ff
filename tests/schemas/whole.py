"""The whole way of one fix on one schema: dry run, steps, diff, proposal, confirmation, replay, judged independently.

A pytest plugin named in tests/conftest.py; its fixture `whole_way` is used by tests/integration/test_schema_*.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest
from psycopg.conninfo import conninfo_to_dict

from differ.model import Diff
from shadow.embedded import EmbeddedServer
from shadow.fence import Fence, FenceRules
from tests.control import roles_of
from tests.fixes import REP, Fixes, fixes_on
from tests.postgres import MakeDatabase, databases_of
from tests.schemas.judge import Cell, Picture, assert_says, masked, picture, run_plainly

FOLDER = Path(__file__).parent
TENANTS = FenceRules(root="tenants", label="name")


def schema(name: str, block: str | None = None) -> str:
    """One schema of tests/schemas, or the block of that name in it after the tenants."""
    text = (FOLDER / f"{name}.sql").read_text()
    if block is None:
        return text
    return _blocks((FOLDER / "structure.sql").read_text())["tenants"] + _blocks(text)[block]


def _blocks(text: str) -> dict[str, str]:
    return {part.partition("\n")[0].strip(): part.partition("\n")[2] for part in text.split("-- name: ")[1:]}


@dataclass(frozen=True, kw_only=True)
class Applied:
    """A fix that went all the way: its confirmed diff and production before and after."""

    diff: Diff
    before: Picture
    after: Picture

    def origins(self, table: str) -> set[str]:
        """Where the changes of one table came from, without step numbers."""
        return {o.rsplit(" ", 1)[0] for row in self.diff.rows if row.table == table for o in row.origins}


@dataclass(frozen=True, kw_only=True)
class Way:
    """A desk on one production database and a full copy of it to run plain statements on."""

    fixes: Fixes
    copy_url: str
    schemas: tuple[str, ...]
    #: When the plain statements ran on the copy.
    times: list[str] = field(default_factory=list)

    @property
    def fence(self) -> Fence:
        """The fence as the desk sees it now."""
        return self.fixes.desk.production.fence()

    def run(self, *statements: str) -> str:
        """An open dry run with these steps; its id."""
        return self.fixes.rehearse(statements)

    def applied(self, *statements: str, plain: Sequence[str] | None = None, drawn: Sequence[Cell] = ()) -> Applied:
        """Applies the statements and asserts that production equals its copy after `plain`, and the diff both.

        `plain` are the statements as somebody without a fence would write them (default: the same); `drawn` names
        columns that triggers or clocks of a statement's text fill differently on the copy: (schema.table, column).
        """
        before = self.same(drawn)
        dry_run = self.run(*statements)
        assert self.production() == before, "a dry run wrote production"
        return self.settled(dry_run, plain or statements, drawn)

    def production(self) -> Picture:
        """Every row of production, with the times of our replays as `<clock>`."""
        receipts = self.fixes.production("SELECT applied_at::text FROM shadowdesk.receipts")
        return picture(self.fixes.owner_url, self.schemas, [str(time) for (time,) in receipts])

    def same(self, drawn: Sequence[Cell] = ()) -> Picture:
        """Production as it is now, asserted to equal its copy."""
        found = self.production()
        assert masked(found, set(drawn)) == masked(picture(self.copy_url, self.schemas, self.times), set(drawn))
        return found

    def settled(self, dry_run: str, plain: Sequence[str], drawn: Sequence[Cell] = ()) -> Applied:
        """Proposes and confirms a dry run whose steps are `plain` on the copy; see `applied`."""
        before = self.production()
        seen = self.fixes.desk.diff(REP, dry_run, page_size=10_000)
        proposal = self.fixes.desk.propose(REP, dry_run)
        diff = proposal.diff
        assert diff.tables_root == seen.tables_root or proposal.rehearsal_notes
        self.fixes.desk.confirm(REP, proposal.id, proposal.digest, proposal.rows)
        self.times.append(run_plainly(self.copy_url, plain, self.schemas))
        after = self.same(drawn)
        names, keys = _names(self.fence)
        assert_says(diff, before, after, names, keys)
        return Applied(diff=diff, before=before, after=after)


def _names(fence: Fence) -> tuple[Mapping[str, str], Mapping[str, tuple[str, ...]]]:
    return (
        {name: f"{t.table.schema}.{t.table.relation}" for name, t in fence.tables.items()},
        {name: t.table.key for name, t in fence.tables.items()},
    )


class WholeWay(Protocol):
    """Makes a production of this schema, its copy and a desk."""

    def __call__(
        self,
        sql: str,
        rules: FenceRules = TENANTS,
        tenant: str = "1",
        search_path: tuple[str, ...] = ("public",),
    ) -> Way: ...


@pytest.fixture(scope="session")
def schemas_control(postgres_server: EmbeddedServer, migrated_template: str) -> Iterator[str]:
    """One control database for all schema tests."""
    with databases_of(postgres_server) as make:
        yield roles_of(make(template=migrated_template)).control


@contextmanager
def made_way(
    make: MakeDatabase,
    control_url: str,
    sandbox: EmbeddedServer,
    sql: str,
    rules: FenceRules = TENANTS,
    tenant: str = "1",
    search_path: tuple[str, ...] = ("public",),
) -> Iterator[Way]:
    """A way on fresh databases."""
    production_url = make(sql)
    name = str(conninfo_to_dict(production_url)["dbname"])
    copy_url = make(template=name)
    with fixes_on(production_url, control_url, sandbox, rules, tenant, search_path) as fixes:
        yield Way(fixes=fixes, copy_url=copy_url, schemas=search_path)


@pytest.fixture
def whole_way(
    schemas_control: str, production_database: MakeDatabase, postgres_server: EmbeddedServer
) -> Iterator[WholeWay]:
    """Factory of ways; everything is dropped at the test's end."""
    with ExitStack() as stack:

        def make(
            sql: str, rules: FenceRules = TENANTS, tenant: str = "1", search_path: tuple[str, ...] = ("public",)
        ) -> Way:
            return stack.enter_context(
                made_way(production_database, schemas_control, postgres_server, sql, rules, tenant, search_path)
            )

        yield make
