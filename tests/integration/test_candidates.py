"""Two candidate fixes side by side, and a dry run begun from a step of another."""

from collections.abc import Iterator

import pytest

from mcp_server.comparing import Comparison
from mcp_server.errors import NotFound, WrongState
from mcp_server.tools.candidate_words import branch, comparison
from shadow.embedded import EmbeddedServer
from shadow.errors import StatementFailed
from shadow.fence import FenceRules
from tests.control import Urls
from tests.fixes import OTHER, REP, Fixes, fixes_on
from tests.integration.test_revert import CLOCKED, SHOP
from tests.postgres import MakeDatabase


@pytest.fixture
def shop(
    request: pytest.FixtureRequest, urls: Urls, production_database: MakeDatabase,
    postgres_server: EmbeddedServer,
) -> Iterator[Fixes]:  # fmt: skip
    url = production_database(getattr(request, "param", SHOP))
    with fixes_on(url, urls.control, postgres_server, FenceRules(root="tenants")) as made:
        yield made


def compared(shop: Fixes, one: list[str], other: list[str]) -> Comparison:
    return shop.desk.compare_dry_runs(REP, shop.rehearse(one), shop.rehearse(other))


def test_rows_only_in_one_alike_and_different(shop: Fixes) -> None:
    found = compared(
        shop,
        [
            "UPDATE accounts SET note = 'same', total = 1 WHERE id = 2",
            "UPDATE accounts SET note = 'a' WHERE id = 4",
            "UPDATE accounts SET note = 'both' WHERE id = 6",
            "DELETE FROM contracts WHERE id = 3",
            "INSERT INTO accounts(name) VALUES ('new')",
        ],
        [
            "UPDATE accounts SET note = 'same' WHERE id = 2",
            "UPDATE accounts SET note = 'b', name = 'b' WHERE id = 4",
            "UPDATE accounts SET note = 'both' WHERE id = 6",
            "UPDATE contracts SET active = false WHERE id = 3",
            "INSERT INTO accounts(name) VALUES ('new')",
            "INSERT INTO accounts(name) VALUES ('other')",
        ],
    )
    cells = {
        (p.table, *p.key[0]): [(c.column, c.after_a, c.after_b, c.unchanged_in) for c in p.cells]
        for p in found.different
    }
    assert [cell[::3] for cell in cells["accounts", "id", "2"]] == [("total", "b")]
    assert cells["accounts", "id", "4"] == [("note", "a", "b", None), ("name", "a4", "b", "a")]
    kinds = {p.table: (p.kind_a, p.kind_b) for p in found.different}
    assert kinds["contracts"] == ("delete", "update")
    assert (found.same, found.same_but_drawn, found.complete) == (1, 1, True)
    assert [row.cells[2].after for row in found.only_b] == ["other"]
    assert {row.table for row in found.only_a} == {"lines"}
    assert not found.same_base
    told = comparison(found, 20)
    assert "Only B adds accounts" in told and "note: was" in told and "different times" in told


@pytest.mark.parametrize("shop", [CLOCKED], indirect=True)
def test_clock_cells_are_alike_and_side_effects_counted(shop: Fixes) -> None:
    found = compared(
        shop, ["UPDATE docs SET body = 'x' WHERE id = 2"],
        ["UPDATE docs SET body = 'x' WHERE id = 2", "UPDATE docs SET body = 'x' WHERE id = 4"],
    )  # fmt: skip
    assert (found.same, len(found.different), len(found.only_a), len(found.only_b)) == (1, 0, 0, 1)
    [outbox] = found.side_effects
    assert (outbox.table, outbox.a, outbox.b) == ("outbox", 1, 2)


def test_only_two_dry_runs_of_one_tenant_that_one_may_see(shop: Fixes) -> None:
    mine, theirs = shop.rehearse([]), shop.rehearse([], tenant="2")
    with pytest.raises(WrongState, match="different tenants"):
        shop.desk.compare_dry_runs(REP, mine, theirs)
    with pytest.raises(WrongState, match="same dry run"):
        shop.desk.compare_dry_runs(REP, mine, mine)
    with pytest.raises(NotFound):
        shop.desk.compare_dry_runs(OTHER, mine, theirs)


def test_a_branch_has_the_first_steps_with_the_values_they_drew(shop: Fixes) -> None:
    origin = shop.rehearse([
        "INSERT INTO accounts(name, note) VALUES ('new', now()::text)",
        "UPDATE accounts SET parent_id = (SELECT id FROM accounts WHERE name = 'new') WHERE id = 2",
        "DELETE FROM contracts WHERE id = 3",
    ])  # fmt: skip
    first = shop.desk.diff(REP, origin, 1).rows[0]
    made = shop.desk.branch_dry_run(REP, origin, 2)
    assert (made.dry_run.steps, made.dry_run.request, made.notes) == (2, "please", ())
    assert f"Branch of {origin} after step 2" in made.dry_run.purpose
    assert shop.desk.diff(REP, made.dry_run.id, 1).rows[0].cells == first.cells
    kept = [(s.step, s.text, s.pins, s.reason) for s in shop.desk.statements(REP, made.dry_run.id)]
    assert kept == [(s.step, s.text, s.pins, s.reason) for s in shop.desk.statements(REP, origin)[:2]]
    shop.desk.run(REP, made.dry_run.id, "UPDATE contracts SET active = false WHERE id = 3", "another way")
    assert len(shop.desk.statements(REP, origin)) == 3
    both = shop.desk.compare_dry_runs(REP, origin, made.dry_run.id)
    assert both.same == 2
    assert f"steps 1 to 2 of {origin}" in branch(made)
    shop.confirm(made.dry_run.id)
    assert shop.production("SELECT id::text FROM accounts WHERE name = 'new'") == [(first.key[0][1],)]


def test_a_step_that_does_not_run_on_todays_rows_leaves_no_branch(shop: Fixes) -> None:
    origin = shop.rehearse(["INSERT INTO accounts(name) VALUES ('taken')", "UPDATE accounts SET note = 'x'"])
    with pytest.raises(WrongState, match="no kept step 3"):
        shop.desk.branch_dry_run(REP, origin, 3)
    with pytest.raises(NotFound):
        shop.desk.branch_dry_run(OTHER, origin, 1)
    shop.production("INSERT INTO accounts(tenant_id, name) VALUES (1, 'taken')")
    runs = len(shop.desk.list_dry_runs(REP, "open"))
    with pytest.raises(StatementFailed, match="Step 1 does not run"):
        shop.desk.branch_dry_run(REP, origin, 1)
    assert len(shop.desk.list_dry_runs(REP, "open")) == runs


def test_a_branch_says_which_steps_count_other_rows_now(shop: Fixes) -> None:
    origin = shop.rehearse(["UPDATE contracts SET active = false WHERE active"])
    shop.production("UPDATE contracts SET active = false WHERE id = 1")
    [note] = shop.desk.branch_dry_run(REP, origin, 1).notes
    assert note == "Step 1 counts 7 rows here and 8 there."
