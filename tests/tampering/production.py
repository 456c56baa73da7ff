"""The corpus' application on a production of its own: pictures of it, its undoing, and a bystander who works on it."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from shadow.session import connect

#: (table, id) → (tenant, the row's text); tables of no tenant have tenant None.
Picture = dict[tuple[str, str], tuple[str | None, str]]
_PICTURE = """
SELECT 'tenants', id::text, id::text, t::text FROM public.tenants t
UNION ALL SELECT 'contracts', id::text, tenant_id::text, t::text FROM public.contracts t
UNION ALL SELECT 'line_items', t.id::text, c.tenant_id::text, t::text
  FROM public.line_items t LEFT JOIN public.contracts c ON c.id = t.contract_id
UNION ALL SELECT 'invoices', id::text, tenant_id::text, t::text FROM public.invoices t
UNION ALL SELECT 'audit_log', id::text, NULL, t::text FROM public.audit_log t
UNION ALL SELECT 'app_secrets', k, NULL, t::text FROM public.app_secrets t
"""
_CROSSING = """
SELECT (SELECT count(*) FROM public.invoices i JOIN public.contracts c ON c.id = i.contract_id
        WHERE c.tenant_id <> i.tenant_id)
     + (SELECT count(*) FROM public.line_items l LEFT JOIN public.contracts c ON c.id = l.contract_id
        WHERE c.id IS NULL)
"""
_CATALOG = """
SELECT md5(string_agg(o, ',' ORDER BY o)) FROM (
  SELECT 'class ' || oid || relname || relowner || coalesce(relacl::text, '') || relrowsecurity AS o
    FROM pg_class WHERE oid >= 16384 AND relpersistence <> 't' AND relnamespace::regnamespace::text !~ '^pg_'
  UNION ALL SELECT 'proc ' || oid || proname || proowner || coalesce(proacl::text, '') || prosecdef || md5(prosrc)
    FROM pg_proc WHERE oid >= 16384
  UNION ALL SELECT 'type ' || oid || typname FROM pg_type WHERE oid >= 16384
  UNION ALL SELECT 'schema ' || oid || nspname || coalesce(nspacl::text, '') FROM pg_namespace
  UNION ALL SELECT 'trigger ' || oid || tgname || tgenabled::text FROM pg_trigger
  UNION ALL SELECT 'extension ' || oid || extname FROM pg_extension
  UNION ALL SELECT 'operator ' || oid || oprname FROM pg_operator WHERE oid >= 16384
  UNION ALL SELECT 'cast ' || oid FROM pg_cast WHERE oid >= 16384
  UNION ALL SELECT 'large object ' || oid FROM pg_largeobject_metadata
  UNION ALL SELECT 'prepared ' || gid FROM pg_prepared_xacts
) all_objects
"""
_ROLES = """
SELECT md5(coalesce((SELECT string_agg(r::text, ',' ORDER BY oid) FROM pg_authid r), '')
  || coalesce((SELECT string_agg(m::text, ',' ORDER BY roleid, member) FROM pg_auth_members m), '')
  || coalesce((SELECT string_agg(s::text, ',' ORDER BY setdatabase, setrole) FROM pg_db_role_setting s), ''))
"""
_TABLES = ("tenants", "contracts", "line_items", "invoices", "audit_log", "app_secrets")
#: Every write makes row versions that no version before had, so one digest of their places and writers is one set of rows.
_VERSIONS = "SELECT sum(hash_record_extended((v.tableoid, v.place, v.writer), 0)) FROM ({}) v".format(
    " UNION ALL ".join(f"SELECT tableoid, ctid AS place, xmin AS writer FROM public.{table}" for table in _TABLES)
)
OTHERS = frozenset({"2", "3"})


class Watched:
    """Production as its owner sees it, past everything of ours."""

    def __init__(self, owner_url: str) -> None:
        self.conn = connect(owner_url, ("public",), application="tampering")
        for table in _TABLES:
            self.conn.execute(f"CREATE TEMPORARY TABLE kept_{table} AS TABLE public.{table}".encode())
        self._sequences = self._read_sequences()
        self._versions = ""
        self._picture: Picture = {}

    def picture(self) -> Picture:
        """Every row there is; the same object as last time where production holds the same rows."""
        while (versions := str(self._one(_VERSIONS))) != self._versions:
            rows = self.conn.execute(_PICTURE.encode())
            self._versions, self._picture = versions, {(table, key): (who, text) for table, key, who, text in rows}
        return self._picture

    def crossing(self) -> int:
        """References from one tenant's row to another's."""
        return int(self._one(_CROSSING))

    def definitions(self) -> str:
        """A digest of everything defined in the database."""
        return str(self._one(_CATALOG))

    def cells(self, table: str, key: str) -> dict[str, str | None]:
        """One row's cells as text; empty when there is none."""
        row = self._one(f"SELECT jsonb_object_agg(key, 0) FROM jsonb_each((SELECT to_jsonb(t) FROM {table} t LIMIT 1))")
        names = list(row)
        found = self.conn.execute(
            f"SELECT {', '.join(f'{name}::text' for name in names)} FROM {table} WHERE id::text = %s".encode(), (key,)
        ).fetchone()
        return dict(zip(names, found, strict=True)) if found else {}

    def put_back(self, changed: Iterable[tuple[str, str]]) -> None:
        """These rows, by table and key, and every sequence as at first; no trigger fires."""
        with self.conn.transaction():
            self.conn.execute("SET LOCAL session_replication_role = replica")
            keys: dict[str, list[str]] = {}
            for table, key in changed:
                keys.setdefault(table, []).append(key)
            for table, found in keys.items():
                column = "k" if table == "app_secrets" else "id"
                self.conn.execute(f"DELETE FROM public.{table} WHERE {column}::text = ANY(%s)".encode(), (found,))
                kept = f"INSERT INTO public.{table} SELECT * FROM kept_{table} WHERE {column}::text = ANY(%s)"
                self.conn.execute(kept.encode(), (found,))
            for name, value, called in self._sequences:
                self.conn.execute("SELECT setval(%s::regclass, %s, %s)", (name, value, called))

    def _read_sequences(self) -> list[tuple[str, int, bool]]:
        names = self.conn.execute("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S'").fetchall()
        found = []
        for (name,) in names:
            row = self.conn.execute(f"SELECT last_value, is_called FROM {name}".encode()).fetchone()
            assert row is not None
            found.append((str(name), int(row[0]), bool(row[1])))
        return found

    def _one(self, query: str) -> Any:
        row = self.conn.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def roles(conn: psycopg.Connection[Any]) -> str:
    """A digest of a server's roles, memberships and settings of roles."""
    row = conn.execute(_ROLES.encode()).fetchone()
    assert row is not None
    return str(row[0])


class Bystander:
    """A writer of tenant 2 on production who comes by all the time and takes everything back; notes what blocked it."""

    def __init__(self, owner_url: str, *, patience_s: float) -> None:
        self._conn = psycopg.connect(owner_url, autocommit=True)
        self._conn.execute(f"SET session_replication_role = replica; SET lock_timeout = '{patience_s}s'".encode())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bystander", daemon=True)
        self._lock = threading.Lock()
        self._blocked: list[str] = []
        self.pid = self._conn.info.backend_pid
        self.alive = True

    def _work(self) -> None:
        while not self._stop.wait(0.1):
            self.round()

    def round(self) -> None:
        """One piece of work on the three tables."""
        with self._lock:
            try:
                self._conn.execute(
                    "BEGIN; UPDATE contracts SET note = note WHERE id = 1; UPDATE line_items SET note = note WHERE id = 1;"
                    " UPDATE invoices SET total = total WHERE contract_id = 1; ROLLBACK"
                )
            except psycopg.OperationalError as error:
                self._blocked.append(type(error).__name__)
                self.alive = not self._conn.closed
                with suppress(psycopg.Error):
                    self._conn.execute("ROLLBACK")

    def blocked(self) -> list[str]:
        """What has blocked it since the last time this was asked; works one round more first."""
        self.round()
        with self._lock:
            found, self._blocked = self._blocked, []
        return found

    @contextmanager
    def working(self) -> Iterator["Bystander"]:
        """Works until the block ends."""
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()
            self._conn.close()
