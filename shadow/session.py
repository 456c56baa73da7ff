"""The session settings every connection shares, so that Postgres writes each value the same way everywhere.

Called for shadow, reader and applier connections: texts are compared, and text output follows these settings
(Postgres docs 20.11, Client Connection Defaults).
"""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "lc_monetary": "C",  # money is written with the server's own currency otherwise
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "xmloption": "content",
}


def pin_session(conn: psycopg.Connection[Any], search_path: Sequence[str]) -> None:
    """Sets the pinned settings and production's search_path on `conn` for the whole session."""
    path = sql.SQL(", ").join(sql.Identifier(name) for name in search_path).as_string(conn)
    settings = {**PINNED, "search_path": path}
    calls = sql.SQL(", ").join([sql.SQL("set_config(%s, %s, false)")] * len(settings))
    conn.execute(sql.SQL("SELECT {}").format(calls), [part for pair in settings.items() for part in pair])


def connect(url: str, search_path: Sequence[str], *, application: str) -> psycopg.Connection[Any]:
    """An autocommit connection with pinned settings; psycopg.OperationalError when it cannot be had."""
    conn: psycopg.Connection[Any] = psycopg.connect(url, autocommit=True, application_name=application)
    pin_session(conn, search_path)
    return conn
