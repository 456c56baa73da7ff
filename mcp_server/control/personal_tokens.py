"""Personal tokens in the control store; part of `store.ControlStore`. Written by `shadowdesk token`, read by `/mcp`.

Callers pass SHA-256 digests (64 hexadecimal digits): the tokens themselves never come here.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, RowMapping, func, insert, select, update

from mcp_server.control.connections import transaction
from mcp_server.control.records import PersonalToken
from mcp_server.control.tables import MASK_SECRET, PERSONAL_TOKENS

_TOKENS = PERSONAL_TOKENS.c


class PersonalTokenTable:
    """Tokens, one short transaction per method; times are the database's."""

    _engine: Engine

    def issue_token(
        self, token_id: str, digest: str, *, person: str, role: str, label: str, issued_by: str, lifetime: timedelta
    ) -> PersonalToken:
        """A token of one person, bound to the role they have now."""
        row = {
            "id": token_id, "token_sha256": digest, "person": person, "role": role, "label": label,
            "issued_by": issued_by, "expires_at": func.now() + lifetime,
        }  # fmt: skip
        with transaction(self._engine) as connection:
            made = insert(PERSONAL_TOKENS).values(row).returning(*_TOKENS)
            return _record(connection.execute(made).mappings().one())

    def token(self, digest: str) -> PersonalToken | None:
        """The token with that hash while it is good: neither over nor revoked."""
        good: tuple[Any, ...] = (_TOKENS.revoked_at.is_(None), _TOKENS.expires_at > func.now())
        with transaction(self._engine) as connection:
            query = select(PERSONAL_TOKENS).where(_TOKENS.token_sha256 == digest, *good)
            row = connection.execute(query).mappings().one_or_none()
        return _record(row) if row else None

    def tokens(self, person: str | None = None) -> list[PersonalToken]:
        """The tokens of one person, or of everybody, newest first; those that are over or revoked too."""
        query = select(PERSONAL_TOKENS).order_by(_TOKENS.created_at.desc(), _TOKENS.id)
        with transaction(self._engine) as connection:
            chosen = query if person is None else query.where(_TOKENS.person == person)
            return [_record(row) for row in connection.execute(chosen).mappings()]

    def revoke_token(self, token_id: str, revoked_by: str, person: str | None = None) -> PersonalToken | None:
        """Ends the token, which is given back; None where `person` (or nobody) has one of that id to revoke."""
        mine = () if person is None else (_TOKENS.person == person,)
        done = update(PERSONAL_TOKENS).where(_TOKENS.id == token_id, _TOKENS.revoked_at.is_(None), *mine)
        with transaction(self._engine) as connection:
            values = {"revoked_at": func.now(), "revoked_by": revoked_by}
            row = connection.execute(done.values(values).returning(*_TOKENS)).mappings().one_or_none()
        return _record(row) if row else None


class MaskSecretTable:
    """The one secret that the keys of masks are derived from."""

    _engine: Engine

    def mask_secret(self) -> bytes:
        """32 bytes, made by the migration."""
        with transaction(self._engine) as connection:
            return bytes(connection.execute(select(MASK_SECRET.c.secret)).scalar_one())


def _record(row: RowMapping) -> PersonalToken:
    return PersonalToken(**{name: value for name, value in row.items() if name != "token_sha256"})
