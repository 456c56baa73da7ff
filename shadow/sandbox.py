"""The sandbox server: throw-away databases made from the mirror, a pool kept ready, strays reaped.

The desk opens one `Sandbox` per process; all shared state is in the sandbox's own maintenance database.
"""

import itertools
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shadow.errors import QuotaExceeded, SandboxUnavailable
from shadow.sql import block

#: Called with a new shadow's id and its role's password.
Prepare = Callable[[str, str], None]

#: Drops of one process between two cleanings of the catalogs that all databases of a server share.
_DROPS_PER_CLEANING = 64
_SHARED_CATALOGS = "pg_database, pg_authid, pg_auth_members, pg_db_role_setting, pg_shdepend, shadowdesk.shadows"

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def new_id(length: int = 12) -> str:
    """A fresh lower-case base32 id, about 60 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


@dataclass(frozen=True, kw_only=True)
class SandboxLimits:
    """How long a shadow lives, how long after its dry run ended, how many at once, and what its role may use."""

    ttl_s: int = 7200
    linger_s: int = 1800
    max_shadows: int = 200
    statement_timeout_s: int = 10
    lock_timeout_s: int = 5
    idle_timeout_s: int = 60
    temp_file_limit_mb: int = 1024


class Sandbox:
    """One sandbox server, reached as its owner by `admin_url` (a URL of its maintenance database)."""

    def __init__(
        self,
        admin_url: str,
        limits: SandboxLimits,
        *,
        private: bool = True,
        again: Callable[[], str] | None = None,
        idle: int = 0,
    ) -> None:
        """`private`: the whole server is ours, so its own databases are closed to the shadows' roles as well.

        `again` is asked for the URL when the server does not answer; it may have started an empty one in its place.
        `idle`: how many connections of the owner are kept for the next call, until `close`.
        """
        self.admin_url = admin_url
        self.limits = limits
        self._private = private
        self._again = again
        self._reviving = threading.Lock()
        self._idle: deque[psycopg.Connection[Any]] = deque()
        self._most_idle = idle
        self._drops = itertools.count(1)
        with self.admin() as conn:
            self._make_registry(conn)  # also where it is there: an older version made it

    def _make_registry(self, conn: psycopg.Connection[Any]) -> None:
        with conn.transaction():
            conn.execute("SELECT pg_advisory_xact_lock(%s)", (0x5344_0002,))
            conn.execute(block("registry"))
            if self._private:
                conn.execute("REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC")

    @contextmanager
    def admin(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection of the owner to the maintenance database; where the server is gone, to the one in its place.

        Raises psycopg.OperationalError, or SandboxUnavailable when ours cannot be started again.
        """
        conn = self._connection()
        try:
            yield conn
        except BaseException:
            conn.close()
            raise
        if len(self._idle) < self._most_idle:
            self._idle.append(conn)
        else:
            conn.close()

    def close(self) -> None:
        """Closes the connections that were kept."""
        self._most_idle = 0
        while self._idle:
            self._idle.pop().close()

    def _connection(self) -> psycopg.Connection[Any]:
        while True:
            try:
                conn = self._idle.pop()
            except IndexError:
                break
            try:
                return self._with_registry(conn)
            except psycopg.OperationalError:
                continue  # its server went away meanwhile
        tried = self.admin_url
        try:
            conn = psycopg.connect(tried, autocommit=True)
        except psycopg.OperationalError:
            if not self._replaced(tried):
                raise
            conn = psycopg.connect(self.admin_url, autocommit=True)
        return self._with_registry(conn)

    def _with_registry(self, conn: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
        """The connection, closed on any error; a server that somebody else runs may have come back empty."""
        try:
            found = conn.execute("SELECT to_regclass('shadowdesk.shadows') IS NULL").fetchone()
            if found and found[0]:
                self._make_registry(conn)
        except BaseException:
            conn.close()
            raise
        return conn

    def _replaced(self, tried: str) -> bool:
        """True when another server than that of `tried` is there now; it knows no shadow and no mirror yet."""
        if self._again is None:
            return False
        with self._reviving:
            if self.admin_url != tried:
                return True  # another thread was faster
            url = self._again()
            if url == tried:
                return False
            self.admin_url = url
        return True

    def held(self) -> int:
        """How many shadows are in use."""
        with self.admin() as conn:
            row = conn.execute("SELECT count(*) FROM shadowdesk.shadows WHERE state = 'taken'").fetchone()
        return int(row[0]) if row else 0

    def owner_url(self, shadow_id: str) -> str:
        """The owner's URL of one shadow's database."""
        return make_conninfo(self.admin_url, dbname=f"shadow_{shadow_id}")

    def role_url(self, shadow_id: str, password: str) -> str:
        """The shadow role's own URL: it may connect to no other database."""
        name = f"shadow_{shadow_id}"
        return make_conninfo(self.admin_url, dbname=name, user=name, password=password)

    def closed_urls(self, shadow_id: str, password: str, mirror: str) -> list[str]:
        """URLs at which the shadow's role must be turned away: the mirror's and, on our server, the registry's."""
        registry = str(conninfo_to_dict(self.admin_url).get("dbname", "postgres"))
        names = (mirror, registry) if self._private else (mirror,)
        return [make_conninfo(self.role_url(shadow_id, password), dbname=name) for name in names]

    def take(self, mirror: str, preferred: Sequence[str] = ()) -> tuple[str, str]:
        """A fresh shadow database from `mirror` and its role's password; from the pool when one is ready, one of the
        `preferred` ids if it can be.

        Raises QuotaExceeded when the sandbox holds as many shadows as it may.
        """
        values = {"mirror": mirror, "ttl_s": self.limits.ttl_s, "preferred": list(preferred)}
        with self.admin() as conn:
            taken = conn.execute(block("take_ready"), values).fetchone()
            return (taken[0], taken[1]) if taken else self._create(conn, mirror)

    def ready(self, mirror: str) -> list[str]:
        """The shadows of this mirror that wait in the pool."""
        with self.admin() as conn:
            rows = conn.execute("SELECT id FROM shadowdesk.shadows WHERE state = 'ready' AND mirror = %s", (mirror,))
            return [str(shadow_id) for (shadow_id,) in rows]

    def fill(self, mirror: str, wanted: int, prepare: Prepare = lambda _id, _password: None) -> None:
        """Keeps `wanted` shadows of this mirror ready, as far as there is room: ready ones count like used ones.

        `prepare` is called with id and password before one counts as ready.
        """
        missing = wanted - len(self.ready(mirror))
        with self.admin() as conn:
            for _ in range(missing):
                if (shadow_id := self._reserve(conn, mirror)) is None:
                    return
                self._make(conn, shadow_id, mirror, "ready", prepare)

    def _create(self, conn: psycopg.Connection[Any], mirror: str) -> tuple[str, str]:
        # The row first: a database without a row could never be reaped.
        shadow_id = self._reserve(conn, mirror)
        while shadow_id is None:
            if not self._drop_unneeded(conn, mirror):
                raise QuotaExceeded(
                    f"The sandbox holds {self.limits.max_shadows} shadows, which is its limit.",
                    "No dry run was started.",
                    "Discard dry runs you no longer need, or wait for old ones to expire.",
                )
            shadow_id = self._reserve(conn, mirror)
        return self._make(conn, shadow_id, mirror, "taken", lambda _id, _password: None)

    def _make(
        self, conn: psycopg.Connection[Any], shadow_id: str, mirror: str, state: str, prepare: Prepare
    ) -> tuple[str, str]:
        database = sql.Identifier(f"shadow_{shadow_id}")
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}{}")
        conn.execute(create.format(database, sql.Identifier(mirror), _strategy(conn)))
        password = self._add_role(conn, shadow_id)
        prepare(shadow_id, password)
        kept = conn.execute(
            "UPDATE shadowdesk.shadows SET state = %s, password = %s WHERE id = %s", (state, password, shadow_id)
        )
        if kept.rowcount != 1:  # it took so long that a replica thought it half dropped and reaped its row
            self._drop(conn, shadow_id)
            raise SandboxUnavailable(
                "The sandbox took longer than a minute to make a shadow.",
                "No dry run was started.",
                "Try again; if it stays so slow, give the sandbox a server of its own.",
            )
        return shadow_id, password

    def _reserve(self, conn: psycopg.Connection[Any], mirror: str) -> str | None:
        """The id of a new row; None when the sandbox is full. Counted and inserted by one process at a time."""
        values = {
            "id": new_id(), "mirror": mirror, "ttl_s": self.limits.ttl_s, "max_shadows": self.limits.max_shadows,
        }  # fmt: skip
        with conn.transaction():
            conn.execute("SELECT pg_advisory_xact_lock(%s)", (0x5344_0003,))
            row = conn.execute(block("reserve_shadow"), values).fetchone()
        return str(row[0]) if row else None

    def _drop_unneeded(self, conn: psycopg.Connection[Any], mirror: str) -> bool:
        """Makes room: drops one that no dry run of this mirror waits for; False when every one is still in use."""
        row = conn.execute(block("claim_room"), {"mirror": mirror}).fetchone()
        if row is None:
            return False
        self._drop(conn, row[0])
        return True

    def ended(self, shadow_id: str) -> None:
        """Its dry run is over: kept for a while for inspection and recording, dropped first when room is needed."""
        with self.admin() as conn:
            conn.execute(block("mark_ended"), {"id": shadow_id, "linger_s": self.limits.linger_s})

    def _add_role(self, conn: psycopg.Connection[Any], shadow_id: str) -> str:
        """The shadow's role, the only one that may connect to its database; all in one round trip."""
        name = sql.Identifier(f"shadow_{shadow_id}")
        password = secrets.token_urlsafe(24)
        settings = {
            "statement_timeout": f"{self.limits.statement_timeout_s}s",
            "lock_timeout": f"{self.limits.lock_timeout_s}s",
            "idle_in_transaction_session_timeout": f"{self.limits.idle_timeout_s}s",
            "temp_file_limit": f"{self.limits.temp_file_limit_mb}MB",
            "work_mem": "16MB",
            "lc_messages": "C",
        }
        script: list[sql.Composable] = [
            sql.SQL(
                "REVOKE ALL ON DATABASE {name} FROM PUBLIC; CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB"
                " NOCREATEROLE NOINHERIT CONNECTION LIMIT 4 PASSWORD {password};"
                " GRANT CONNECT ON DATABASE {name} TO {name}"
            ).format(name=name, password=sql.Literal(password)),
            *(
                sql.SQL("ALTER ROLE {} SET {} = {}").format(name, sql.Identifier(setting), sql.Literal(value))
                for setting, value in settings.items()
            ),
        ]
        if conn.info.server_version >= 160000:
            # 192 random bits need no stretching, which is two thirds of what a connection costs (Postgres docs 19.3.3).
            script.insert(0, sql.SQL("SET LOCAL scram_iterations = 1"))
        with conn.transaction():
            conn.execute(sql.SQL("; ").join(script))
        return password

    def add_inspector(self, shadow_id: str, minutes: int) -> str:
        """A read-only login for people on one shadow, void after `minutes`; returns its URL."""
        role = f"inspect_{shadow_id}_{new_id(6)}"
        password = secrets.token_urlsafe(18)
        name = sql.Identifier(role)
        with self.admin() as conn:
            conn.execute(
                sql.SQL("CREATE ROLE {} LOGIN NOINHERIT CONNECTION LIMIT 2 PASSWORD {} VALID UNTIL {}").format(
                    name, sql.Literal(password), sql.Literal(self._later(conn, minutes))
                )
            )
            conn.execute(sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(name))
            conn.execute(
                sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(f"shadow_{shadow_id}"), name)
            )
        with psycopg.connect(self.owner_url(shadow_id), autocommit=True) as conn:
            surface = sql.Identifier(f"shadow_{shadow_id}")
            conn.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(surface, name))
            conn.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(surface, name))
            conn.execute(sql.SQL("ALTER ROLE {} SET search_path = {}").format(name, surface))
        return make_conninfo(self.admin_url, dbname=f"shadow_{shadow_id}", user=role, password=password)

    def _later(self, conn: psycopg.Connection[Any], minutes: int) -> str:
        row = conn.execute("SELECT (now() + make_interval(mins => %s))::text", (minutes,)).fetchone()
        return str(row[0]) if row else ""

    def password(self, shadow_id: str) -> str | None:
        """The role's password while the shadow is there and not being dropped; None after that."""
        query = "SELECT password FROM shadowdesk.shadows WHERE id = %s AND state = 'taken' AND expires_at > now()"
        rows = self._asked(query, (shadow_id,))
        return rows[0][0] if rows else None

    def living(self, shadow_ids: Sequence[str]) -> frozenset[str]:
        """Those of the shadows that can be used."""
        query = "SELECT id FROM shadowdesk.shadows WHERE id = ANY(%s) AND state = 'taken' AND expires_at > now()"
        return frozenset(str(shadow_id) for (shadow_id,) in self._asked(query, (list(shadow_ids),)))

    def _asked(self, query: LiteralString, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows of a read; asked twice where the server went away in the middle of it: another may be there then."""
        try:
            with self.admin() as conn:
                return conn.execute(query, params).fetchall()
        except psycopg.OperationalError:
            with self.admin() as conn:
                return conn.execute(query, params).fetchall()

    def drop(self, shadow_id: str) -> None:
        """Drops one shadow: database, roles, registry row; safe to call again after a crash."""
        with self.admin() as conn:
            conn.execute("UPDATE shadowdesk.shadows SET state = 'dropping' WHERE id = %s", (shadow_id,))
            self._drop(conn, shadow_id)

    def _drop(self, conn: psycopg.Connection[Any], shadow_id: str) -> None:
        database = sql.Identifier(f"shadow_{shadow_id}")
        conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
        roles = conn.execute(
            "SELECT rolname FROM pg_roles WHERE rolname = %s OR starts_with(rolname, %s)",
            (f"shadow_{shadow_id}", f"inspect_{shadow_id}_"),
        ).fetchall()
        for (role,) in roles:
            conn.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
        conn.execute("DELETE FROM shadowdesk.shadows WHERE id = %s", (shadow_id,))
        if next(self._drops) % _DROPS_PER_CLEANING == 0:
            _clean(conn)

    def reap(self, mirror: str) -> list[str]:
        """Drops expired shadows, half-dropped ones and ready ones of other schema versions; any replica may call it."""
        dropped = []
        with self.admin() as conn:
            while row := conn.execute(block("claim_stray"), {"mirror": mirror}).fetchone():
                self._drop(conn, row[0])
                dropped.append(row[0])
            self._drop_old_mirrors(conn, mirror)
        return dropped

    def _drop_old_mirrors(self, conn: psycopg.Connection[Any], mirror: str) -> None:
        old = conn.execute(
            r"SELECT datname FROM pg_database WHERE datname ~ '^mirror_[0-9a-f]{16}$' AND datname <> %s"
            " AND NOT EXISTS (SELECT 1 FROM shadowdesk.shadows s WHERE s.mirror = datname)", (mirror,)
        ).fetchall()  # fmt: skip
        for (name,) in old:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


def _clean(conn: psycopg.Connection[Any]) -> None:
    """Does on a throw-away server of ours what its autovacuum would: connecting reads the shared catalogs, and each
    thousand dropped shadows made that a third slower.
    """
    row = conn.execute("SELECT current_setting('autovacuum') = 'off'").fetchone()
    if row and row[0]:
        conn.execute(f"VACUUM (SKIP_LOCKED) {_SHARED_CATALOGS}".encode())


def _strategy(conn: psycopg.Connection[Any]) -> sql.SQL:
    """How a server copies a mirror soonest: by files (since 15) where it syncs nothing: their checkpoints are cheap."""
    row = conn.execute(
        "SELECT current_setting('fsync') = 'off' AND current_setting('server_version_num')::int >= 150000"
    ).fetchone()
    return sql.SQL(" STRATEGY FILE_COPY" if row and row[0] else "")
