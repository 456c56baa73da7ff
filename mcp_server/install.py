"""The SQL that production needs once: two roles, one small schema, rights on the app's tables.

Printed or applied by `shadowdesk install`; also used by the demo and the tests, so what they run is what operators run.
"""

import secrets
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from shadow.sql import block

READER, APPLIER = "shadowdesk_reader", "shadowdesk_applier"

_ROLE = """DO $$BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = {name_literal}) THEN
    CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
  END IF;
END$$;
ALTER ROLE {name} PASSWORD {password};
"""


def new_passwords() -> dict[str, str]:
    """Fresh passwords for both roles."""
    return {READER: secrets.token_urlsafe(24), APPLIER: secrets.token_urlsafe(24)}


def install_sql(conn: psycopg.Connection[Any], schemas: Sequence[str], passwords: dict[str, str]) -> str:
    """The whole script for the database `conn` is connected to; may be run again.

    The reader gets SELECT on the app's tables and USAGE, SELECT on its sequences; the applier DML on the tables and
    CREATE on the database for the ephemeral fence schema.
    """
    row = conn.execute("SELECT current_database()").fetchone()
    database = sql.Identifier(str(row[0]) if row else "")
    parts: list[sql.Composable] = [
        sql.SQL(_ROLE).format(
            name=sql.Identifier(name), name_literal=sql.Literal(name), password=sql.Literal(passwords[name])
        )
        for name in (READER, APPLIER)
    ]
    reader, applier = sql.Identifier(READER), sql.Identifier(APPLIER)
    for schema in (sql.Identifier(name) for name in schemas):
        parts.append(
            sql.SQL(
                "GRANT USAGE ON SCHEMA {schema} TO {reader}, {applier};\n"
                "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader};\n"
                "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {reader}, {applier};\n"
                "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {applier};\n"
                "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {reader};\n"
                "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema}"
                " GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {applier};\n"
            ).format(schema=schema, reader=reader, applier=applier)
        )
    parts.append(
        sql.SQL(
            "GRANT CONNECT ON DATABASE {db} TO {reader}, {applier};\nGRANT CREATE ON DATABASE {db} TO {applier};\n"
        ).format(db=database, reader=reader, applier=applier)
    )
    parts.append(sql.SQL(block("install")))
    return sql.SQL("\n").join(parts).as_string(conn) + "\n"


def install(owner_url: str, schemas: Sequence[str], passwords: dict[str, str]) -> None:
    """Runs the script in one transaction as the database's owner."""
    with psycopg.connect(owner_url) as conn:
        conn.execute(install_sql(conn, schemas, passwords))
