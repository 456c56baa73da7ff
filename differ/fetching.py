"""Runs a composed query; called by every module of the leaf that reads the shadow."""

from contextlib import nullcontext
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

#: A fresh copy has no statistics and the planner takes its rows for few: many of them must not be asked one by one.
READ_WHOLE = "SELECT set_config('enable_nestloop', 'off', true), set_config('work_mem', '64MB', true)"


def fetch(conn: psycopg.Connection[Any], query: sql.Composable, *, many: bool = False) -> list[tuple[Any, ...]]:
    """Every row of a composed query as plain tuples, whatever row factory the connection has.

    `many` is for queries over more rows than a table has pages: hash joins and room for them, for this query only.
    """
    with conn.transaction() if many else nullcontext(), conn.cursor(row_factory=tuple_row) as cursor:
        if many:
            cursor.execute(READ_WHOLE)
        return cursor.execute(sql.Composed([query])).fetchall()
