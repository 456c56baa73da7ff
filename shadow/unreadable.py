"""What the reader may not read on production, and what cannot be made without it: left out of mirror and fence.

Read with the catalog, which the fence judges by, and again for each dump of production's definitions.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from shadow.sql import block

_ENTRY = re.compile(rb"^\d+; (\d+) (\d+) ")


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Objects a mirror does without.

    `unreadable` are tables by pg_class oid and qualified name; `resting` maps readable tables that cannot be made, or
    would lose a trigger, to the unreadable one they need; `relations` are all tables and views that a dump must not
    name, `objects` everything by (catalog's oid, object's oid).
    """

    unreadable: Mapping[int, str]
    resting: Mapping[int, str]
    relations: tuple[tuple[str, str], ...]
    objects: frozenset[tuple[int, int]]

    @property
    def names(self) -> tuple[str, ...]:
        """Qualified names of the tables and views that are left out."""
        return tuple(sorted(f"{schema}.{name}" for schema, name in self.relations))

    def patterns(self) -> list[str]:
        """The relations as pg_dump takes them: quoted names are no patterns (Postgres docs, psql, Patterns)."""
        return [f"--exclude-table={sql.Identifier(*relation).as_string(None)}" for relation in self.relations]

    def kept(self, contents: bytes) -> bytes:
        """An archive's table of contents (`pg_restore --list`) without the entries of these objects."""
        lines = []
        for line in contents.splitlines(keepends=True):
            entry = _ENTRY.match(line)
            if entry is None or (int(entry[1]), int(entry[2])) not in self.objects:
                lines.append(line)
        return b"".join(lines)


def read_left_out(conn: psycopg.Connection[Any]) -> LeftOut:
    """Asks production, as the reader."""
    with conn.cursor(row_factory=dict_row) as cur:
        rows = cur.execute(block("unreadable")).fetchall()
    unreadable = {row["objid"]: f"{row['schema']}.{row['name']}" for row in rows if row["unreadable"]}
    resting = {row["trigger_of"]: row["because"] for row in rows if row["trigger_of"] is not None}
    resting |= {row["objid"]: row["because"] for row in rows if row["kind"] in ("r", "p")}
    return LeftOut(
        unreadable=unreadable,
        resting={oid: because for oid, because in resting.items() if oid not in unreadable},
        relations=tuple((row["schema"], row["name"]) for row in rows if row["kind"] in ("r", "p", "v", "m", "f")),
        objects=frozenset((row["classid"], row["objid"]) for row in rows),
    )
