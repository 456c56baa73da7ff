"""Links without a foreign key, polymorphic ones included, and rows for everybody: cloned, fenced, replayed, counted."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from mcp_server.recording import rules_from_json, rules_to_json
from shadow.embedded import EmbeddedServer
from shadow.errors import StatementRefused
from shadow.fence import FenceRules, TableRule, certificate
from shadow.links import FenceInvalid, LinkRule
from shadow.owners import count_rows
from tests.lifecycle import Lifecycle, installed
from tests.postgres import MakeDatabase

TENANTS = "CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL); INSERT INTO tenants VALUES (1,'a'),(2,'b');"
#: Comments on posts and, one hop further, on their pictures; which one a number in a reference table says.
POLYMORPHIC = """
CREATE TABLE posts(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants(id));
CREATE TABLE pictures(id int PRIMARY KEY, post_id int NOT NULL REFERENCES posts(id));
CREATE TABLE kinds(id int PRIMARY KEY, model text NOT NULL);
CREATE TABLE comments(id int PRIMARY KEY, kind_id int NOT NULL, object_id int NOT NULL, body text);
INSERT INTO posts VALUES (1,1),(2,2); INSERT INTO pictures VALUES (1,2),(2,1);
INSERT INTO kinds VALUES (7,'post'),(8,'picture'),(9,'tenant');
INSERT INTO comments VALUES (1,7,1,'post 1'),(2,7,2,'post 2'),(3,8,1,'picture 1'),(4,8,2,'picture 2'),(5,9,1,'lost');
"""
BY_NUMBER = TableRule(
    via=(
        LinkRule(to="object_id -> posts.id", lookup="kind_id -> kinds.id", when="model = 'post'"),
        LinkRule(to="object_id -> pictures.id", lookup="kind_id -> kinds.id", when="model = 'picture'"),
    )
)
ROLES = """
CREATE TABLE roles(id int PRIMARY KEY, tenant_id int REFERENCES tenants(id), name text NOT NULL);
CREATE TABLE people(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants(id), role_id int REFERENCES roles(id));
INSERT INTO roles VALUES (1,NULL,'owner'),(2,1,'mine'),(3,2,'theirs'),(4,NULL,'guest');
INSERT INTO people VALUES (1,1,1),(2,1,2),(3,2,3);
"""
Start = Callable[..., tuple[Lifecycle, str]]


@pytest.fixture
def start(production_database: MakeDatabase, postgres_server: EmbeddedServer) -> Iterator[Start]:
    """Starts tenant 1's dry run on a fresh production with the given tables; also returns the owner's URL."""
    started: list[Lifecycle] = []

    def begin(tables: str, **rules: TableRule) -> tuple[Lifecycle, str]:
        url = production_database(TENANTS + tables)
        settings = installed(url, FenceRules(root="tenants", label="name", tables=rules))
        started.append(Lifecycle(settings=settings, sandbox_server=postgres_server, tenant="1"))
        return started[-1], url

    yield begin
    for life in started:
        life.close()


def ids(life: Lifecycle, table: str) -> list[str | None]:
    """The ids that the shadow shows of a table."""
    found = life.query(f"SELECT id FROM {table} ORDER BY id").rows
    assert found is not None
    return [row[0] for row in found.rows]


def test_a_number_in_a_reference_table_decides_the_parent(start: Start) -> None:
    life, url = start(POLYMORPHIC, comments=BY_NUMBER)
    assert ids(life, "comments") == ["1", "4"]
    assert life.shadow.fence.tables["kinds"].fence_class == "shared"
    life.run("UPDATE comments SET body = upper(body)")
    with pytest.raises(StatementRefused) as told:
        life.run("UPDATE kinds SET model = 'post'")
    assert "kinds" in str(told.value)
    frozen, _ = life.freeze()
    life.replay(frozen)
    with psycopg.connect(url) as conn:
        rows = conn.execute("SELECT id, body FROM comments ORDER BY id").fetchall()
    assert rows == [(1, "POST 1"), (2, "post 2"), (3, "picture 1"), (4, "PICTURE 2"), (5, "lost")]


def test_a_row_cannot_be_turned_to_another_tenants_parent(start: Start) -> None:
    life, _ = start(POLYMORPHIC, comments=BY_NUMBER)
    with pytest.raises(Exception, match="leave the tenant's fence") as told:
        life.run("UPDATE comments SET kind_id = 8 WHERE id = 1")
    assert "44000" in str(told.value)


def test_a_domain_tool_finds_the_tenant_by_any_of_the_paths(start: Start) -> None:
    life, _ = start(POLYMORPHIC, comments=BY_NUMBER)
    assert [life.production.tenant_of("comments.id", n) for n in ("1", "2", "3", "4")] == ["1", "2", "2", "1"]


def test_counting_finds_rows_of_nobody_and_of_several_tenants(start: Start) -> None:
    two_paths = (
        "CREATE TABLE a(id int PRIMARY KEY, tenant_id int REFERENCES tenants(id));"
        "CREATE TABLE b(id int PRIMARY KEY, x int REFERENCES a(id), y int REFERENCES a(id));"
        "INSERT INTO a VALUES (1,1),(2,2),(3,NULL); INSERT INTO b VALUES (1,1,1),(2,1,2),(3,NULL,NULL),(4,NULL,2);"
    )
    life, _ = start(two_paths + POLYMORPHIC, comments=BY_NUMBER)
    with life.production.reader() as conn:
        counts = {c.table: (c.rows, c.owned, c.nobody, c.contradicted) for c in count_rows(conn, life.shadow.fence)}
    assert counts["a"] == (3, 2, 1, 0)
    assert counts["b"] == (4, 2, 1, 1)
    assert counts["comments"] == (5, 4, 1, 0)


def test_rows_without_a_tenant_are_read_by_everybody_and_written_by_nobody(start: Start) -> None:
    life, url = start(ROLES, roles=TableRule(null_tenant="everybody"))
    assert ids(life, "roles") == ["1", "2", "4"]
    assert ids(life, "people") == ["1", "2"]
    for statement in (
        "UPDATE roles SET name = 'x'", "DELETE FROM roles WHERE id = 4", "UPDATE roles SET tenant_id = NULL WHERE id = 2",
        "INSERT INTO roles (id, tenant_id, name) VALUES (9, NULL, 'all')",
    ):  # fmt: skip
        with pytest.raises(StatementRefused):
            life.run(statement)
    life.run("UPDATE people SET role_id = 1")
    life.run("UPDATE roles SET name = 'ours' WHERE id = 2")
    frozen, _ = life.freeze()
    life.replay(frozen)
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT name FROM roles ORDER BY id").fetchall() == [
            ("owner",),
            ("ours",),
            ("theirs",),
            ("guest",),
        ]
        assert conn.execute("SELECT role_id FROM people ORDER BY id").fetchall() == [(1,), (1,), (3,)]


def test_without_the_setting_rows_without_a_tenant_are_nobodys(start: Start) -> None:
    life, _ = start(ROLES)
    assert ids(life, "roles") == ["2"]
    assert ids(life, "people") == ["2"]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (TableRule(via="object_id => posts.id"), "write it as"),
        (TableRule(via=("object_id -> posts.id", "object_id -> kinds.id")), "kinds does not lead to a tenant"),
        (TableRule(via=(LinkRule(to="object_id -> posts.id", lookup="kind_id -> kinds.id"),)), "needs `when`"),
        (TableRule(via="object_id -> posts.id", null_tenant="everybody"), "only a table with the tenant's column"),
    ],
)
def test_a_rule_that_does_not_fit_is_told(rule: TableRule, told: str, database: MakeDatabase) -> None:
    from shadow.catalog import read_catalog
    from shadow.fence import build_fence

    with psycopg.connect(database(TENANTS + POLYMORPHIC)) as conn, pytest.raises(FenceInvalid, match=told):
        build_fence(read_catalog(conn, ["public"]), FenceRules(root="tenants", tables={"comments": rule}))


def test_the_certificate_names_declared_links_and_a_recording_keeps_them(start: Start) -> None:
    life, _ = start(POLYMORPHIC, comments=BY_NUMBER)
    told = certificate(life.shadow.fence)
    assert "declared through (kind_id) -> kinds(id), when model = 'picture'" in told
    rules = life.settings.rules
    assert rules_from_json(rules_to_json(rules)) == rules
