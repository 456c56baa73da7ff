"""The order in which a revert puts rows back where keys and unique values refer to each other; all the way to the receipt."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from mcp_server.reverting import RevertRefused
from shadow.embedded import EmbeddedServer
from shadow.fence import FenceRules
from tests.control import Urls
from tests.fixes import REP, WORDS, Fixes, fixes_on
from tests.postgres import MakeDatabase

TENANTS = "CREATE TABLE tenants(id int PRIMARY KEY, name text); INSERT INTO tenants VALUES (1, 'Acme'), (2, 'Globex');"
MakeFixes = Callable[[str], Fixes]


@pytest.fixture
def fixes(urls: Urls, production_database: MakeDatabase, postgres_server: EmbeddedServer) -> Iterator[MakeFixes]:
    """Makes a desk on a schema."""
    with ExitStack() as stack:

        def make(schema: str) -> Fixes:
            rules = FenceRules(root="tenants", label="name")
            return stack.enter_context(fixes_on(production_database(schema), urls.control, postgres_server, rules))

        yield make


#: What refers to what, and a fix whose inverse no order of single statements holds for without the keys' own actions.
CIRCLES = {
    "a referenced value that cascades": (
        "CREATE TABLE p(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, code text NOT NULL UNIQUE);"
        "CREATE TABLE c(id int PRIMARY KEY, code text NOT NULL REFERENCES p(code) ON UPDATE CASCADE, n int);"
        "CREATE TABLE d(code text NOT NULL REFERENCES p(code) ON UPDATE CASCADE, n int, PRIMARY KEY (code, n));"
        "INSERT INTO p VALUES (1, 1, 'A'), (2, 2, 'B'), (3, 1, 'C'); INSERT INTO c VALUES (1, 'A', 1), (2, 'B', 1), (3, 'C', 1);"
        "INSERT INTO d VALUES ('A', 1), ('A', 2), ('B', 1);",
        [
            "UPDATE p SET code = 'A2' WHERE id = 1", "UPDATE c SET n = 2 WHERE id = 1",
            "UPDATE c SET code = 'A2' WHERE id = 3", "INSERT INTO c(id, code, n) VALUES (4, 'A2', 1)",
            "DELETE FROM d WHERE n = 2",
        ],
    ),
    "deleted rows over a deferred key": (
        "CREATE TABLE teams(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, lead int NOT NULL);"
        "CREATE TABLE people(id int PRIMARY KEY, team int NOT NULL REFERENCES teams ON DELETE CASCADE);"
        "ALTER TABLE teams ADD FOREIGN KEY (lead) REFERENCES people DEFERRABLE INITIALLY DEFERRED;"
        "BEGIN; INSERT INTO teams VALUES (1, 1, 1), (2, 1, 2); INSERT INTO people VALUES (1, 1), (2, 2); COMMIT;",
        ["DELETE FROM teams WHERE id = 2"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CIRCLES)
def test_rows_that_refer_to_each_other_are_put_back(fixes: MakeFixes, name: str) -> None:
    definitions, statements = CIRCLES[name]
    made = fixes(TENANTS + definitions)
    before = made.rows()
    proposal_id = made.applied(statements)
    assert made.rows() != before
    assert made.reverted(proposal_id).not_put_back == ()
    assert made.rows() == before


#: Uniqueness that is not a plain key's: a table with two rows of the tenant, and a fix that moves a value between them.
MOVED = {
    "the default among many": (
        "CREATE TABLE u(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, v bool NOT NULL);"
        "CREATE UNIQUE INDEX ON u(tenant_id) WHERE v; INSERT INTO u VALUES (1, 1, true), (2, 1, false), (3, 2, true);",
        ["UPDATE u SET v = false WHERE id = 1", "UPDATE u SET v = true WHERE id = 2"],
    ),
    "the default to a new row": (
        "CREATE TABLE u(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, v bool NOT NULL);"
        "CREATE TABLE c(id int PRIMARY KEY, u int NOT NULL REFERENCES u ON DELETE CASCADE);"
        "CREATE UNIQUE INDEX ON u(tenant_id) WHERE v; INSERT INTO u VALUES (1, 1, true), (2, 1, false), (3, 2, true);"
        "INSERT INTO c VALUES (1, 1), (2, 2);",
        ["DELETE FROM u WHERE id = 1", "UPDATE u SET v = true WHERE id = 2"],
    ),
    "an address in other letters": (
        "CREATE TABLE u(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, v text NOT NULL);"
        "CREATE UNIQUE INDEX ON u(tenant_id, lower(v)); INSERT INTO u SELECT g, 1, 'v' || g FROM generate_series(1, 9) g;",
        ["UPDATE u SET v = 'z' WHERE id = 1", "UPDATE u SET v = 'V' || id - 1 WHERE id = 2", "UPDATE u SET v = 'v2' WHERE id = 3"],
    ),
    "a time that nobody else may have": (
        "CREATE EXTENSION btree_gist; CREATE TABLE u(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants,"
        " v int4range NOT NULL, EXCLUDE USING gist (tenant_id WITH =, v WITH &&));"
        "INSERT INTO u VALUES (1, 1, '[1,9)'), (2, 1, '[20,29)'), (3, 2, '[1,9)');",
        ["UPDATE u SET v = '[40,49)' WHERE id = 1", "UPDATE u SET v = '[3,5)' WHERE id = 2"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVED)
def test_values_that_were_moved_go_back_though_no_plain_key_tells_their_order(fixes: MakeFixes, name: str) -> None:
    definitions, statements = MOVED[name]
    made = fixes(TENANTS + definitions)
    before = made.rows()
    proposal_id = made.applied(statements)
    assert made.reverted(proposal_id).not_put_back == ()
    assert made.rows() == before


def test_values_exchanged_over_such_a_rule_are_refused_with_its_name(fixes: MakeFixes) -> None:
    made = fixes(
        TENANTS + "CREATE TABLE u(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, v text NOT NULL);"
        "CREATE UNIQUE INDEX only_one ON u(tenant_id, lower(v)); INSERT INTO u VALUES (1, 1, 'a'), (2, 1, 'b');"
    )
    proposal_id = made.applied([
        "UPDATE u SET v = 'z' WHERE id = 1", "UPDATE u SET v = 'a' WHERE id = 2", "UPDATE u SET v = 'b' WHERE id = 1",
    ])  # fmt: skip
    with pytest.raises(RevertRefused, match="only_one"):
        made.desk.revert(REP, proposal_id, WORDS)
    assert made.desk.list_dry_runs(REP, "open") == []
