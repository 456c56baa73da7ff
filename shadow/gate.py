"""The gate: one statement's text, judged before it reaches any database (design 4.3.1); called for every statement.

It is the second wall: the first is the shadow's role, which has no right on anything but the views.
"""

from typing import Any

import postgast
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from shadow.gate_looks import looks_of
from shadow.gate_reading import Reading
from shadow.gate_scope import unwrap
from shadow.gate_text import Token, check_bytes, check_nesting, check_params, refused, scan, shown, too_deep
from shadow.gate_walk import walk
from shadow.statement import GatedStatement, GateLimits, Kind, Look, Surface

_KINDS: dict[str, Kind] = {
    "SelectStmt": "select",
    "InsertStmt": "insert",
    "UpdateStmt": "update",
    "DeleteStmt": "delete",
    "MergeStmt": "merge",
}
_FIRST_WORDS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE"})
_INSTEAD = {
    "Each step is its own transaction here: leave it out; the undo tool takes a step back.": (
        "BEGIN START COMMIT END ROLLBACK ABORT SAVEPOINT RELEASE PREPARE DEALLOCATE EXECUTE"
    ),
    "Settings and roles are fixed: leave it out.": "SET RESET SHOW DISCARD LOAD",
    "Write the SELECT, INSERT, UPDATE, DELETE or MERGE it would run.": "EXPLAIN DO CALL DECLARE FETCH MOVE CLOSE",
    "Write INSERT … VALUES for new rows, SELECT to read.": "COPY",
    "Rows are removed with DELETE.": "TRUNCATE",
}


def gate(
    text: str,
    params: tuple[str | None, ...],
    surface: Surface,
    *,
    query: bool = False,
    limits: GateLimits | None = None,
) -> GatedStatement:
    """Judge one statement and say what it touches.

    `params` are the texts for $1, $2, …; every one must be used. With `query` only reading passes. Pins carry no
    value yet. Raises StatementRefused, which says why, that nothing ran, and what to write instead.
    """
    limits = limits or GateLimits()
    raw = check_bytes(text, limits)
    check_params(params, limits)
    tokens = scan(raw, text, limits)
    _check_first_word(tokens)
    check_nesting(tokens, limits)
    statement = _parse(text)
    reading = Reading(
        surface=surface,
        limits=limits,
        params=params,
        query=query,
        order=tokens,
        tokens={token.start: place for place, token in enumerate(tokens)},
    )
    walk(statement, reading)
    unused = set(range(1, len(params) + 1)) - reading.params_used
    if unused:
        raise refused(f"Parameter ${min(unused)} is not used in the statement.", "Leave unused parameters out.")
    kind = _KINDS[type(statement).__name__]
    return _gated(
        text, _written_kind(reading) if kind == "select" else kind, reading, looks_of(statement, params, surface)
    )


def _check_first_word(tokens: tuple[Token, ...]) -> None:
    word = next((token.text for token in tokens if token.text != "("), "")
    if word in _FIRST_WORDS:
        return
    instead = next((hint for hint, words in _INSTEAD.items() if word in words.split()), None)
    raise refused(
        f"A statement that begins with {shown(word)} is not accepted." if word else "The text is no SQL statement.",
        instead or "Write one SELECT, INSERT, UPDATE, DELETE or MERGE.",
    )


def _parse(text: str) -> Any:
    """The one statement's tree."""
    try:
        statements = postgast.parse(text).stmts
    except postgast.PgQueryError as error:
        raise refused(
            f"Postgres cannot read the statement: {shown(error.message)}.",
            "Correct it; values go between single quotes or into parameters written $1, $2, ….",
        ) from error
    except DecodeError as error:
        raise too_deep() from error
    except UnicodeError as error:
        raise refused("The statement's characters cannot be read.", "Send valid Unicode text.") from error
    if len(statements) != 1:
        raise refused(
            f"The text holds {len(statements)} statements.", "Send them one by one: each becomes a step of its own."
        )
    statement = unwrap(statements[0].stmt)
    if type(statement).__name__ not in _KINDS:
        raise refused("This kind of statement is not accepted.", "Write one SELECT, INSERT, UPDATE, DELETE or MERGE.")
    return statement


def _written_kind(reading: Reading) -> Kind:
    """The kind of a SELECT: one whose WITH queries change rows is recorded as the change it is."""
    if not reading.writes:
        return "select"
    return "delete" if reading.deletes else "insert" if reading.inserts else "update"


def _gated(text: str, kind: Kind, reading: Reading, looks: tuple[Look, ...]) -> GatedStatement:
    return GatedStatement(
        text=text,
        params=reading.params,
        kind=kind,
        slots=tuple(reading.slots[start] for start in sorted(reading.slots)),
        pins=tuple(reading.pins[start] for start in sorted(reading.pins)),
        reads=frozenset(reading.reads),
        writes=frozenset(reading.writes),
        deletes=frozenset(reading.deletes),
        set_columns=frozenset(reading.set_columns),
        key_updates=frozenset(reading.key_updates),
        inserts=tuple(reading.inserts),
        warnings=tuple(reading.warnings),
        returning=reading.returning,
        overriding=tuple(sorted(reading.overriding)),
        looks=looks,
    )
