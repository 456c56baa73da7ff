"""Plays one entry on the stack and takes down everything the checks need."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from differ.model import RowChange
from tests.tampering.corpus import Entry, written_out
from tests.tampering.production import Bystander, Picture, Watched, roles
from tests.tampering.stack import OTHER, REP, TENANT, Answer, Logged, Stack, path_of, places

_READS = re.compile(r"\A[\s(]*(select|values|table|with)\b(?!.*\b(insert|update|delete|merge)\b)", re.I | re.S)
_SESSION = """
SELECT current_user || session_user || coalesce((SELECT string_agg(name || setting, ',' ORDER BY name) FROM pg_settings
    WHERE source = 'session' AND name NOT LIKE 'transaction%'), '')
  || (SELECT count(*) FROM pg_cursors WHERE name <> '')
  || (SELECT count(*) FROM pg_prepared_statements WHERE from_sql)
  || (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory')
  || (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()) || (SELECT count(*) FROM pg_listening_channels())
"""
_OTHERS = (
    "SELECT md5((SELECT coalesce(string_agg(t::text, ',' ORDER BY id), '') FROM public.contracts t)"
    " || (SELECT coalesce(string_agg(t::text, ',' ORDER BY id), '') FROM public.line_items t)"
    " || (SELECT coalesce(string_agg(t::text, ',' ORDER BY id), '') FROM public.invoices t))"
)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One statement list's way: the answers, the diff, the replay, and production before and after."""

    texts: tuple[str, ...]
    answers: tuple[Answer, ...]
    told: tuple[Answer, ...]
    replayed: tuple[Answer, ...]
    rows: tuple[RowChange, ...]
    before: Picture
    unconfirmed: Picture
    after: Picture
    crossing: int
    same_effect: bool
    recorded: tuple[str, ...]
    reader_survived: bool

    @property
    def applied(self) -> bool:
        """Whether a person's yes brought a receipt."""
        return bool(self.replayed) and self.replayed[-1].ok

    @property
    def changed(self) -> set[tuple[str, str]]:
        """Keys of production's rows that are not as before; what the application's own journal keeps is no fix."""
        return changed(self.before, self.after)


@dataclass(frozen=True, kw_only=True)
class Played:
    """One entry's sides and what was true around them."""

    entry: Entry
    sides: tuple[Side, ...]
    log: str
    definitions_same: bool
    roles_same: bool
    session_same: bool
    usable: bool
    other_shadow_same: bool
    blocked: tuple[str, ...]
    victims_alive: bool
    notified: bool
    gate_lives: bool = True

    @property
    def sent(self) -> bool:
        """False where the client could send none of it."""
        return any(answer.sent for side in self.sides for answer in side.answers)


def changed(before: Picture, after: Picture) -> set[tuple[str, str]]:
    """Keys whose row differs, without the application's journal."""
    both = set() if before is after else before.keys() | after.keys()
    return {key for key in both if before.get(key) != after.get(key) and key[0] != "audit_log"}


@dataclass
class Player:
    """The stack, the watched production and the neighbour whose shadow is open at the same time."""

    stack: Stack
    watched: Watched
    bystander: Bystander
    sandbox: psycopg.Connection[Any]
    logged: Logged
    shared: str = ""
    other: str = ""
    listeners: list[psycopg.Connection[Any]] = field(default_factory=list)

    spare: str = ""
    last: Picture = field(default_factory=dict)
    known: dict[str, tuple[str, str, Any, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.other = self._opened(OTHER)
        self.shared = self._opened(TENANT)
        self.last = self.watched.picture()

    def _opened(self, tenant: str) -> str:
        dry_run = self.stack.started(tenant)
        for table in ("contracts", "line_items", "invoices") if tenant == OTHER else ("contracts",):
            answer = self.stack.call("query_shadow", dry_run_id=dry_run, sql=f"SELECT count(*) FROM {table}")
            assert answer.ok, answer.words
        return dry_run

    def play(self, entry: Entry) -> Played:
        """Sends the entry, all the way where it asks for it, and puts everything back."""
        flow = entry.surface != "shadow"
        own = self._fresh() if flow else self.shared
        theirs = self.stack.shadow(self.other)
        around = self.known.get(own) or self._around(own)
        others = theirs.owner.execute(_OTHERS.encode()).fetchone()
        pid = theirs.role.info.backend_pid
        self._listen(entry)
        self.logged.taken(), self.bystander.blocked()
        sides = []
        for number, side in enumerate(entry.sides):
            if number and flow:
                own = self._next(own, sides[-1])
            sides.append(self._side(entry, side, own, flow))
            if not flow and sides[-1].recorded:
                self._clean(own)
        blocked = tuple(self.bystander.blocked())
        wanted = "connection_usable" in entry.checks and not sides[-1].replayed
        usable = not wanted or self.stack.call("query_shadow", dry_run_id=own, sql="SELECT 1 AS one").ok
        after = self._around(own)
        self.known = {own: after}
        seen = Played(
            entry=entry, sides=tuple(sides), log=self.logged.taken(),
            definitions_same=around[0] == after[0], roles_same=flow or around[1] == after[1],
            session_same=around[2] == after[2] and after[3] == 0, usable=usable,
            other_shadow_same=others == theirs.owner.execute(_OTHERS.encode()).fetchone(), blocked=blocked,
            victims_alive=self.bystander.alive and not theirs.role.closed and theirs.role.info.backend_pid == pid
            and theirs.role.execute("SELECT 1").fetchone() == (1,),
            notified=self._notified(),
        )  # fmt: skip
        if flow:
            self.spare = self._next(own, sides[-1], fresh=False)
        if not usable and not flow:
            self.shared = self._opened(TENANT)
        return seen

    def _fresh(self) -> str:
        own, self.spare = self.spare or self._opened(TENANT), ""
        return own

    def _next(self, own: str, side: Side, *, fresh: bool = True) -> str:
        """The dry run for what follows: the same one as long as nothing was proposed from it."""
        if not side.recorded:
            return own
        self.stack.assembly.shadows.drop(own, self.stack.shadow(own).id)
        return self._opened(TENANT) if fresh else ""

    def _clean(self, own: str) -> None:
        self.stack.call("undo_statement", dry_run_id=own, to_step=0)

    def _around(self, own: str) -> tuple[str, str, Any, int]:
        """Definitions, the sandbox' roles, the session's state, and what the shadow's role owns anywhere."""
        shadow = self.stack.shadow(own)
        session = None if shadow.role.closed else shadow.role.execute(_SESSION.encode()).fetchone()
        row = self.sandbox.execute(
            "SELECT count(*) FROM pg_shdepend WHERE refobjid = to_regrole(%s) AND deptype = 'o'", (shadow.surface,)
        ).fetchone()
        production = self.watched.definitions() + roles(self.watched.conn)
        return production, roles(self.sandbox), session, int(row[0]) if row else 0

    def _side(self, entry: Entry, statements: Sequence[Any], own: str, flow: bool) -> Side:
        before = self.last
        names = places(self.stack, own, self.other)
        texts = tuple(written_out(statement, names) for statement in statements)
        answers = tuple(self._sent(own, text, entry.params) for text in texts)
        recorded = tuple(s.text for s in self.stack.assembly.control.statements(own))
        told: list[Answer] = []
        replayed: list[Answer] = []
        rows: Sequence[RowChange] = ()
        if recorded or "diff_reader_survives" in entry.checks:
            told.append(self.stack.call("show_diff", dry_run_id=own))
        reader = all(answer.ok for answer in told)
        unconfirmed = after = self.watched.picture()
        if flow and recorded:
            rows = self.stack.assembly.desk.diff(REP, own, None, 0, 100_000).rows
            made = self.stack.call("propose", dry_run_id=own)
            told.append(made)
            unconfirmed = self.watched.picture()
            if made.ok:
                path = path_of(made.value["review_url"])
                told.append(self.stack.read(path))
                replayed = [self.stack.confirm(path, int(made.value["rows"]))]
                after = self.watched.picture()
        side = Side(
            texts=texts, answers=answers, told=tuple(told), replayed=tuple(replayed), rows=tuple(rows), before=before,
            unconfirmed=unconfirmed, after=after, crossing=self.watched.crossing(),
            same_effect=self._same(before, after, rows), recorded=recorded, reader_survived=reader,
        )  # fmt: skip
        self.last = after
        if before != after:
            self.watched.put_back({k for k in before.keys() | after.keys() if before.get(k) != after.get(k)})
            self.last = self.watched.picture()
            assert self.last == before, "production could not be put back"
        return side

    def _sent(self, own: str, text: str, params: Sequence[Any]) -> Answer:
        given: dict[str, Any] = {"dry_run_id": own, "sql": text}
        if params:
            given["params"] = list(params)
        if _READS.match(text[:5000]):
            return self.stack.call("query_shadow", **given)
        return self.stack.call("run_statement", **given, reason="an entry of the corpus")

    def _same(self, before: Picture, after: Picture, rows: Sequence[RowChange]) -> bool:
        """Whether production's change is the diff's: the same rows, and each cell as it was shown."""
        shown = {(row.table, row.key[0][1]): row for row in rows if row.table != "audit_log"}
        if changed(before, after) != set(shown):
            return False
        for (table, key), row in shown.items():
            cells = self.watched.cells(table, key)
            if (row.kind == "delete") != (not cells):
                return False
            if cells and any(c.kind == "value" and cells[c.column] != c.after for c in row.cells):
                return False
        return True

    def _listen(self, entry: Entry) -> None:
        """Listens, on production and in the sandbox, on every name that the entry holds."""
        if "no_notification_delivered" not in entry.checks:
            return
        names = {n.lower() for side in entry.sides for text in side for n in re.findall(r"[A-Za-z_]\w*", str(text))}
        self.listeners = [
            psycopg.connect(self.watched.conn.info.dsn, password=self.watched.conn.info.password, autocommit=True),
            psycopg.connect(self.stack.shadow(self.shared).owner.info.dsn,
                            password=self.stack.shadow(self.shared).owner.info.password, autocommit=True),
        ]  # fmt: skip
        for conn in self.listeners:
            for name in names:
                conn.execute(f'LISTEN "{name[:60]}"'.encode())

    def _notified(self) -> bool:
        found = False
        for conn in self.listeners:
            found |= any(True for _ in conn.notifies(timeout=0.05))
            conn.close()
        self.listeners = []
        return found
