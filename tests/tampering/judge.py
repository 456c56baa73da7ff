"""What must hold after an entry: one function per check of the corpus, over pictures taken before and after it."""

import re
import time
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from differ.model import Diff
from tests.tampering.entry import Entry
from tests.tampering.stack import Answer, Stack, alive, fingerprint

Rows = dict[tuple[str, str], str]

_SECRET = re.compile(r"T[23]SECRET[\w-]*|APPSECRET[\w-]*")
_CATALOG = (
    "SELECT c.oid::regclass::text, c.xmin::text, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname !~ '^(pg_toast|pg_temp|shadowdesk|fence_)' AND c.oid >= 16384 AND c.relkind <> 'S' ORDER BY 1",
    "SELECT oid::regprocedure::text, xmin::text FROM pg_proc WHERE oid >= 16384 ORDER BY 1",
    "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|fence_)' ORDER BY 1",
    "SELECT extname FROM pg_extension ORDER BY 1",
    "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, tgrelid",
    "SELECT gid FROM pg_prepared_xacts",
)
_ROLES = (
    "SELECT rolname, rolsuper, rolcreatedb, rolcreaterole, rolbypassrls, rolcanlogin, rolconfig::text FROM pg_roles"
    " WHERE rolname !~ '^(shadow_|inspect_)' ORDER BY 1",
    "SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members ORDER BY 1, 2",
)
_STRAY = (
    "SELECT (SELECT count(*) FROM invoices i JOIN contracts c ON c.id = i.contract_id WHERE c.tenant_id <> i.tenant_id)"
    " + (SELECT count(*) FROM contracts c WHERE NOT EXISTS (SELECT FROM tenants t WHERE t.id = c.tenant_id))"
)
_SESSION = (
    "SELECT name, setting FROM pg_settings WHERE name NOT LIKE 'plpgsql.%' ORDER BY 1",
    "SELECT current_user, session_user",
    "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype IN ('advisory', 'object')"
    " AND mode <> 'AccessShareLock'",
    "SELECT count(*) FROM pg_prepared_statements",
    "SELECT count(*) FROM pg_cursors",
    "SELECT count(*) FROM pg_listening_channels()",
    "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()",
)
_NON_FINITE = "SELECT count(*) FROM {} t WHERE t::text ~* '(\\mnan\\M|infinity)'"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is compared: production's rows, definitions and roles, the other shadow, the session of our own shadow."""

    rows: Rows
    receipts: int
    catalog: str
    roles: str
    other_shadow: str
    session: str


@dataclass(kw_only=True)
class Course:
    """How an entry went: what was said at each stage, what was confirmed, how production stood before the confirm."""

    answers: list[Answer] = field(default_factory=list)
    replay_answers: list[str] = field(default_factory=list)
    kept: int = 0
    executed: bool = False
    proposed: Diff | None = None
    applied: bool = False
    replay_refused: str = ""
    recorded: list[tuple[str, str]] = field(default_factory=list)
    unconfirmed: Rows | None = None
    began: float = field(default_factory=time.monotonic)
    notified: bool = False

    @property
    def refused(self) -> bool:
        """Something of it was refused, in the dry run or at its end."""
        return any(answer.refused for answer in self.answers) or bool(self.replay_refused)


def picture(stack: Stack, dry_run_id: str) -> Picture:
    """How everything stands."""
    other = stack.shadow_of(stack.other)
    own = stack.shadow_of(dry_run_id)
    tables = ", ".join(
        f"(SELECT string_agg(t::text, ',' ORDER BY id) FROM {name} t)" for name in ("contracts", "invoices")
    )
    return Picture(
        rows=stack.rows(),
        receipts=int(stack.query("SELECT count(*) FROM shadowdesk.receipts")[0][0]),
        catalog="".join(fingerprint(stack.owner, q) for q in _CATALOG),
        roles="".join(fingerprint(conn, q) for q in _ROLES for conn in (stack.owner, other.owner)),
        other_shadow=fingerprint(other.owner, f"SELECT {tables}"),
        session=_session(own.role),
    )


def _session(role: psycopg.Connection[Any]) -> str:
    if role.closed or role.info.transaction_status != TransactionStatus.IDLE:
        return "not idle"
    return "".join(fingerprint(role, q) for q in _SESSION)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Everything a check may look at."""

    entry: Entry
    course: Course
    before: Picture
    after: Picture
    stack: Stack
    dry_run_id: str

    @property
    def changed(self) -> set[tuple[str, str]]:
        """Production's rows that are not as they were."""
        keys = self.before.rows.keys() | self.after.rows.keys()
        return {key for key in keys if self.before.rows.get(key) != self.after.rows.get(key)}

    @property
    def output(self) -> str:
        return "\n".join([*(a.text for a in self.course.answers), *self.course.replay_answers])


def _others(rows: Rows, own: set[str]) -> Rows:
    """Rows that are not the rep's tenant's: by their tenant's number, children by their contract's."""
    mine = {key for key, text in rows.items() if _mine(key, text, own)}
    return {key: text for key, text in rows.items() if key not in mine and key[0] != "audit_log"}


def _mine(key: tuple[str, str], text: str, contracts: set[str]) -> bool:
    cells = text.strip("()").split(",")
    if key[0] == "tenants":
        return key[1] == "1"
    if key[0] in ("contracts", "invoices"):
        return cells[1] == "1"
    return key[0] == "line_items" and cells[1] in contracts


def _other_tenants_unchanged(case: Case) -> bool:
    own = {key[1] for key, text in case.before.rows.items() if key[0] == "contracts" and _mine(key, text, set())}
    own |= {key[1] for key, text in case.after.rows.items() if key[0] == "contracts" and _mine(key, text, set())}
    before = _others(case.before.rows, own)
    return all(case.after.rows.get(key) == text for key, text in before.items()) and not (
        _others(case.after.rows, own).keys() - before.keys()
    )


def _same_effect(case: Case) -> bool:
    if not case.course.applied:
        return not case.changed
    diff = case.course.proposed
    if diff is None:
        return False
    shown = {(row.table, ",".join(text for _, text in row.key)) for row in diff.rows}
    changed = {key for key in case.changed if key[0] != "audit_log"}
    return changed == {key for key in shown if key[0] != "audit_log"} and all(_as_shown(case, row) for row in diff.rows)


def _as_shown(case: Case, row: Any) -> bool:
    """Every value cell of a confirmed row as production has it, asked cell by cell."""
    if row.table == "audit_log" or row.kind == "delete":
        return True
    for cell in row.cells:
        if cell.kind == "value":
            found = case.stack.owner.execute(
                f'SELECT "{cell.column}"::text FROM {row.table} WHERE id = %s::bigint'.encode(), (row.key[0][1],)
            ).fetchone()
            if found is None or found[0] != cell.after:
                return False
    return True


def _no_secret(case: Case) -> bool:
    sent = " ".join([*case.entry.statements, *(str(p) for p in case.entry.params)])
    return all(found in sent for found in _SECRET.findall(case.output))


def _terminal_safe(case: Case) -> bool:
    texts = [answer.text for answer in case.course.answers]
    return not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for text in texts for c in text)


def _finite(case: Case) -> bool:
    tables = ("contracts", "line_items", "invoices")
    return all(case.stack.query(_NON_FINITE.format(name))[0][0] == 0 for name in tables)


def _answers_still(case: Case) -> bool:
    return not case.stack.call("list_dry_runs", {"limit": 1}).refused


def _usable(case: Case) -> bool:
    asked = {"dry_run_id": case.dry_run_id, "sql": "SELECT count(*) FROM contracts"}
    return not case.stack.call("query_shadow", asked).refused


JUDGES: Mapping[str, Callable[[Case], bool]] = {
    "prod_unchanged_before_confirm": lambda c: c.course.unconfirmed is None or c.course.unconfirmed == c.before.rows,
    "other_tenants_unchanged": _other_tenants_unchanged,
    "other_shadow_unchanged": lambda c: c.before.other_shadow == c.after.other_shadow,
    "catalog_unchanged": lambda c: c.before.catalog == c.after.catalog,
    "roles_unchanged": lambda c: c.before.roles == c.after.roles,
    "session_state_unchanged": lambda c: c.before.session == c.after.session,
    "connection_usable": _usable,
    "no_other_tenant_value_in_output": _no_secret,
    "finished_within_4s": lambda c: all(answer.seconds < 4 for answer in c.course.answers),
    "bystander_dml_not_blocked": lambda c: not c.stack.bystander.blocked_since(c.course.began),
    "victim_session_alive": lambda c: alive(c.stack.victim) and alive(c.stack.shadow_of(c.stack.other).owner),
    "output_under_1MB": lambda c: len(c.output.encode("utf-8", "replace")) < 1 << 20,
    "gate_process_survives": _answers_still,
    "diff_reader_survives": _answers_still,
    "no_notification_delivered": lambda c: not c.course.notified,
    "no_cross_tenant_reference": lambda c: c.stack.query(_STRAY)[0][0] == 0,
    "succeeds_in_shadow": lambda c: c.entry.known_limit or c.course.kept == len(c.entry.statements),
    "succeeds_on_replay": lambda c: c.entry.known_limit or c.entry.surface == "shadow" or c.course.applied,
    "same_effect": _same_effect,
    "same_effect_or_rolled_back": _same_effect,
    "value_stored_verbatim": _same_effect,
    "replay_is_atomic": _same_effect,
    "recorded_text_equals_executed_text": lambda c: all(text in c.entry.statements for text, _ in c.course.recorded),
    "recorded_as_write": lambda c: not c.course.kept or bool(c.course.proposed and c.course.proposed.total_rows),
    "no_non_finite_value_applied": _finite,
    "terminal_safe_output": _terminal_safe,
}


def breaches(case: Case) -> list[str]:
    """The names of what does not hold: the entry's checks, its expectation, its canaries."""
    found = [name for name in case.entry.checks if name != "indistinguishable_outcome" and not JUDGES[name](case)]
    if case.entry.expected == "reject" and not case.course.refused:
        found.append("expected_reject")
    if case.entry.exec_is_breach and case.course.executed:
        found.append("executed")
    for canary in case.entry.canaries:
        replay, pattern = canary.startswith("replay:"), canary.removeprefix("replay:")
        texts = case.course.replay_answers if replay else [a.text for a in case.course.answers]
        if any(re.search(pattern, line) for text in texts for line in text.splitlines()):
            found.append(f"canary {canary}")
    return found
