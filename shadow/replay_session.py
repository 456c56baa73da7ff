"""The one session on production that a replay runs in: named after its proposal, perhaps opened ahead of the yes.

Opened by `confirming.py`; `replay.py` runs in it. Its name in pg_stat_activity is the announcement that a replay may be
under way, so a session that only waits for a yes has another one.
"""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from shadow.counters import COUNTED
from shadow.fence import Fence
from shadow.predicate import Predicates
from shadow.rows_by_key import rows_equal
from shadow.session import connect

#: Seconds after which production itself ends a session that does nothing: one named after its proposal, and one that
#: was opened while a person reads.
NAMED_S, AHEAD_S = 60, 300
AHEAD = "shadowdesk ahead"


def open_session(applier_url: str, search_path: Sequence[str], proposal_id: str) -> psycopg.Connection[Any]:
    """A session of that proposal's name.

    It is opened before anybody records that the replay begins: whoever finds a replay under way and no session of that
    name (`still_running`) knows that its process is gone, or cut off from production. Production itself ends the
    session of a host that vanished. psycopg.OperationalError when production cannot be reached.
    """
    return connect(applier_url, search_path, application=_name(proposal_id), more=_ends(NAMED_S))


def open_ahead(
    applier_url: str, search_path: Sequence[str], fence: Fence, tenant_key: str, tables: Sequence[str]
) -> psycopg.Connection[Any]:
    """A session without a name yet, for a proposal that changes `tables` of the tenant; `name_session` makes it its.

    It has looked at the definitions of those tables (no row is read, and no lock stays), which is what a first use of
    them costs. psycopg.Error when production cannot be reached or asked.
    """
    conn = connect(applier_url, search_path, application=AHEAD, more=_ends(AHEAD_S))
    try:
        predicates = Predicates(fence, tenant_key)
        for table in (fence.tables[name] for name in tables):
            if table.table.key:
                rows_equal(conn, table, [], [], predicates.member(table, "t"), lock=False)
        conn.execute(COUNTED)
    except BaseException:
        conn.close()
        raise
    return conn


def name_session(conn: psycopg.Connection[Any], proposal_id: str) -> None:
    """From here on the session is what `open_session` returns. psycopg.Error when production has ended it."""
    settings = {"application_name": _name(proposal_id), **_ends(NAMED_S)}
    conn.execute(
        sql.SQL("; ").join(sql.SQL("SET {} = {}").format(sql.SQL(name), value) for name, value in settings.items())
    )


def still_running(url: str, proposal_id: str) -> bool:
    """True while a backend of production still works on this proposal's replay."""
    with psycopg.connect(url, autocommit=True) as conn:
        row = conn.execute(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND pid <> pg_backend_pid()",
            (_name(proposal_id),),
        ).fetchone()
    return row is not None


def _name(proposal_id: str) -> str:
    return f"shadowdesk replay {proposal_id}"[:63]


def _ends(seconds: int) -> dict[str, str]:
    return {"idle_session_timeout": f"{seconds}s"}
