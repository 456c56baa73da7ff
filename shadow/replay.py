"""The replay: one production transaction that runs the recorded statements and proves their effect, or changes nothing.

Called by the desk after a person confirmed; the order of the steps is design 4.6. Either production ends in exactly
the confirmed rows and holds a receipt, or the transaction is rolled back.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from shadow.counters import COUNTED, Counters, counters_of, difference, read_counters
from shadow.errors import Diverged, Drifted, OutcomeUnknown, ReplayPostponed, ShadowError
from shadow.fence import Fence
from shadow.fence_views import drop_fence_schema, make_fence_schema
from shadow.freshness import Looked, stale, stale_sentence
from shadow.rehearsal import Recorded
from shadow.replay_others import unconfirmed
from shadow.replay_rows import Mismatch, TouchedRow, batches, divergence, drift
from shadow.run import execute
from shadow.sql import block
from shadow.statement import render
from shadow.trace import answers, read_trace

_RETRIES = 5


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """Everything the replay needs of a proposal; nothing in it can change after the person saw it."""

    proposal_id: str
    digest: str
    tenant_key: str
    confirmed_by: str
    statements: tuple[Recorded, ...]
    row_counts: tuple[int, ...]
    draws: Mapping[str, tuple[str, ...]]
    counters: Counters
    rows: Sequence[TouchedRow]
    fingerprint: str
    changed_rows: int
    #: Rows that statements and queries looked at and that are not touched.
    looked: Looked = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The row in production's shadowdesk.receipts; its presence is the answer to "did it happen?"."""

    proposal_id: str
    digest: str
    tenant_key: str
    rows: int
    confirmed_by: str
    applied_at: datetime
    transaction_id: str
    #: What the person is to know of this replay besides; not in the row.
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReplayLimits:
    """How long the replay may wait for locks and run a statement, in seconds; whether changed rows that were only
    looked at stop it.
    """

    lock_timeout_s: float = 5.0
    statement_timeout_s: float = 60.0
    stale_blocks: bool = False


def replay(
    conn: psycopg.Connection[Any],
    fence: Fence,
    frozen: Frozen,
    limits: ReplayLimits,
    definitions: Callable[[], str],
) -> Receipt:
    """Replays once, in a session that `replay_session.py` named; a second call for the same proposal returns the first
    receipt and runs nothing.

    `definitions` reads the catalog's fingerprint (`shadow.catalog.read_fingerprint`) in another session. It is called
    when the statements have run: their locks on tables last until COMMIT, so what it sees is what they ran with. Asked
    inside the transaction, the catalog would be that of its snapshot, which Postgres does not execute by.

    Raises Drifted, Diverged or ReplayPostponed (all rolled back), or OutcomeUnknown when the connection broke in
    COMMIT: `find_receipt` then answers.
    """
    try:
        for attempt in range(_RETRIES):
            try:
                return _once(conn, fence, frozen, limits, definitions, first=attempt == 0)
            except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                conn.execute("ROLLBACK")
        raise _postponed("other writers kept changing the same rows")
    except psycopg.Error as error:
        if error.sqlstate is None and not isinstance(error, psycopg.OperationalError):
            raise  # not the server's answer but a fault of ours
        raise refusal(error) from None


#: A COMMIT that is answered must survive a crash of production; a host of ours that vanished must hold no lock.
#: A policy that hides rows from the applier must be an error: an UPDATE would silently find fewer rows.
#: One call to the server up to the receipt, which is the first write.
_BEGIN = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ;"
    " SELECT set_config('lock_timeout', {}, true), set_config('statement_timeout', {}, true),"
    " set_config('synchronous_commit',"
    " regexp_replace(current_setting('synchronous_commit'), '^(off|local)$', 'on'), true),"
    " set_config('idle_in_transaction_session_timeout', '30s', true), set_config('row_security', 'off', true);"
)


def _once(
    conn: psycopg.Connection[Any],
    fence: Fence,
    frozen: Frozen,
    limits: ReplayLimits,
    definitions: Callable[[], str],
    *,
    first: bool,
) -> Receipt:
    try:
        try:
            receipt = _begin(conn, frozen, limits)
        except psycopg.errors.UniqueViolation:
            conn.execute("ROLLBACK")
            return _already(conn, frozen)
        counted = {} if first else read_counters(conn)
        changed = _replay_in(conn, fence, frozen, limits, definitions, counted)
    except BaseException:
        with suppress(psycopg.Error):
            conn.execute("ROLLBACK")
        raise
    _commit(conn, frozen)
    return replace(receipt, notes=(stale_sentence(changed),)) if changed else receipt


def _begin(conn: psycopg.Connection[Any], frozen: Frozen, limits: ReplayLimits) -> Receipt:
    timeouts = (f"{int(limits.lock_timeout_s * 1000)}ms", f"{int(limits.statement_timeout_s * 1000)}ms")
    row = (frozen.proposal_id, frozen.digest, frozen.tenant_key, frozen.changed_rows, frozen.confirmed_by)
    cursor = conn.execute(sql.SQL(_BEGIN + block("write_receipt")).format(*timeouts, *row))
    return _receipt(answers(cursor)[-1][0])


def _replay_in(
    conn: psycopg.Connection[Any],
    fence: Fence,
    frozen: Frozen,
    limits: ReplayLimits,
    definitions: Callable[[], str],
    counted: Counters,
) -> tuple[str, ...]:
    """The steps between receipt and COMMIT, in the order of design 4.6; returns the rows that were only looked at and
    changed since.

    `counted`: what the session's earlier, rolled-back attempts left in Postgres' counters.
    """
    if fence.catalog.fingerprint != frozen.fingerprint:
        raise _redefined()
    schema = f"fence_{secrets.token_hex(6)}"
    named = sorted({t for r in frozen.statements for t in r.gated.reads | r.gated.writes})
    make_fence_schema(conn, schema, fence, frozen.tenant_key, named, frozen.draws)
    keyed, generated = batches(fence, frozen.rows)
    if mismatches := drift(conn, fence, frozen.tenant_key, keyed):
        raise _drifted(mismatches)
    changed = stale(conn, fence, frozen.looked)
    if changed and limits.stale_blocks:
        raise _stale(changed)
    _run(conn, frozen, schema)
    trace = read_trace(conn, schema, fence.catalog.clock_types)
    with ThreadPoolExecutor(1, "definitions") as worker:
        present = worker.submit(definitions)
        written = difference(trace.counters, counted)
        mismatches = _counter_mismatches(written, frozen.counters)
        if not mismatches:
            mismatches, survivors = divergence(conn, fence, keyed, trace, frozen.tenant_key)
            mismatches += unconfirmed(conn, fence, keyed, generated, survivors, written, trace, frozen.tenant_key)
    if present.result() != frozen.fingerprint:
        raise _redefined()
    if mismatches:
        raise _diverged(mismatches)
    if late := _counter_mismatches(_settled(conn, schema), trace.counters):
        raise _diverged(late)
    return changed


def _settled(conn: psycopg.Connection[Any], schema: str) -> Counters:
    """The counters when nothing is left for COMMIT to do: a deferred trigger may have put off another one, and an event
    trigger may write when our schema goes.
    """
    last = sql.SQL("SET CONSTRAINTS ALL IMMEDIATE; {}; SET CONSTRAINTS ALL IMMEDIATE; {}")
    cursor = conn.execute(last.format(drop_fence_schema(schema), sql.SQL(COUNTED)))
    return counters_of(answers(cursor)[-1])


def _run(conn: psycopg.Connection[Any], frozen: Frozen, schema: str) -> None:
    for recorded, expected in zip(frozen.statements, frozen.row_counts, strict=True):
        gated = recorded.gated
        text = render(gated, dict.fromkeys(gated.reads | gated.writes, schema))
        count, _ = execute(conn, text, gated.params, cap=0)
        if count != expected:
            raise _diverged([
                Mismatch(table="statement", key=(str(recorded.step),), column=None, how="another number of rows")
            ])  # fmt: skip


def _receipt(row: Any) -> Receipt:
    return Receipt(
        proposal_id=row[0], digest=row[1], tenant_key=row[2], rows=row[3], confirmed_by=row[4], applied_at=row[5],
        transaction_id=row[6],
    )  # fmt: skip


def find_receipt(url: str, proposal_id: str) -> Receipt | None:
    """The receipt, or None when production never committed the replay.

    Waits for nothing: a replay that is still running shows no receipt, see `still_running`.
    """
    with psycopg.connect(url, autocommit=True) as conn:
        row = conn.execute(block("find_receipt"), {"proposal_id": proposal_id}).fetchone()
    return _receipt(row) if row else None


def _already(conn: psycopg.Connection[Any], frozen: Frozen) -> Receipt:
    """The receipt of an earlier replay of the same proposal; it is never run again."""
    try:
        row = conn.execute(block("find_receipt"), {"proposal_id": frozen.proposal_id}).fetchone()
    except psycopg.Error:
        raise _unknown(frozen) from None
    if row is None or row[1] != frozen.digest:
        raise _diverged(
            [Mismatch(table="receipt", key=(), column=None, how="another digest was applied under this id")]
        )
    return _receipt(row)


def _commit(conn: psycopg.Connection[Any], frozen: Frozen) -> None:
    try:
        conn.execute("COMMIT")
    except psycopg.Error as error:
        if error.sqlstate is not None and not conn.closed and error.sqlstate[:2] not in ("57", "08"):
            raise
        raise _unknown(frozen) from None


def _unknown(frozen: Frozen) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"The connection to production was lost while proposal {frozen.proposal_id} was being committed.",
        "It is not known yet whether it was applied; it will not be applied a second time.",
        "Open the proposal again in a moment: the receipt on production answers.",
    )


def _counter_mismatches(counted: Counters, expected: Counters) -> list[Mismatch]:
    return [
        Mismatch(
            table=name,
            key=(),
            column=None,
            how="another number of rows would be written than in the rehearsal",
        )
        for name in sorted(set(counted) | set(expected))
        if counted.get(name) != expected.get(name)
    ]


def _drifted(mismatches: Sequence[Mismatch]) -> Drifted:
    return Drifted(
        f"Production changed since the dry run: {_listed(mismatches)}.",
        "Nothing was applied: the transaction was rolled back before any statement ran.",
        "Start a new dry run on today's rows and look at its diff.",
    )


def _redefined() -> Drifted:
    return _drifted([Mismatch(table="schema", key=(), column=None, how="production's definitions changed")])


def _stale(changed: Sequence[str]) -> Drifted:
    return Drifted(
        f"{stale_sentence(changed)} Policy stops a fix that rests on them.",
        "Nothing was applied: the transaction was rolled back before any statement ran.",
        "Start a new dry run on today's rows and look at them again.",
    )


def _diverged(mismatches: Sequence[Mismatch]) -> Diverged:
    return Diverged(
        f"Production would not have ended in the confirmed rows: {_listed(mismatches)}.",
        "Nothing was applied: the transaction was rolled back.",
        "Show this to an engineer: something on production acts differently than in the shadow.",
    )


def _listed(mismatches: Sequence[Mismatch]) -> str:
    more = f" and {len(mismatches) - 5} more" if len(mismatches) > 5 else ""
    return "; ".join(str(m) for m in mismatches[:5]) + more


#: What took too long, with the setting that bounds it, by SQLSTATE.
_TOO_LONG = {
    "55P03": "somebody else held a lock on its rows for longer than a replay waits (limits.replay_lock_timeout_s)",
    "57014": "a statement ran for longer than it may in a replay (limits.replay_statement_timeout_s)",
}


def _postponed(why: str) -> ReplayPostponed:
    return ReplayPostponed(
        f"Production was too busy: {why}.",
        "Nothing was applied: the transaction was rolled back.",
        "Confirm again in a moment; the proposal stands.",
    )


def refusal(error: psycopg.Error) -> ShadowError:
    """Production's own texts may hold other tenants' values: only the kind of error is told."""
    if error.sqlstate in _TOO_LONG:
        return _postponed(_TOO_LONG[error.sqlstate])
    if error.sqlstate is None or error.sqlstate[:2] in ("08", "57"):
        return ReplayPostponed(
            "Production could not be reached or dropped the connection before COMMIT.",
            "Nothing was applied.",
            "Confirm again when production is reachable.",
        )
    kinds = {
        "23505": "a unique value conflicts with a row outside this tenant or made since",
        "23503": "a row it refers to is missing on production, or others refer to a row that would go",
        "23001": "others refer to a row that would go",
        "23P01": "it would overlap a row outside this tenant or made since",
        "23514": "a check rule says no",
        "23502": "a required column would be empty",
        "44000": "a row would leave the tenant's fence",
        "42501": "the applier lacks a right that a statement or trigger needs",
    }
    how = kinds.get(error.sqlstate, f"production refused a statement (SQLSTATE {error.sqlstate})")
    return _diverged([Mismatch(table="production", key=(), column=None, how=how)])
