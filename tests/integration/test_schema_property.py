"""For any schema and any edits: the shadow's diff is what the same statements do to a full copy, or it is a refusal.

SHADOWDESK_SCHEMA_EXAMPLES=300 looks at more schemas than the suite's few.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from hypothesis import HealthCheck, Phase, event, example, given, note, settings
from psycopg import sql

from mcp_server.errors import WrongState
from shadow.embedded import EmbeddedServer
from shadow.errors import StatementFailed, StatementRefused
from shadow.mirror import mirror_name
from tests.fixes import REP
from tests.postgres import databases_of
from tests.schemas.generated import PRELUDE, Edit, Made, businesses, composite
from tests.schemas.judge import Cell
from tests.schemas.whole import Way, made_way

EXAMPLES = int(os.environ.get("SHADOWDESK_SCHEMA_EXAMPLES", "5"))


@contextmanager
def way_on(control: str, production: EmbeddedServer, sandbox: EmbeddedServer, text: str) -> Iterator[Way]:
    """A production of this schema; nothing of it stays, not even its mirror."""
    with databases_of(production) as make, made_way(make, control, sandbox, text) as way:
        mirror = mirror_name(way.fence)
        yield way
    with psycopg.connect(sandbox.owner_url, autocommit=True) as admin:
        for (name,) in admin.execute("SELECT id FROM shadowdesk.shadows WHERE mirror = %s", (mirror,)).fetchall():
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(f"shadow_{name}")))
        admin.execute("DELETE FROM shadowdesk.shadows WHERE mirror = %s", (mirror,))
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(mirror)))


def fix(way: Way, edits: list[Edit], drawn: list[Cell]) -> None:
    """Runs the edits that are not refused and settles them."""
    dry_run = way.run()
    kept = []
    for one in edits:
        note(one.text)
        try:
            way.fixes.desk.run(REP, dry_run, one.text, "as asked")
        except (StatementRefused, StatementFailed) as told:
            note(f"  {told.happened}")
            event(f"step: {type(told).__name__}")
            continue
        event("step: kept")
        kept.append(one.plain)
    try:
        way.settled(dry_run, kept, drawn)
        event("fix: applied")
    except (WrongState, StatementFailed) as told:  # nothing changed, or no one transaction
        note(f"  {told.happened}")
        event(f"fix: {type(told).__name__}")
        way.fixes.desk.discard(REP, dry_run)
        way.same(drawn)


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 5, suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate), print_blob=False,  # to shrink means hundreds of databases
)  # fmt: skip
@given(business=businesses())
@example(business=composite())
def test_a_shadow_shows_what_the_statements_do(
    schemas_control: str,
    production_server: EmbeddedServer,
    postgres_server: EmbeddedServer,
    business: tuple[tuple[Made, ...], list[list[Edit]]],
) -> None:
    made, fixes = business
    text = PRELUDE + "\n".join(table.create() for table in made)
    note(text)
    drawn: list[Cell] = [("public.log", "id"), *(cell for table in made for cell in table.drawn)]
    with way_on(schemas_control, production_server, postgres_server, text) as way:
        for edits in fixes:
            fix(way, edits, drawn)
