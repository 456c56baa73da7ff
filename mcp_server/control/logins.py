"""One-time log-in links and page sessions in the control store; part of `store.ControlStore`.

Callers pass SHA-256 digests (64 hexadecimal digits): the tokens themselves never come here.
"""

from datetime import timedelta

from sqlalchemy import Engine, delete, func, insert, select, update

from mcp_server.control.connections import transaction
from mcp_server.control.tables import LOGIN_LINKS, PAGE_SESSIONS


class LoginTable:
    """Links and sessions, one short transaction per method; times are the database's."""

    _engine: Engine

    def create_login_link(self, digest: str, person: str, lifetime: timedelta) -> None:
        """A link for one person, to be used once within its lifetime; links that are over are removed."""
        with transaction(self._engine) as connection:
            connection.execute(delete(LOGIN_LINKS).where(LOGIN_LINKS.c.expires_at < func.now()))
            row = {"token_sha256": digest, "person": person, "expires_at": func.now() + lifetime}
            connection.execute(insert(LOGIN_LINKS).values(row))

    def use_login_link(self, digest: str) -> str | None:
        """The link's person, for the one caller that uses it in time; None for every other."""
        links = LOGIN_LINKS.c
        usable = (links.token_sha256 == digest, links.used_at.is_(None), links.expires_at > func.now())
        with transaction(self._engine) as connection:
            used = update(LOGIN_LINKS).where(*usable).values(used_at=func.now()).returning(links.person)
            return connection.execute(used).scalar_one_or_none()

    def create_page_session(self, digest: str, person: str, lifetime: timedelta) -> None:
        """A session of one person; sessions that are over are removed."""
        with transaction(self._engine) as connection:
            connection.execute(delete(PAGE_SESSIONS).where(PAGE_SESSIONS.c.expires_at < func.now()))
            row = {"id_sha256": digest, "person": person, "expires_at": func.now() + lifetime}
            connection.execute(insert(PAGE_SESSIONS).values(row))

    def page_session(self, digest: str) -> str | None:
        """The session's person while it lasts."""
        sessions = PAGE_SESSIONS.c
        with transaction(self._engine) as connection:
            query = select(sessions.person).where(sessions.id_sha256 == digest, sessions.expires_at > func.now())
            return connection.execute(query).scalar_one_or_none()

    def end_page_session(self, digest: str) -> None:
        """Ends the session; ending one that is over changes nothing."""
        with transaction(self._engine) as connection:
            connection.execute(delete(PAGE_SESSIONS).where(PAGE_SESSIONS.c.id_sha256 == digest))
