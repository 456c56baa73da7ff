"""The sandbox server: throw-away databases made from the mirror, a pool kept ready, strays reaped.

The desk opens one `Sandbox` per process; all shared state is in the sandbox's own maintenance database.
"""

import secrets
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from shadow.errors import QuotaExceeded
from shadow.sql import block

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

    def __init__(self, admin_url: str, limits: SandboxLimits, *, private: bool = True) -> None:
        """`private`: the whole server is ours, so its own databases are closed to the shadows' roles as well."""
        self._admin_url = admin_url
        self.limits = limits
        with self._admin() as conn, conn.transaction():
            conn.execute("SELECT pg_advisory_xact_lock(%s)", (0x5344_0002,))
            conn.execute(block("registry"))
            if private:
                conn.execute("REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC")

    def _admin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._admin_url, autocommit=True)

    def owner_url(self, shadow_id: str) -> str:
        """The owner's URL of one shadow's database."""
        return make_conninfo(self._admin_url, dbname=f"shadow_{shadow_id}")

    def role_url(self, shadow_id: str, password: str) -> str:
        """The shadow role's own URL: it may connect to no other database."""
        name = f"shadow_{shadow_id}"
        return make_conninfo(self._admin_url, dbname=name, user=name, password=password)

    def take(self, mirror: str) -> tuple[str, str]:
        """A fresh shadow database from `mirror` and its role's password; from the pool when one is ready.

        Raises QuotaExceeded when the sandbox holds as many shadows as it may.
        """
        with self._admin() as conn:
            taken = conn.execute(block("take_ready"), {"mirror": mirror, "ttl_s": self.limits.ttl_s}).fetchone()
            shadow_id = taken[0] if taken else self._create(conn, mirror, "taken")
            password = self._add_role(conn, shadow_id)
            conn.execute("UPDATE shadowdesk.shadows SET password = %s WHERE id = %s", (password, shadow_id))
            return shadow_id, password

    def fill(self, mirror: str, wanted: int) -> None:
        """Keeps `wanted` shadows of this mirror ready."""
        with self._admin() as conn:
            row = conn.execute(
                "SELECT count(*) FROM shadowdesk.shadows WHERE state = 'ready' AND mirror = %s", (mirror,)
            ).fetchone()
            for _ in range(wanted - (row[0] if row else 0)):
                self._create(conn, mirror, "ready")

    def _create(self, conn: psycopg.Connection[Any], mirror: str, state: str) -> str:
        held = conn.execute("SELECT count(*) FROM shadowdesk.shadows WHERE state <> 'ready'").fetchone()
        if held and held[0] >= self.limits.max_shadows and not self._drop_ended(conn):
            raise QuotaExceeded(
                f"The sandbox holds {held[0]} shadows, which is its limit.",
                "No dry run was started.",
                "Discard dry runs you no longer need, or wait for old ones to expire.",
            )
        shadow_id = new_id()
        database = sql.Identifier(f"shadow_{shadow_id}")
        # The row first: a database without a row could never be reaped.
        conn.execute(
            "INSERT INTO shadowdesk.shadows(id, mirror, state, expires_at)"
            " VALUES (%s, %s, 'dropping', now() + make_interval(secs => %s))", (shadow_id, mirror, self.limits.ttl_s)
        )  # fmt: skip
        conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(database, sql.Identifier(mirror)))
        conn.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        conn.execute("UPDATE shadowdesk.shadows SET state = %s WHERE id = %s", (state, shadow_id))
        return shadow_id

    def _drop_ended(self, conn: psycopg.Connection[Any]) -> bool:
        """Makes room: drops the shadow that ended first; False when every one is still in use."""
        row = conn.execute(block("claim_ended")).fetchone()
        if row is None:
            return False
        self._drop(conn, row[0])
        return True

    def ended(self, shadow_id: str) -> None:
        """Its dry run is over: kept for a while for inspection and recording, dropped first when room is needed."""
        with self._admin() as conn:
            conn.execute(block("mark_ended"), {"id": shadow_id, "linger_s": self.limits.linger_s})

    def _add_role(self, conn: psycopg.Connection[Any], shadow_id: str) -> str:
        name = sql.Identifier(f"shadow_{shadow_id}")
        password = secrets.token_urlsafe(24)
        conn.execute(
            sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT CONNECTION LIMIT 4 PASSWORD {}")
            .format(name, sql.Literal(password))
        )  # fmt: skip
        conn.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, name))
        settings = {
            "statement_timeout": f"{self.limits.statement_timeout_s}s",
            "lock_timeout": f"{self.limits.lock_timeout_s}s",
            "idle_in_transaction_session_timeout": f"{self.limits.idle_timeout_s}s",
            "temp_file_limit": f"{self.limits.temp_file_limit_mb}MB",
            "work_mem": "16MB",
            "lc_messages": "C",
        }
        for setting, value in settings.items():
            conn.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(name, sql.Identifier(setting), sql.Literal(value)))
        return password

    def add_inspector(self, shadow_id: str, minutes: int) -> str:
        """A read-only login for people on one shadow, void after `minutes`; returns its URL."""
        role = f"inspect_{shadow_id}_{new_id(6)}"
        password = secrets.token_urlsafe(18)
        name = sql.Identifier(role)
        with self._admin() as conn:
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
        return make_conninfo(self._admin_url, dbname=f"shadow_{shadow_id}", user=role, password=password)

    def _later(self, conn: psycopg.Connection[Any], minutes: int) -> str:
        row = conn.execute("SELECT (now() + make_interval(mins => %s))::text", (minutes,)).fetchone()
        return str(row[0]) if row else ""

    def password(self, shadow_id: str) -> str | None:
        """The role's password while the shadow is there and not being dropped; None after that."""
        with self._admin() as conn:
            row = conn.execute(
                "SELECT password FROM shadowdesk.shadows WHERE id = %s AND state = 'taken' AND expires_at > now()",
                (shadow_id,),
            ).fetchone()
        return row[0] if row else None

    def drop(self, shadow_id: str) -> None:
        """Drops one shadow: database, roles, registry row; safe to call again after a crash."""
        with self._admin() as conn:
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

    def reap(self, mirror: str) -> list[str]:
        """Drops expired shadows, half-dropped ones and ready ones of other schema versions; any replica may call it."""
        dropped = []
        with self._admin() as conn:
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
