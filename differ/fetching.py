"""Runs a composed query; called by every module of the leaf that reads the shadow."""

from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row


def fetch(conn: psycopg.Connection[Any], query: sql.Composable) -> list[tuple[Any, ...]]:
    """Every row of a composed query as plain tuples, whatever row factory the connection has."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(sql.Composed([query])).fetchall()
