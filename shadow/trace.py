"""What one transaction of production leaves to be known by: its clocks, and which rows it wrote.

Read by `replay.py` when the statements have run; `replay_rows.py` compares by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from shadow.counters import COUNTED, Counters, counters_of

#: Fires what waits for COMMIT; thrice, since a deferred trigger may put off another one. `replay.py` looks once more.
FIRE_DEFERRED: LiteralString = "; ".join(["SET CONSTRAINTS ALL IMMEDIATE"] * 3)

#: True for rows `t` this transaction (or one of its savepoints, numbered up to `last`) wrote: our snapshot shows no
#: other row so young. The upper bound leaves out rows frozen long ago, whose number may come round again.
_OURS = "mod(t.xmin::text::bigint - {own} + 4294967296, 4294967296) <= {last}"


@dataclass(frozen=True, kw_only=True)
class Trace:
    """`ours`: the SQL condition for rows `t` that the transaction wrote; `clocks` and `walls`: its time and the wall
    clock now, as Postgres writes them in each column type; `counters`: rows written by table.
    """

    ours: str
    clocks: Mapping[str, str]
    walls: Mapping[str, str]
    counters: Counters


def read_trace(conn: psycopg.Connection[Any], schema: str, types: Mapping[str, str]) -> Trace:
    """The running transaction's trace, deferred constraints and triggers included; `types` as for
    `shadow.run.clock_texts`.

    A savepoint that writes a comment on our `schema` tells the transaction's last number (Postgres docs 67.1,
    Transactions and Identifiers: savepoints are numbered when they write, in order).
    """
    times = [f"{clock}::{of}::text" for clock in ("now()", "clock_timestamp()") for of in types.values()]
    asked = sql.SQL(
        "{fire};"
        " SAVEPOINT shadowdesk_last; COMMENT ON SCHEMA {schema} IS 'the last savepoint'; RELEASE shadowdesk_last;"
        " {counted};"
        " SELECT own::text, mod(xmin::text::bigint - own + 4294967296, 4294967296)::text{times}"
        " FROM pg_description, (SELECT mod(pg_current_xact_id()::text::numeric, 4294967296)::bigint AS own) ours"
        " WHERE objoid = {name}::regnamespace AND classoid = 'pg_namespace'::regclass"
    ).format(
        fire=sql.SQL(FIRE_DEFERRED),
        schema=sql.Identifier(schema), name=sql.Identifier(schema).as_string(conn), counted=sql.SQL(COUNTED),
        times=sql.SQL("".join(f", {time}" for time in times)),
    )  # fmt: skip
    counted, [(own, last, *texts)] = answers(conn.execute(asked))
    return Trace(
        ours=_OURS.format(own=own, last=last),
        clocks=dict(zip(types, texts[: len(types)], strict=True)),
        walls=dict(zip(types, texts[len(types) :], strict=True)),
        counters=counters_of(counted),
    )


def answers(cursor: psycopg.Cursor[Any]) -> list[list[Any]]:
    """The rows of each statement that answers with rows, of several sent in one call."""
    return [result.fetchall() for result in cursor.results() if result.description]
