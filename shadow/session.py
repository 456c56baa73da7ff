"""The session settings every connection shares, so that Postgres writes each value the same way everywhere.

Called for shadow, reader and applier connections: texts are compared, and text output follows these settings
(Postgres docs 20.11, Client Connection Defaults).
"""

from collections.abc import Mapping, Sequence
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
    "lc_numeric": "C",  # to_char's D, G and L
    "lc_time": "C",  # to_char's TM
    "timezone_abbreviations": "Default",  # what IST and EST mean
    "array_nulls": "on",
    "xmlbinary": "base64",
    "quote_all_identifiers": "off",
    "gin_fuzzy_search_limit": "0",  # else an index gives some of its rows, by chance
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "xmloption": "content",
}


def pin_session(
    conn: psycopg.Connection[Any], search_path: Sequence[str], more: Mapping[str, str] | None = None
) -> None:
    """Sets the pinned settings, production's search_path and `more` on `conn` for the whole session."""
    path = sql.SQL(", ").join(sql.Identifier(name) for name in search_path).as_string(conn)
    settings = {**PINNED, "search_path": path, **(more or {})}
    conn.execute(
        sql.SQL("; ").join(
            sql.SQL("SET {} = {}").format(sql.SQL(name), sql.SQL(value) if name == "search_path" else value)
            for name, value in settings.items()
        )
    )


def connect(
    url: str, search_path: Sequence[str], *, application: str, more: Mapping[str, str] | None = None
) -> psycopg.Connection[Any]:
    """An autocommit connection with pinned settings and `more`; psycopg.OperationalError when it cannot be had."""
    conn: psycopg.Connection[Any] = psycopg.connect(url, autocommit=True, application_name=application)
    conn.prepare_threshold = None  # a prepared statement would stay behind on the session, its text readable
    pin_session(conn, search_path, more)
    return conn
