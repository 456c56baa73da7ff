"""A shadow: one tenant's rows in a throw-away database; rows come on first need, and privilege is what is loaded.

Opened by the desk, one per dry run; `run.py`, `undo` and `rehearsal.py` work on it one statement at a time.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql

from shadow.catalog import NEXTVAL, Column, unrepeatable
from shadow.clone import clone_table
from shadow.errors import ShadowExpired, StatementFailed, StatementRefused
from shadow.fence import SHARED, SINK, Fence, FencedTable
from shadow.needs import DELETE, READ, WRITE, closure
from shadow.predicate import base, view_statements
from shadow.preparing import Connected, prepare_surface
from shadow.session import connect
from shadow.snapshot import OpenReader, Snapshot
from shadow.turns import Turns
from shadow.watch import own, watch

_RIGHTS = {READ: "SELECT", WRITE: "INSERT, UPDATE", DELETE: "DELETE"}


class Shadow:
    """One open shadow: the owner's connection for loading and bookkeeping, the role's for statements."""

    def __init__(
        self,
        *,
        shadow_id: str,
        fence: Fence,
        tenant_key: str,
        owner_url: str,
        role_url: str,
        open_reader: OpenReader,
        connected: Connected | None = None,
        snapshot: Snapshot | None = None,
        search_path: Sequence[str],
        max_bytes: int,
        turns: Turns,
    ) -> None:
        self.id = shadow_id
        self.fence = fence
        self.tenant_key = tenant_key
        self.surface = f"shadow_{shadow_id}"
        self.search_path = tuple(search_path)
        self.snapshot = snapshot
        #: One statement at a time per shadow; held by whoever works on it.
        self.lock = threading.RLock()
        #: Told which table is being cloned and the share done (0 to 1); set by the hub for one piece of work.
        self.progress: Callable[[str, float], None] | None = None
        #: Measures before the first write, by name; filled by the hub.
        self.totals: dict[str, str] = {}
        #: What the rep must know about this shadow, such as that it was rebuilt and why; `news` gives each once.
        self.notes: list[str] = []
        self._told = 0
        #: Whether errors leave out what may hold a cell's value; set by the hub where columns are masked.
        self.quiet = False
        #: The time for one statement that the hub set on the role's connection; None is the sandbox' own.
        self.timeout_ms: int | None = None
        self._open_reader = open_reader
        self._max_bytes = max_bytes
        self._turns = turns
        self._prepared = connected is not None
        if connected is None:
            try:
                self.owner = connect(owner_url, search_path, application="shadowdesk owner")
            except psycopg.OperationalError as error:
                raise gone() from error
        else:
            self.owner = connected.owner
        self._role_url = role_url
        self._role: psycopg.Connection[Any] | None = connected.role if connected else None
        self._levels: dict[str, int] = {}
        self.clock_types = fence.catalog.clock_types

    @property
    def role(self) -> psycopg.Connection[Any]:
        """The role's connection, made for the first statement. Raises ShadowExpired when it cannot be had."""
        if self._role is None:
            try:
                self._role = connect(self._role_url, self.search_path, application="shadowdesk shadow")
            except psycopg.OperationalError as error:
                raise gone() from error
        return self._role

    @property
    def closed(self) -> bool:
        """True when a connection was closed, by us or by a server that went away."""
        return self.owner.closed or (self._role is not None and self._role.closed)

    def prepare(self, snapshot: Snapshot) -> None:
        """Notes the snapshot the rows will come from; prepares the surface unless the pool did."""
        self.snapshot = snapshot
        with self.owner.transaction():
            if not self._prepared:
                prepare_surface(self.owner, self.surface, self.fence.catalog.schemas, self.search_path)
            self.owner.execute(
                "INSERT INTO shadowdesk.snapshot(name, taken_at, filenodes) VALUES (%s, %s, %s::jsonb)",
                (snapshot.name, snapshot.taken_at, snapshot.filenodes),
            )

    def attach(self) -> None:
        """Takes up an already prepared shadow that another process made; its snapshot is imported by name."""
        try:
            row = self.owner.execute("SELECT name, taken_at, filenodes::text FROM shadowdesk.snapshot").fetchone()
        except psycopg.errors.UndefinedTable as error:
            raise gone() from error
        if row is None:
            raise gone()
        self.snapshot = Snapshot(self._open_reader, self.fence.catalog.schemas, *row)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One piece of work at a time on this shadow, across threads and processes; sees what others have loaded.

        Raises ShadowExpired when the shadow was dropped meanwhile, or its server went away.
        """
        with self.lock:
            try:
                self.owner.execute("SELECT pg_advisory_lock(1)")
                self._levels = dict(self.owner.execute("SELECT name, level FROM shadowdesk.loaded").fetchall())
            except psycopg.OperationalError as error:
                raise gone() from error
            try:
                yield
            except psycopg.OperationalError as error:
                if self.closed:
                    raise gone() from error
                raise
            finally:
                self.progress = None
                with suppress(psycopg.Error):
                    self.owner.execute("SELECT pg_advisory_unlock(1)")

    def close(self) -> None:
        """Closes the connections; the shadow itself lives on until it is dropped."""
        for conn in (self._role, self.owner):
            if conn is not None:
                with suppress(psycopg.Error):
                    conn.close()

    def news(self) -> tuple[str, ...]:
        """The notes that were not told with a step yet."""
        untold = tuple(self.notes[self._told :])
        self._told = len(self.notes)
        return untold

    def level(self, name: str) -> int:
        """How deep a table is loaded: 0 not at all, then READ, WRITE, DELETE."""
        return self._levels.get(name, 0)

    def ensure(self, wanted: Mapping[str, int]) -> list[str]:
        """Loads and grants what `wanted` (table → level) leads to; returns the tables loaded now.

        Raises SnapshotGone when production can no longer show the dry run's snapshot.
        """
        levels = closure(self.fence, wanted)
        raised = {name: level for name, level in levels.items() if self._levels.get(name, 0) < level}
        missing = sorted(name for name in raised if name not in self._levels)
        if not raised:
            return []
        with self._turns.turn(), self.owner.transaction():
            rows = self._load(missing)
            for name, level in sorted(raised.items()):
                self._grant(self.fence.tables[name], self._levels.get(name, 0), level)
                self.owner.execute(
                    "INSERT INTO shadowdesk.loaded(name, rel, level, rows) VALUES (%s, %s::regclass, %s, %s)"
                    " ON CONFLICT (name) DO UPDATE SET level = excluded.level",
                    (name, base(self.fence.tables[name]).as_string(self.owner), level, rows.get(name, 0)),
                )
        self._levels.update(raised)
        return missing

    def _load(self, missing: Sequence[str]) -> dict[str, int]:
        copied = [name for name in missing if self.fence.tables[name].fence_class != SINK]
        if not copied:
            return {}
        if self.snapshot is None:
            raise gone()
        # A check that talks for each row would fill the way back while nobody listens: neither side would go on.
        self.owner.execute("SET LOCAL session_replication_role = replica; SET LOCAL client_min_messages = error")
        with self.snapshot.reader() as source:
            rows = {}
            for number, name in enumerate(copied):
                if self.progress is not None:
                    self.progress(f"Cloning {name}", number / len(copied))
                table = self.fence.tables[name]
                rows[name] = clone_table(source, self.owner, self.fence, self.tenant_key, table, self._max_bytes)
        self.owner.execute("SET LOCAL session_replication_role = origin; SET LOCAL client_min_messages = DEFAULT")
        return rows

    def _grant(self, table: FencedTable, old: int, new: int) -> None:
        role = sql.Identifier(self.surface)
        if old == 0 and table.surface:
            self._make_view(table)
        most = READ if table.fence_class == SHARED or table.table.rules else new
        if most >= WRITE and old < WRITE:
            watch(self.owner, table, self._oid(table))
            self._grant_sequences(table)
        stored = [base(table), *(sql.Identifier(schema, name) for schema, name in table.table.partitions)]
        view = [sql.Identifier(self.surface, table.table.name)] if table.surface else []
        for level in range(old + 1, most + 1):
            for target in (*stored, *(view if level == READ or table.writable else ())):
                self.owner.execute(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(_RIGHTS[level]), target, role))

    def _make_view(self, table: FencedTable) -> None:
        defaults = {
            c.name: self._draw(table, c)
            for c in table.table.columns
            if c.draws in ("sequence", "volatile") or self._unrepeatable(c)
        }
        if not table.owned:
            defaults = {}
        for statement in view_statements(
            self.fence, self.tenant_key, table, self.surface, defaults, shared_as_loaded=True
        ):
            self.owner.execute(statement)

    def _unrepeatable(self, column: Column) -> bool:
        return unrepeatable(column, self.fence.catalog.routines)

    def _draw(self, table: FencedTable, column: Column) -> sql.Composed:
        slot = slot_name(table.table.name, column.name)
        reserved = column.draws == "sequence" or self._unrepeatable(column)
        self.owner.execute("SELECT shadowdesk.add_slot(%s, %s)", (slot, None if reserved else column.default))
        return sql.SQL("shadowdesk.draw({})::{}").format(sql.Literal(slot), sql.SQL(column.type))

    def _grant_sequences(self, table: FencedTable) -> None:
        for column in table.table.columns:
            if column.sequence is not None:
                self.owner.execute(
                    sql.SQL("GRANT USAGE ON SEQUENCE {} TO {}").format(
                        sql.Identifier(*column.sequence), sql.Identifier(self.surface)
                    )
                )

    def _oid(self, table: FencedTable) -> int:
        row = self.owner.execute("SELECT %s::regclass::oid", (base(table).as_string(self.owner),)).fetchone()
        assert row is not None  # noqa: S101 - the cast raises when there is no such table
        return int(row[0])

    def reserve(self, slot: str, count: int) -> None:
        """Draws `count` values from production's sequences, so that an id seen here is the id inserted there.

        Raises StatementRefused when a function of the app draws them, StatementFailed when there are none left.
        """
        table_name, column_name = slot.rsplit(".", 1)
        column = self.fence.tables[table_name].table.column(column_name)
        if column.sequence is None or self._unrepeatable(column):
            raise StatementRefused(
                f"The default of {column_name} in {table_name} cannot be foreseen for production: it says who runs the"
                " statement, or draws a number inside a function.",
                "It was rolled back: nothing was kept.",
                f"Give {column_name} a value in the statement.",
            )
        try:
            with self._open_reader("shadowdesk ids") as source:
                values = self._drawn_on(source, column, column.sequence, count)
        except psycopg.Error as error:
            raise StatementFailed(
                f"No new numbers for {column_name} of {table_name} could be reserved on production"
                f" (SQLSTATE {error.sqlstate}).",
                "It was rolled back: nothing was kept.",
                "Ask an engineer: the sequence is used up, or the reader may not draw from it.",
            ) from None
        with self.owner.cursor() as cur:
            cur.executemany(
                "INSERT INTO shadowdesk.pins(slot, value, reserved) VALUES (%s, %s, true)",
                [(slot, value) for value in values],
            )

    def _drawn_on(
        self, source: psycopg.Connection[Any], column: Column, sequence: tuple[str, str], count: int
    ) -> list[str]:
        """Values of a column's default: numbers come from production, what is made of them (`'INV-' || …`) here."""
        found = [] if column.identity else NEXTVAL.findall(column.default or "")
        names = found or [sql.Literal(sql.Identifier(*sequence).as_string(source)).as_string(source)]
        drawn = sql.SQL(", ").join(sql.SQL("nextval({}::regclass)::text").format(sql.SQL(name)) for name in names)
        query = sql.SQL("SELECT {} FROM generate_series(1, {})").format(drawn, sql.Literal(count))
        rows = source.execute(query).fetchall()
        for name, last in zip(names, rows[-1] if rows else (), strict=False):
            # what triggers draw here must not meet what was reserved
            self.owner.execute(sql.SQL("SELECT setval({}::regclass, {})").format(sql.SQL(name), sql.Literal(int(last))))
        if not found or NEXTVAL.fullmatch(column.default or ""):
            return [number for (number, *_) in rows]
        parts = NEXTVAL.split(column.default or "")[::2]
        made = []
        for numbers in rows:
            numbered = (*(f"({number})::bigint" for number in numbers), "")
            text = "".join(part + number for part, number in zip(parts, numbered, strict=True))
            row = self.owner.execute(sql.SQL("SELECT ({})::text").format(sql.SQL(text))).fetchone()
            made.append(str(row[0]) if row else "")
        return made

    def made_by_triggers(self, name: str) -> bool:
        """True when a trigger inserted rows into the table in a kept step: their ids are not reserved."""
        query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE op = 'I' AND origin LIKE 'trigger:%')").format(
            own("touched", self._oid(self.fence.tables[name]))
        )
        row = self.owner.execute(query).fetchone()
        return bool(row and row[0])

    def unused(self, slot: str) -> int:
        """How many reserved ids of a slot no step has drawn yet."""
        row = self.owner.execute(
            "SELECT count(*) FROM shadowdesk.pins WHERE slot = %s AND step IS NULL", (slot,)
        ).fetchone()
        return int(row[0]) if row else 0

    def size(self) -> int:
        """Bytes that the shadow's database takes on disk."""
        row = self.owner.execute("SELECT pg_database_size(current_database())").fetchone()
        return int(row[0]) if row else 0

    def undo_to(self, step: int) -> None:
        """Puts the rows back as they were at the end of `step` and forgets what came after."""
        with self.owner.transaction():
            self.owner.execute("SELECT shadowdesk.restore(%s)", (step,))
            self.owner.execute("SELECT shadowdesk.forget(%s)", (step,))


def slot_name(table: str, column: str) -> str:
    """The name under which drawn values of one column are kept."""
    return f"{table}.{column}"


def gone() -> ShadowExpired:
    """The shadow's database is not there any more."""
    return ShadowExpired(
        "The dry run's shadow is lost: it expired, or the sandbox was restarted.",
        "Nothing was changed anywhere; the recorded statements are kept.",
        "Continue as before: the shadow is rebuilt from its statements, or start a new dry run.",
    )


def idle() -> ShadowExpired:
    """The sandbox ended the session of a shadow's role that stood still inside a transaction."""
    return ShadowExpired(
        "A transaction on the dry run's shadow stood idle for longer than it may (limits.idle_timeout_s).",
        "It was rolled back: nothing was changed anywhere, and the recorded statements are kept.",
        "Continue as before: the shadow is rebuilt from its statements, or start a new dry run.",
    )
