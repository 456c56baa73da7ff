"""Migrating the control database: again, at once, and with no more rights than each role needs."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import MetaData

from mcp_server.control.connections import control_engine
from mcp_server.control.migrate import AUDIT_ROLE, CONTROL_ROLE, migrate, newest
from mcp_server.control.tables import METADATA
from mcp_server.errors import ConfigurationInvalid
from tests.control import AUDIT_PASSWORD, CONTROL_PASSWORD, as_role, execute, migrated
from tests.postgres import MakeDatabase


def test_migrating_again_keeps_what_is_there(database: MakeDatabase) -> None:
    urls = migrated(database())
    execute(
        urls.control, "INSERT INTO control.page_sessions VALUES (repeat('a', 64), 'rep', now(), now() + interval '1h')"
    )
    assert migrated(urls.owner) == urls
    assert execute(urls.control, "SELECT person FROM control.page_sessions") == [("rep",)]
    assert execute(urls.owner, "SELECT version_num FROM control.version") == [("0003",)]


def test_the_last_file_is_the_version_that_alembic_would_migrate_to() -> None:
    config = Config()
    config.set_main_option("script_location", "mcp_server.control:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [newest()]


def test_servers_that_start_at_once_migrate_one_after_the_other(database: MakeDatabase) -> None:
    owners = [database(), database()] * 2
    with ProcessPoolExecutor(len(owners), mp_context=get_context("spawn")) as servers:
        all_urls = list(servers.map(migrated, owners))
    for urls in all_urls:
        assert execute(urls.control, "SELECT count(*) FROM control.dry_runs") == [(0,)]
        assert execute(urls.audit, "SELECT count(*) FROM audit.events") == [(0,)]


def test_sqlalchemy_knows_the_tables_as_they_are(database: MakeDatabase) -> None:
    urls = migrated(database())
    engine = control_engine(urls.owner)
    found = MetaData(schema="control")
    found.reflect(engine)
    engine.dispose()
    dialect = engine.dialect

    def shape(metadata: MetaData) -> dict[str, list[tuple[str, str, bool, bool]]]:
        return {
            name: [(c.name, c.type.compile(dialect), bool(c.nullable), c.primary_key) for c in table.columns]
            for name, table in metadata.tables.items()
            if name != "control.version"
        }

    assert shape(found) == shape(METADATA)


FORBIDDEN = [
    "SELECT FROM audit.events",
    "INSERT INTO audit.events (data, call_id, kind) VALUES ('', '', 'intent')",
    "CREATE TABLE control.other ()",
    "CREATE SCHEMA other",
    "ALTER TABLE control.dry_runs DISABLE TRIGGER ALL",
    "SET session_replication_role = replica",
    "UPDATE control.version SET version_num = '0'",
    *(
        f"{verb} control.{table}"
        for table in ("dry_runs", "statements", "proposals", "proposal_rows", "proposal_statements", "confirmations")
        for verb in ("DELETE FROM", "TRUNCATE")
    ),
    "DELETE FROM control.escalations",
    "DELETE FROM control.personal_tokens",
    "UPDATE control.personal_tokens SET expires_at = 'infinity'",
    "UPDATE control.proposals SET policy_version = NULL",
]


def test_the_control_role_may_change_nothing_but_what_its_work_needs(database: MakeDatabase) -> None:
    urls = migrated(database())
    for statement in FORBIDDEN:
        with pytest.raises(InsufficientPrivilege):
            execute(urls.control, statement)


def test_both_roles_are_ordinary_and_need_their_password(database: MakeDatabase) -> None:
    urls = migrated(database())
    roles = "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls FROM pg_roles WHERE rolname = ANY (%s)"
    assert execute(urls.owner, roles, [CONTROL_ROLE, AUDIT_ROLE]) == [(False,), (False,)]
    for role in (CONTROL_ROLE, AUDIT_ROLE):
        with pytest.raises(psycopg.OperationalError):
            execute(as_role(urls.owner, role, "another password"), "SELECT 1")


def test_passwords_are_hashed_before_they_are_sent(database: MakeDatabase) -> None:
    urls = migrated(database())
    for password in execute(urls.owner, "SELECT passwd FROM pg_shadow WHERE usename LIKE 'shadowdesk_%'"):
        assert str(password[0]).startswith("SCRAM-SHA-256$")


def test_a_user_that_may_not_migrate_is_told_so(database: MakeDatabase) -> None:
    urls = migrated(database())
    with pytest.raises(ConfigurationInvalid, match="owns the database"):
        migrate(urls.control, CONTROL_PASSWORD, AUDIT_PASSWORD)
