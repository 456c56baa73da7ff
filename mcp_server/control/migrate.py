"""Brings the control database up to date: roles, schemas, tables, rights; called at start and by `shadowdesk install`.

The owner's URL is used here only; afterwards the server connects as shadowdesk_control and shadowdesk_audit.
"""

from importlib.resources import files
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, NullPool, create_engine, exc

from mcp_server.errors import ConfigurationInvalid

CONTROL_ROLE = "shadowdesk_control"
AUDIT_ROLE = "shadowdesk_audit"

#: Two servers that start at once migrate one after the other; the number is ours alone.
_LOCK = 0x5348444D
#: Roles belong to the whole server, the lock to one database: elsewhere somebody may alter the same role right now.
_ATTEMPTS = 20


def migrate(owner_url: str, control_password: str, audit_password: str) -> None:
    """Creates what is missing and sets the two roles' passwords; running it again changes nothing else.

    Safe while other processes do the same; within a process one thread at a time (alembic keeps globals).

    Raises ConfigurationInvalid when the owner's connection fails or may not do it.
    """
    try:
        _ensure_roles(owner_url, {CONTROL_ROLE: control_password, AUDIT_ROLE: audit_password})
        engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: psycopg.connect(owner_url),
            poolclass=NullPool,
            hide_parameters=True,
        )
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS control")
            connection.exec_driver_sql("REVOKE ALL ON SCHEMA control FROM PUBLIC")
            if _version(connection) != newest():
                _upgrade(connection)
    except (psycopg.Error, exc.DBAPIError) as error:
        raise _not_migrated(error.orig if isinstance(error, exc.DBAPIError) else error) from error


def _version(connection: Connection) -> str | None:
    if connection.exec_driver_sql("SELECT to_regclass('control.version')").scalar() is None:
        return None
    return connection.exec_driver_sql("SELECT version_num FROM control.version").scalar()


def newest() -> str:
    """The last migration's number; their files are named after it."""
    folder = files("mcp_server.control").joinpath("migrations", "versions")
    return max(file.name[:4] for file in folder.iterdir() if file.name.endswith(".py"))


def _upgrade(connection: Connection) -> None:
    # Nearly every start finds everything up to date and would only wait for this import.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "mcp_server.control:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _ensure_roles(owner_url: str, passwords: dict[str, str]) -> None:
    with psycopg.connect(owner_url, autocommit=True) as connection:
        for role, password in passwords.items():
            secret = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
            _ensure_role(connection, role, secret)


def _ensure_role(connection: psycopg.Connection[Any], role: str, secret: str) -> None:
    """Creates or alters the role; the password travels hashed, so that no statement log can hold it."""
    name = sql.Identifier(role)
    settings = sql.SQL("LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}").format(sql.Literal(secret))
    for attempt in range(1, _ATTEMPTS + 1):
        known = connection.execute("SELECT FROM pg_catalog.pg_roles WHERE rolname = %s", (role,)).rowcount
        verb = sql.SQL("ALTER ROLE {} {}" if known else "CREATE ROLE {} {}")
        try:
            connection.execute(verb.format(name, settings))
            return
        except (psycopg.errors.InternalError_, psycopg.errors.UniqueViolation, psycopg.errors.DuplicateObject):
            # Somebody else created or altered it at the same moment, and has committed by now.
            if attempt == _ATTEMPTS:
                raise


def _not_migrated(error: BaseException | None) -> ConfigurationInvalid:
    sqlstate = getattr(error, "sqlstate", None)
    state = f", SQLSTATE {sqlstate}" if sqlstate else ""
    return ConfigurationInvalid(
        f"The control database could not be brought up to date ({type(error).__name__}{state}).",
        "Nothing was changed in it.",
        "Check control.url: its user owns the database and may create roles.",
    )
