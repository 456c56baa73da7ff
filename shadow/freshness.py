"""Freshness: which rows a dry run looked at, and which of them changed on production since.

Steps and queries note the keys they looked at; a proposal keeps a hash of each row that it does not touch itself;
`stale` compares production with them, for the review page and inside the replay. Policy says whether it blocks.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from shadow.catalog import Table
from shadow.fence import Fence, FencedTable
from shadow.fenced import fenced_key
from shadow.predicate import base
from shadow.rows_by_key import cell_text, joined_by_key
from shadow.shadow import Shadow
from shadow.statement import Look
from shadow.watch import key_equality, own

#: Table → (key as texts, SHA-256 of the row's cells) of every row looked at and not touched.
Looked: TypeAlias = Mapping[str, Sequence[tuple[tuple[str, ...], str]]]
_NOTE = (
    "INSERT INTO shadowdesk.looked(name, step, key)"
    " SELECT %s, %s, ARRAY(SELECT jsonb_array_elements_text(k)) FROM jsonb_array_elements(%s::jsonb) k"
)
#: Keys noted of one look; what it saw beyond is not watched.
MOST = 1_000


def note_looks(shadow: Shadow, looks: Sequence[Look], step: int | None, schema_of: Mapping[str, str]) -> None:
    """Notes the keys of the rows that a step (None: a query) is about to look at; its tables are loaded.

    Each table is asked where the statement finds it: a masked column is masked for its conditions here too.

    The conditions run as the shadow's role. One that fails by itself (it was guarded by another one, left out here) or
    takes too long counts as none. Raises psycopg.OperationalError when the shadow is gone.
    """
    for look in looks:
        fenced = shadow.fence.tables[look.table]
        if not _comparable(shadow, fenced):
            continue
        keys = _keys(shadow, look, fenced.table, schema_of[look.table])
        if keys:
            shadow.owner.execute(_NOTE, (look.table, step, json.dumps(keys)))


def _comparable(shadow: Shadow, table: FencedTable) -> bool:
    """Whether rows can be found by key again: not by one whose type's operators no search_path of ours reaches."""
    # a type that is written with its schema is one that the search_path does not find
    if not any("." in table.table.column(name).type for name in table.table.key):
        return True
    return key_equality(shadow.owner, table)[2] is None


def _keys(shadow: Shadow, look: Look, table: Table, schema: str) -> list[list[str]]:
    for condition in dict.fromkeys((look.condition, "")):
        query = sql.SQL("SELECT {} FROM {} AS {}{} LIMIT {}").format(
            sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(look.alias, name)) for name in table.key),
            sql.Identifier(schema, look.table), sql.Identifier(look.alias),
            sql.SQL(f" WHERE {condition}" if condition else ""), MOST,
        )  # fmt: skip
        try:
            with shadow.role.transaction():
                rows = shadow.role.execute(query).fetchall()
        except (psycopg.DataError, psycopg.ProgrammingError, psycopg.errors.QueryCanceled):
            continue  # the statement itself meets the same end next, and says so in words
        return [list(row) for row in rows]
    return []


def looked_at(shadow: Shadow) -> Looked:
    """The rows looked at that the rehearsal does not touch, hashed as they were loaded; read after the rehearsal."""
    noted: dict[str, list[tuple[str, ...]]] = {}
    for name, key in shadow.owner.execute("SELECT DISTINCT name, key FROM shadowdesk.looked ORDER BY 1, 2").fetchall():
        noted.setdefault(name, []).append(tuple(key))
    watched = dict(
        shadow.owner.execute("SELECT name, CASE WHEN pristine THEN rel END FROM shadowdesk.watched").fetchall()
    )
    found = {}
    for name, keys in noted.items():
        table, oid = shadow.fence.tables[name], watched.get(name)
        if oid is None:
            hashed = _hashes(shadow.owner, table, base(table), keys)
        else:
            hashed = _hashes(shadow.owner, table, own("pristine", oid), _untouched(shadow, table.table, oid, keys))
        found[name] = list(hashed.items())
    return {name: rows for name, rows in found.items() if rows}


def _untouched(shadow: Shadow, table: Table, oid: int, keys: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    texts = sql.SQL(", ").join(
        sql.SQL("{}::text").format(sql.Identifier(f"k{n}")) for n in range(1, len(table.key) + 1)
    )
    rows = shadow.owner.execute(
        sql.SQL(
            "SELECT DISTINCT {} FROM {} WHERE ARRAY[{}] = ANY(SELECT key FROM shadowdesk.looked WHERE name = {})"
        ).format(texts, own("touched", oid), texts, table.name)
    ).fetchall()
    touched = {tuple(row) for row in rows}
    return [key for key in keys if key not in touched]


def _hashes(
    conn: psycopg.Connection[Any], table: FencedTable, relation: sql.Composable, keys: Sequence[tuple[str, ...]]
) -> dict[tuple[str, ...], str]:
    """Key → hash of the rows that are there."""
    if not keys:
        return {}
    cells = sql.SQL(", ").join(cell_text("t", c.name, c.type) for c in table.table.columns)
    query = sql.SQL("SELECT k.ord, encode(sha256(array_send(ARRAY[{}]::text[])), 'hex') FROM {}").format(
        cells, joined_by_key(table.table, relation, keys)
    )
    return {keys[int(place) - 1]: found for place, found in conn.execute(query).fetchall()}


def stale(conn: psycopg.Connection[Any], fence: Fence, looked: Looked) -> tuple[str, ...]:
    """The looked-at rows that production now has otherwise, or not any more, as `contracts (17)`; no values."""
    changed = []
    for name, rows in sorted(looked.items()):
        if name in fence.tables:
            now = _hashes(conn, fence.tables[name], base(fence.tables[name]), [tuple(key) for key, _ in rows])
            changed += [f"{name} ({fenced_key(key)})" for key, then in rows if now.get(tuple(key)) != then]
    return tuple(changed)


def stale_sentence(changed: Sequence[str]) -> str:
    """«2 rows you looked at changed since: contracts (17), accounts (3).»"""
    rows = "1 row" if len(changed) == 1 else f"{len(changed)} rows"
    more = f" and {len(changed) - 10} more" if len(changed) > 10 else ""
    return f"{rows} you looked at changed since: {', '.join(changed[:10])}{more}."
