"""Tries on the server itself whether the walls hold: what the fence's views, the counters and the roles must stop.

Run by the hub before a process serves, when production's schema version changes, and by doctor. Everything happens in
one transaction that is rolled back, on tables of its own: no row of the app is read or written.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from shadow.catalog import read_catalog
from shadow.counters import difference, read_counters
from shadow.errors import WallMissing
from shadow.fence import Fence, FenceRules, build_fence
from shadow.fence_views import make_fence_schema
from shadow.predicate import base
from shadow.replay import refusal
from shadow.shadow import Shadow
from shadow.sql import block

Connection = psycopg.Connection[Any]

_HIDDEN = "HIDDEN-VALUE"
_CHECK_OPTION, _DENIED, _UNIQUE = ("44000",), ("42501",), ("23505",)
#: Newer minor releases do not find a row outside the view at all (15.20: "not visible through view").
_OUTSIDE = ("44000", "55000")
#: Also where there is no such table or schema at all.
_NOTHING = ("42501", "42P01", "3F000")


@dataclass(frozen=True, kw_only=True)
class Wall:
    """One wall as the server has it; `found` says in words what happened when it was tried."""

    name: str
    holds: bool
    found: str


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """A statement that must end with one of these SQLSTATEs, or must run and give `rows` rows."""

    name: str
    text: LiteralString
    refused: tuple[str, ...] = ()
    rows: int = 0


#: {views} is the fence schema of tenant 1, {tables} what is below it.
_FENCE = (
    _Attempt(
        name="a row cannot be moved to another tenant",
        text="UPDATE {views}.records SET tenant_id = 2", refused=_CHECK_OPTION,
    ),
    _Attempt(
        name="a row cannot be added for another tenant",
        text="INSERT INTO {views}.records VALUES (3, 2, '1')", refused=_CHECK_OPTION,
    ),
    _Attempt(
        name="a child cannot be hung under a row outside",
        text="UPDATE {views}.parts SET record_id = 2", refused=_CHECK_OPTION,
    ),
    _Attempt(
        name="an upsert cannot change a row outside",
        text="INSERT INTO {views}.records VALUES (2, 1, '1') ON CONFLICT (id) DO UPDATE SET secret = 'taken'",
        refused=_OUTSIDE,
    ),
    _Attempt(name="UPDATE without WHERE stays inside", text="UPDATE {views}.records SET secret = '1'", rows=1),
    _Attempt(name="DELETE without WHERE stays inside", text="DELETE FROM {views}.parts", rows=1),
    _Attempt(
        name="a function that tells what it sees does not see rows outside",
        text="SELECT FROM {views}.records WHERE {tables}.tells(secret)", rows=1,
    ),
)  # fmt: skip

_RECEIPTS = (
    _Attempt(
        name="receipts cannot be changed", text="UPDATE shadowdesk.receipts SET rows = 0 WHERE false", refused=_DENIED
    ),
    _Attempt(name="receipts cannot be taken back", text="DELETE FROM shadowdesk.receipts WHERE false", refused=_DENIED),
    _Attempt(name="receipts cannot be emptied", text="TRUNCATE shadowdesk.receipts", refused=_DENIED),
    _Attempt(
        name="a proposal has one receipt",
        text="INSERT INTO shadowdesk.receipts (proposal_id, digest, tenant_key, rows, confirmed_by) SELECT"
        " 'probe', repeat('0', 64), '', 0, '' FROM generate_series(1, 2)",
        refused=_UNIQUE,
    ),
)

_READER = (
    _Attempt(name="the reader cannot write receipts", text="DELETE FROM shadowdesk.receipts WHERE false",
             refused=_NOTHING),
    _Attempt(name="the reader cannot make a schema", text="CREATE SCHEMA {views}", refused=_DENIED),
    _Attempt(name="the reader cannot change the tenants", text="DELETE FROM {root} WHERE false", refused=_DENIED),
)  # fmt: skip

_ROLE = (
    _Attempt(name="a shadow's role cannot read what is not loaded", text="SELECT FROM {root}", refused=_DENIED),
    _Attempt(name="a shadow's role cannot change what is not loaded", text="DELETE FROM {root} WHERE false",
             refused=_DENIED),
    _Attempt(name="a shadow's role cannot read the bookkeeping", text="SELECT FROM shadowdesk.watched",
             refused=_DENIED),
    _Attempt(name="a shadow's role cannot make a table among the app's", text="CREATE TABLE {app}.probe ()",
             refused=_DENIED),
    _Attempt(name="a shadow's role cannot make a table on its surface", text="CREATE TABLE {views}.probe ()",
             refused=_DENIED),
    _Attempt(name="a shadow's role cannot make a schema", text="CREATE SCHEMA probe", refused=_DENIED),
    _Attempt(name="a shadow's role cannot make a temporary table", text="CREATE TEMPORARY TABLE probe ()",
             refused=_DENIED),
    _Attempt(name="a shadow's role cannot make a role", text="CREATE ROLE shadow_probe", refused=_DENIED),
    _Attempt(name="a shadow's role belongs to no other role",
             text="SELECT FROM pg_auth_members WHERE member = current_user::regrole", rows=0),
    _Attempt(name="a shadow's role cannot become the owner", text="SET ROLE {owner}", refused=_DENIED),
    _Attempt(name="a shadow's role cannot read the server's files", text="SELECT pg_read_file('PG_VERSION')",
             refused=_DENIED),
    _Attempt(name="a shadow's role cannot start programs", text="COPY (SELECT 1) TO PROGRAM 'true'", refused=_DENIED),
)  # fmt: skip


def require(walls: Iterable[Wall], where: str) -> None:
    """Raises WallMissing when one does not hold; `where` is the server's name for people."""
    missing = [wall for wall in walls if not wall.holds]
    if missing:
        listed = "; ".join(f"{wall.name} ({wall.found})" for wall in missing)
        raise WallMissing(
            f"Not every wall holds on {where}: {listed}.",
            "Nothing was started and no row was changed.",
            "Run `shadowdesk doctor` and mend what it names; without that wall nothing is served.",
        )


def probe_fence(conn: Connection) -> list[Wall]:
    """The fence's views and the counters, as this server and this role have them.

    `conn` is an autocommit connection of a role that may make schemas: the applier, or the sandbox's owner.
    """
    views = f"fence_probe_{secrets.token_hex(6)}"
    tables = f"{views}_tables"
    names = {"views": sql.Identifier(views), "tables": sql.Identifier(tables), "hidden": sql.Literal(_HIDDEN)}
    with conn.transaction(force_rollback=True):
        try:
            with conn.transaction():
                conn.execute(sql.SQL(block("probe_tables")).format(**names))
                fence = build_fence(read_catalog(conn, [tables]), FenceRules(root="tenants"))
                make_fence_schema(conn, views, fence, "1", list(fence.tables), {})
        except psycopg.Error as error:
            if error.sqlstate is None or conn.closed:
                raise
            return [Wall(name="the fence can be made", holds=False, found=f"SQLSTATE {error.sqlstate}")]
        return [*_tried(conn, _FENCE, names), *_counted(conn, names, tables), _told(conn, names)]


def probe_receipts(conn: Connection) -> list[Wall]:
    """What the applier must not do to the receipts."""
    with conn.transaction(force_rollback=True):
        return list(_tried(conn, _RECEIPTS, {}))


def probe_reader(conn: Connection, fence: Fence) -> list[Wall]:
    """What the reader must not do: it may write no table of the app, and make nothing."""
    names = {"views": sql.Identifier("fence_probe"), "root": base(fence.tables[fence.root])}
    with conn.transaction(force_rollback=True):
        found = list(_tried(conn, _READER, names))
        row = conn.execute(block("probe_written"), {"schemas": list(fence.catalog.schemas)}).fetchone()
    writable = row[0] if row and row[0] else []
    told = f"may write {', '.join(writable[:5])}" if writable else "no right to"
    return [*found, Wall(name="the reader cannot write an app table", holds=not writable, found=told)]


def probe_role(shadow: Shadow, closed_urls: Iterable[str]) -> list[Wall]:
    """What a shadow's role must not do before anything is loaded; at `closed_urls` it must be turned away."""
    conn, root = shadow.role, shadow.fence.tables[shadow.fence.root]
    names = {
        "root": base(root), "app": sql.Identifier(root.table.schema), "views": sql.Identifier(shadow.surface),
        "owner": sql.Identifier(shadow.owner.info.user),
    }  # fmt: skip
    with conn.transaction(force_rollback=True):
        found = list(_tried(conn, _ROLE, names))
    entered = any(map(_enters, closed_urls))
    told = "it could connect" if entered else "refused"
    return [*found, Wall(name="a shadow's role cannot enter another database", holds=not entered, found=told)]


def _enters(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _tried(conn: Connection, attempts: tuple[_Attempt, ...], names: Mapping[str, sql.Composable]) -> Iterator[Wall]:
    for attempt in attempts:
        state, rows = _attempt(conn, sql.SQL(attempt.text).format(**names))
        holds = state in attempt.refused if attempt.refused else (not state and rows == attempt.rows)
        found = f"refused with SQLSTATE {state}" if state else f"it ran, on {rows} rows"
        yield Wall(name=attempt.name, holds=holds, found=found)


def _attempt(conn: Connection, statement: sql.Composed) -> tuple[str, int]:
    """SQLSTATE ('' when it ran) and the number of rows; what it did is taken back."""
    try:
        with conn.transaction(force_rollback=True):
            return "", conn.execute(statement).rowcount
    except psycopg.Error as error:
        if error.sqlstate is None or conn.closed:
            raise
        return error.sqlstate, 0


def _counted(conn: Connection, names: Mapping[str, sql.Composable], tables: str) -> Iterator[Wall]:
    """The counters tell an update, also where an upsert takes a hidden row over, which older minor releases allow."""
    updates = "UPDATE {views}.records SET secret = '2'"
    takes = "INSERT INTO {views}.records VALUES (2, 1, '1') ON CONFLICT (id) DO UPDATE SET tenant_id = 1"
    for name, text, refused in (
        ("updates are counted", updates, ()),
        ("an upsert that takes a row over counts as an update", takes, _OUTSIDE),
    ):
        before = read_counters(conn)
        try:
            with conn.transaction(force_rollback=True):
                conn.execute(sql.SQL(text).format(**names))
                counted = difference(read_counters(conn), before).get(f"{tables}.records")
        except psycopg.Error as error:
            if error.sqlstate is None or conn.closed:
                raise
            yield Wall(name=name, holds=error.sqlstate in refused, found=f"refused with SQLSTATE {error.sqlstate}")
        else:
            told = f"counted inserted, updated, deleted: {counted or 'nothing'}"
            yield Wall(name=name, holds=counted == (0, 1, 0), found=told)


def _told(conn: Connection, names: Mapping[str, sql.Composable]) -> Wall:
    """A cast error may hold a hidden value; what people are told of it may not."""
    casts = (
        "INSERT INTO {views}.records VALUES (2, 1, '1') ON CONFLICT (id) DO UPDATE SET tenant_id = 1"
        " WHERE records.secret::integer > 0"
    )
    name = "an error in an upsert tells nothing of a row outside"
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(sql.SQL(casts).format(**names))
    except psycopg.Error as error:
        if error.sqlstate is None or conn.closed:
            raise
        told = str(refusal(error))
        return Wall(name=name, holds=_HIDDEN not in told, found=f"SQLSTATE {error.sqlstate} is told in our words")
    return Wall(name=name, holds=False, found="it ran")
