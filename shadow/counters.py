"""Per-table counters of the running transaction: what Postgres itself says was inserted, updated and deleted.

Read by the rehearsal and by the replay; the two must agree table by table (Postgres docs 27.2,
pg_stat_xact_all_tables).
"""

from collections.abc import Mapping
from typing import Any

import psycopg

Counters = Mapping[str, tuple[int, int, int]]

#: Straight from the functions under pg_stat_xact_all_tables, which would look at every index too. Numbers below 16384
#: are Postgres' own objects.
_READ = (
    "SELECT * FROM (SELECT n.nspname || '.' || c.relname, pg_stat_get_xact_tuples_inserted(c.oid) AS inserted,"
    " pg_stat_get_xact_tuples_updated(c.oid) AS updated, pg_stat_get_xact_tuples_deleted(c.oid) AS deleted"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'm')"
    " AND c.oid >= 16384 AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'shadowdesk')"
    r" AND n.nspname !~ '^(shadow_|pg_temp|pg_toast)' OFFSET 0) counted WHERE inserted + updated + deleted > 0"
)


def read_counters(conn: psycopg.Connection[Any]) -> dict[str, tuple[int, int, int]]:
    """schema.table → (inserted, updated, deleted) so far; also counts what a rolled-back transaction did before."""
    return {name: (ins, upd, dele) for name, ins, upd, dele in conn.execute(_READ).fetchall()}


def difference(after: Counters, before: Counters) -> dict[str, tuple[int, int, int]]:
    """What was counted between two readings; tables without any are left out."""
    found = {}
    for name, now in after.items():
        then = before.get(name, (0, 0, 0))
        delta = (now[0] - then[0], now[1] - then[1], now[2] - then[2])
        if any(delta):
            found[name] = delta
    return found
