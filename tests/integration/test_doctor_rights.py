"""Rights that are missing or too many are found by trying them, and the tries leave nothing behind."""

import psycopg

from mcp_server.doctor_rights import applier_rights, audit_rights, conditions, reader_rights
from mcp_server.production import Production
from shadow.fence import FenceRules, TableRule
from tests.control import Urls
from tests.lifecycle import installed
from tests.postgres import MakeDatabase

APP = (
    "CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL); INSERT INTO tenants VALUES (1,'a');"
    "CREATE TABLE notes(id int PRIMARY KEY, kind text, owner_id int); INSERT INTO notes VALUES (1,'t',1);"
)
RULES = FenceRules(root="tenants", tables={"notes": TableRule(via="owner_id -> tenants.id", when="kind = 't'")})


def everything(url: str) -> list[tuple[object, ...]]:
    """Schemas, tables and rows of the database."""
    with psycopg.connect(url) as conn:
        found = conn.execute("SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace")
        return [*sorted(found.fetchall()), *conn.execute("SELECT * FROM notes").fetchall()]


def test_rights_too_many_and_missing_are_found_and_nothing_is_left_behind(database: MakeDatabase) -> None:
    url = database(APP)
    settings = installed(url, RULES)
    before = everything(url)

    def wrong() -> set[str]:
        with (
            psycopg.connect(settings.reader_url, autocommit=True) as reader,
            psycopg.connect(settings.applier_url or "", autocommit=True) as applier,
        ):
            checks = [*reader_rights(reader, ("public",)), *applier_rights(applier, ("public",))]
        assert all(check.mend for check in checks if not check.ok)
        return {check.name for check in checks if not check.ok}

    assert wrong() == set()
    assert everything(url) == before
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("GRANT DELETE ON notes TO shadowdesk_reader; GRANT CREATE ON SCHEMA public TO shadowdesk_applier")
        conn.execute("REVOKE DELETE ON notes FROM shadowdesk_applier")
        conn.execute("GRANT DELETE ON shadowdesk.receipts TO shadowdesk_applier")
    assert wrong() == {
        "reader was refused a DELETE everywhere", "applier may change every app table",
        "applier may not make a table among the app's", "applier may not take receipts back",
    }  # fmt: skip
    assert everything(url) == before


def test_a_condition_that_production_does_not_understand_is_found(database: MakeDatabase) -> None:
    settings = installed(database(APP), RULES)
    production = Production(settings)
    with production.reader() as conn:
        assert [check.ok for check in conditions(conn, production.fence())] == [True]
        broken = FenceRules(root="tenants", tables={"notes": TableRule(via="owner_id -> tenants.id", when="knd = 't'")})
        other = Production(type(settings)(reader_url=settings.reader_url, rules=broken))
        [check] = conditions(conn, other.fence())
    production.close()
    other.close()
    assert (check.ok, check.detail) == (False, "notes")


def test_neither_control_role_may_change_the_audit_trail(urls: Urls) -> None:
    checks = [*audit_rights("control", urls.control), *audit_rights("audit", urls.audit)]
    assert len(checks) == 6
    assert [check.name for check in checks if not check.ok] == []
    found = [*audit_rights("owner", urls.owner)]
    assert not all(check.ok for check in found)
