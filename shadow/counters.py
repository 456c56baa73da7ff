"""Per-table counters of the running transaction: what Postgres itself says was inserted, updated and deleted.

Read by the rehearsal and by the replay; the two must agree table by table (Postgres docs 27.2,
pg_stat_xact_all_tables).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import psycopg

Counters = Mapping[str, tuple[int, int, int]]

#: Straight from the functions under pg_stat_xact_all_tables, which would look at every index too. Numbers below 16384
#: are Postgres' own objects; names are looked up for the few tables that were written.
COUNTED = (
    "SELECT * FROM (SELECT (SELECT nspname FROM pg_namespace n WHERE n.oid = relnamespace) AS schema, relname,"
    " inserted, updated, deleted FROM (SELECT relnamespace, relname, pg_stat_get_xact_tuples_inserted(oid) AS inserted,"
    " pg_stat_get_xact_tuples_updated(oid) AS updated, pg_stat_get_xact_tuples_deleted(oid) AS deleted FROM pg_class"
    " WHERE oid >= 16384 AND relkind = ANY ('{r,p,m}') OFFSET 0) counted"
    " WHERE inserted + updated + deleted > 0 OFFSET 0) named"
    r" WHERE schema !~ '^(shadowdesk$|pg_|information_schema$)'"
)


def read_counters(conn: psycopg.Connection[Any]) -> dict[str, tuple[int, int, int]]:
    """schema.table → (inserted, updated, deleted) so far; also counts what a rolled-back transaction did before."""
    return counters_of(conn.execute(COUNTED).fetchall())


def counters_of(rows: Iterable[tuple[Any, ...]]) -> dict[str, tuple[int, int, int]]:
    """What `COUNTED` answered."""
    return {f"{schema}.{name}": (ins, upd, dele) for schema, name, ins, upd, dele in rows}


def difference(after: Counters, before: Counters) -> dict[str, tuple[int, int, int]]:
    """What was counted between two readings; tables without any are left out."""
    found = {}
    for name, now in after.items():
        then = before.get(name, (0, 0, 0))
        delta = (now[0] - then[0], now[1] - then[1], now[2] - then[2])
        if any(delta):
            found[name] = delta
    return found
