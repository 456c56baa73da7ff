"""What every shadow of a mirror needs before its tenant is known; done while it waits in the pool.

The hub prepares the pool's shadows and keeps them connected; `Shadow.prepare` does it for those that nobody prepared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

_ROLE_FUNCTIONS = (
    "draw(text)", "begin_step(integer, text[], text[], text[])", "finish_step(integer)", "begin_rehearsal()",
    "end_rehearsal()",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Connected:
    """A prepared shadow's two connections, with pinned settings: a new database's first ones are slow to open."""

    owner: psycopg.Connection[Any]
    role: psycopg.Connection[Any]

    @property
    def alive(self) -> bool:
        """Whether both still answer."""
        try:
            self.owner.execute("")
            self.role.execute("")
        except psycopg.Error:
            return False
        return True

    def close(self) -> None:
        """Closes both."""
        self.owner.close()
        self.role.close()


def prepare_surface(
    owner: psycopg.Connection[Any], surface: str, schemas: Sequence[str], search_path: Sequence[str]
) -> None:
    """Makes the surface schema and the role's few rights, in one call to the server; again changes nothing."""
    role = sql.Identifier(surface)
    path = sql.SQL(", ").join(sql.Identifier(name) for name in search_path).as_string(owner)
    used = [sql.Identifier(name) for name in (surface, "shadowdesk", *schemas)]
    functions = [sql.SQL("shadowdesk.{}").format(sql.SQL(function)) for function in _ROLE_FUNCTIONS]
    owner.execute(
        sql.SQL(
            "UPDATE shadowdesk.session SET search_path = {path}; CREATE SCHEMA IF NOT EXISTS {role};"
            " GRANT USAGE ON SCHEMA {schemas} TO {role}; GRANT EXECUTE ON FUNCTION {functions} TO {role}"
        ).format(
            path=sql.Literal(path), role=role, schemas=sql.SQL(", ").join(used),
            functions=sql.SQL(", ").join(functions),
        )
    )  # fmt: skip
