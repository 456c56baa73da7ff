"""The rehearsal: all kept statements in one transaction at propose time; what it shows is what is frozen.

Called by the desk. Steps committed one by one are not one transaction (deferred keys, two `now()` keys, deferred
triggers), so production is promised only what this one transaction did (design 4.5).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from shadow.counters import difference, read_counters
from shadow.errors import StatementFailed
from shadow.run import clock_texts, execute, failed
from shadow.shadow import Shadow
from shadow.statement import GatedStatement, render
from shadow.trace import FIRE_DEFERRED


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One kept statement and the rows Postgres counted for it in its step."""

    step: int
    gated: GatedStatement
    row_count: int


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """What the one transaction did: row counts by statement, counters, its clock, differences from the steps."""

    row_counts: tuple[int, ...]
    counters: dict[str, tuple[int, int, int]]
    clocks: dict[str, str]
    notes: tuple[str, ...]


_DEFERRED = (
    "SELECT t.tgrelid::regclass::text, t.tgname FROM pg_trigger t JOIN pg_constraint k ON k.oid = t.tgconstraint"
    " WHERE k.contype = 'f' AND k.condeferred AND t.tgenabled = 'D'"
)


def rehearse(shadow: Shadow, statements: Sequence[Recorded]) -> Rehearsed:
    """Restores the touched rows and runs every statement in one transaction, which is committed on the shadow.

    Raises StatementFailed when the statements do not hold together as one transaction; the shadow is then as the
    steps left it.
    """
    checks = shadow.owner.execute(_DEFERRED).fetchall()
    _switch(shadow, checks, "ENABLE")
    try:
        with shadow.role.transaction():
            rehearsed = _in_one_transaction(shadow, statements)
    except psycopg.Error as error:
        raise _apart(shadow, error) from None
    finally:
        _switch(shadow, checks, "DISABLE")
    return rehearsed


def _switch(shadow: Shadow, checks: Sequence[Any], verb: str) -> None:
    """Checks of deferred keys are off between steps and on in the rehearsal."""
    for relation, trigger in checks:
        shadow.owner.execute(
            sql.SQL("ALTER TABLE {} {} TRIGGER {}").format(sql.SQL(relation), sql.SQL(verb), sql.Identifier(trigger))
        )


def _in_one_transaction(shadow: Shadow, statements: Sequence[Recorded]) -> Rehearsed:
    role = shadow.role
    role.execute("SELECT shadowdesk.begin_rehearsal()")
    before = read_counters(role)
    clocks = clock_texts(role, shadow.clock_types)
    counts = []
    for recorded in statements:
        role.execute(
            "SELECT shadowdesk.begin_step(%s, %s, %s, %s)",
            (recorded.step, list(clocks), list(clocks.values()), sorted(recorded.gated.writes)),
        )
        gated = recorded.gated
        text = render(gated, dict.fromkeys(gated.reads | gated.writes, shadow.surface))
        counts.append(execute(role, text, gated.params)[0])
    role.execute(FIRE_DEFERRED)
    counters = difference(read_counters(role), before)
    role.execute("SELECT shadowdesk.end_rehearsal()")
    return Rehearsed(
        row_counts=tuple(counts), counters=counters, clocks=clocks, notes=tuple(_notes(statements, counts))
    )


def _notes(statements: Sequence[Recorded], counts: Sequence[int]) -> list[str]:
    return [
        f"Statement {recorded.step} touched {recorded.row_count} rows as a step and {count} in one transaction."
        for recorded, count in zip(statements, counts, strict=True)
        if recorded.row_count != count
    ]


def drawn(shadow: Shadow) -> dict[str, tuple[str, ...]]:
    """Values drawn for omitted columns in the rehearsal, by slot, in order; read after it."""
    rows = shadow.owner.execute(
        "SELECT slot, array_agg(value ORDER BY step, ordinal) FROM shadowdesk.pins WHERE popped GROUP BY slot"
    ).fetchall()
    return {slot: tuple(values) for slot, values in rows}


def _apart(shadow: Shadow, error: psycopg.Error) -> Exception:
    if error.sqlstate == "SD002":
        return StatementFailed(
            "In one transaction the statements ask for more new ids than they did step by step.",
            "Nothing was proposed; the shadow is as the steps left it.",
            "Undo the step that inserts rows and write it so that its rows do not depend on timing.",
        )
    told = failed(shadow, error)
    if isinstance(told, StatementFailed):
        return StatementFailed(
            told.happened.replace("on the shadow", "in the rehearsal, where all steps are one transaction"),
            "Nothing was proposed; the shadow is as the steps left it.",
            "Undo the step and find an order that holds in one transaction.",
        )
    return told
