"""Recorded statements: brought back through the gate, their drawn values put in line, and shown to people.

Called by the desk's verbs and by the re-execution of recordings.
"""

from dataclasses import replace
from typing import Any

from mcp_server.control.records import Statement
from mcp_server.views import QueryResult, StatementView
from shadow.gate import gate
from shadow.rehearsal import Recorded
from shadow.run import Ran, Rows
from shadow.shadow import Shadow
from shadow.statement import GatedStatement, GateLimits, Surface

#: The tool of statements that put an applied proposal back. Only `reverting.py` records it: no caller names a step's
#: tool, and no domain tool can take the name of a built-in one.
REVERT = "revert"


def limits_for(limits: GateLimits, tool: str | None) -> GateLimits:
    """The gate's limits for a step: an inverse gives back ids that Postgres would draw, and values of any length."""
    if tool != REVERT:
        return limits
    return replace(limits, give_ids=True, max_param_bytes=max(limits.max_param_bytes, 16 << 20))


def thaw(surface: Surface, statement: Statement, limits: GateLimits) -> Recorded:
    """A recorded statement through the gate again (same text, same fence, same slots), with its recorded pins."""
    limits = limits_for(limits, statement.tool)
    gated = gate(statement.text, tuple(statement.params), surface, limits=limits)
    pins = tuple(replace(pin, value=kept["value"]) for pin, kept in zip(gated.pins, statement.pins, strict=True))
    return Recorded(step=statement.step, gated=replace(gated, pins=pins), row_count=statement.row_count)


def preload(shadow: Shadow, statement: Statement) -> None:
    """Puts the values a recorded step drew back in line, in their order."""
    with shadow.owner.cursor() as cur:
        cur.executemany(
            "INSERT INTO shadowdesk.pins(slot, value, reserved) VALUES (%s, %s, true)",
            [(slot, value) for slot, values in statement.defaults.items() for value in values],
        )


def drawn_in(shadow: Shadow, step: int) -> dict[str, list[str]]:
    """The values that a step drew from each slot, in their order."""
    query = "SELECT slot, array_agg(value ORDER BY ordinal) FROM shadowdesk.pins WHERE step = %s GROUP BY slot"
    return {slot: list(values) for slot, values in shadow.owner.execute(query, (step,)).fetchall()}


def pins_of(gated: GatedStatement) -> tuple[dict[str, Any], ...]:
    """A statement's pins as they are kept."""
    return tuple(
        {"start": p.start, "end": p.end, "function": p.function, "type": p.type, "value": p.value} for p in gated.pins
    )


def warnings_of(gated: GatedStatement, ran: Ran) -> tuple[str, ...]:
    """The gate's warnings, and a hint when no row matched: a common slip."""
    if gated.kind != "select" and ran.row_count == 0:
        return (*gated.warnings, "No row matched: the statement changed nothing.")
    return gated.warnings


def query_result(rows: Rows | None) -> QueryResult:
    """Result rows for people; empty when the statement returned none."""
    if rows is None:
        return QueryResult(columns=(), types=(), rows=(), truncated=False)
    return QueryResult(columns=rows.columns, types=rows.types, rows=rows.rows, truncated=rows.truncated)


def statement_view(statement: Statement) -> StatementView:
    """One recorded statement for people."""
    return StatementView(
        step=statement.step, text=statement.text, params=tuple(statement.params),
        pins=tuple(f"{pin['function']} = {pin['value']}" for pin in statement.pins), reason=statement.reason,
        tool=statement.tool, row_count=statement.row_count,
    )  # fmt: skip
