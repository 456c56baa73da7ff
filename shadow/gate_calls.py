"""The gate's rules for calls: which functions may run, which calls are pinned to one recorded value."""

import datetime
import re
from typing import Any

from postgast import pg_query_pb2 as pg

from shadow.gate_literals import literal_text
from shadow.gate_names import CLOCKS, DRAWS, GATHERING, ORDERED_WINDOWS, check_function
from shadow.gate_reading import Reading
from shadow.gate_scope import strings, unwrap
from shadow.gate_text import refused, shown
from shadow.statement import Pin

_SQL_CLOCKS = {
    "CURRENT_DATE": "date",
    "CURRENT_TIME": "time with time zone",
    "CURRENT_TIMESTAMP": "timestamp with time zone",
    "LOCALTIME": "time without time zone",
    "LOCALTIMESTAMP": "timestamp without time zone",
}
#: Calls the grammar itself makes, of LIKE … ESCAPE and SIMILAR TO.
_GRAMMAR_CALLS = frozenset({"like_escape", "similar_to_escape"})
#: Position of the argument that says how much a function makes.
_SIZED = {"repeat": 1, "lpad": 1, "rpad": 1}
#: Widths without end; and names, which Postgres quotes by the key words of its own version.
_WIDE_FORMAT = re.compile(r"%[^a-zA-Z%]*(\d{5}|\*|I)")
_SMALL = re.compile(r"-?[0-9]{1,9}")
_STEP = re.compile(r"\s*(\d{1,6})\s*(minute|hour|day|week|month|year)s?\s*", re.IGNORECASE)
_STEP_DAYS = {"minute": 1 / 1440, "hour": 1 / 24, "day": 1, "week": 7, "month": 28, "year": 365}


def check_call(call: Any, reading: Reading, once: bool) -> None:
    """Judges one function call; `once` says that it's evaluated exactly once when its statement runs."""
    names = strings(call.funcname)
    name = names[-1]
    grammar = call.funcformat == pg.COERCE_SQL_SYNTAX or name in _GRAMMAR_CALLS
    if len(names) > 1 and (names[0] != "pg_catalog" or not grammar):
        raise refused(
            f"The call of {shown(name)} is qualified with a schema.",
            "Call built-in functions by their bare name.",
        )
    if name in CLOCKS or name in DRAWS:
        _check_clock(call, name, reading, once)
        return
    check_function(name, reading.surface)
    if name in reading.surface.allow_functions:
        return
    _warn_of_order(call, name, reading)
    if name in _SIZED or name == "generate_series":
        _check_size(call, name, reading)
    elif name == "format":
        _check_format(call, reading)
    elif name == "age" and len(call.args) == 1 and not reading.query:
        raise refused(
            "age(…) of one date looks at the clock by itself.",
            "Write age(now(), …): the value of now() is recorded.",
        )


def _warn_of_order(call: Any, name: str, reading: Reading) -> None:
    if name in ORDERED_WINDOWS and not call.over.name and not call.over.order_clause:
        reading.warnings[f"{name} over rows without ORDER BY: which row gets which value is left to chance."] = None
    if name in GATHERING and not call.HasField("over") and not call.agg_order:
        reading.warnings[f"{name} without ORDER BY of its own: the order of what it gathers is left to chance."] = None


def _check_clock(call: Any, name: str, reading: Reading, once: bool) -> None:
    stable = name in CLOCKS
    if call.args or call.agg_star:
        raise refused(f"{shown(name)} is accepted without arguments only.", f"Write {name}().")
    if reading.query:
        if not stable:
            raise refused(
                f"{shown(name)} answers differently each time it is called.",
                "Use now() for the time; other values are drawn in the VALUES list of an INSERT.",
            )
        return
    if not stable and not once:
        raise refused(
            f"{shown(name)} would be evaluated anew for every row, so the replay could not repeat it.",
            "Use now() for the time; or write the value itself; in the VALUES list of an INSERT it is accepted.",
        )
    _pin(call.location, reading.call_end(call.location), f"{name}()", (CLOCKS | DRAWS)[name], reading)


def check_sql_value(value: Any, reading: Reading) -> None:
    """Judges CURRENT_DATE and its kin; CURRENT_USER and its kin are refused."""
    word = _word(value)
    if word not in _SQL_CLOCKS:
        raise refused(
            f"{word} is not the same on the shadow and on production.",
            "Write the value you mean as a literal.",
        )
    if reading.query:
        return
    if pg.SQLValueFunctionOp.Name(value.op).endswith("_N"):
        end, function = reading.call_end(value.location), f"{word}({value.typmod})"
    else:
        end, function = reading.token_end(value.location), word
    _pin(value.location, end, function, _SQL_CLOCKS[word], reading)


def _word(value: Any) -> str:
    return str(pg.SQLValueFunctionOp.Name(value.op)).removeprefix("SVFOP_").removesuffix("_N")


def _pin(start: int, end: int, function: str, kind: str, reading: Reading) -> None:
    reading.pins[start] = Pin(start=start, end=end, function=function, value=None, type=kind)


def check_from_function(call: Any, reading: Reading) -> None:
    """Refuses a clock as a FROM item of a change: a recorded literal cannot stand there."""
    clock = (isinstance(call, pg.SQLValueFunction) and _word(call) in _SQL_CLOCKS) or (
        isinstance(call, pg.FuncCall) and strings(call.funcname)[-1] in CLOCKS | DRAWS
    )
    if clock and not reading.query:
        raise refused("A clock cannot be a table in FROM.", "Write it as an expression, such as (SELECT now()).")


def _check_size(call: Any, name: str, reading: Reading) -> None:
    args = [unwrap(arg) for arg in call.args]
    most = reading.limits.max_generated
    if name in _SIZED:
        text = literal_text(args[1], reading) if len(args) > 1 else None
        nested = isinstance(args[0], pg.FuncCall) and strings(args[0].funcname)[-1] in _SIZED if args else False
        if text is None or not _SMALL.fullmatch(text) or int(text) > most or nested:
            raise refused(
                f"How much {shown(name)} makes is not a small number written out.",
                f"Give its length as a number up to {most}.",
            )
        return
    steps = _series_steps([literal_text(arg, reading) for arg in args])
    if steps is None or not steps <= most:  # NaN is not small either
        raise refused(
            "generate_series has no small bounds written out.",
            f"Give its start, end and step as literals, with {most} values at most.",
        )


def _series_steps(texts: list[str | None]) -> float | None:
    """How many values generate_series makes, at most; None when its literals don't tell."""
    if len(texts) not in (2, 3) or None in texts:
        return None
    first, last = texts[0] or "", texts[1] or ""
    step = texts[2] or "" if len(texts) == 3 else "1"
    try:
        return abs((float(last) - float(first)) / float(step)) + 1
    except (ValueError, ZeroDivisionError, OverflowError):
        pass  # no numbers: dates then
    every = _STEP.fullmatch(step)
    try:
        days = (datetime.datetime.fromisoformat(last) - datetime.datetime.fromisoformat(first)).days
        return abs(days) / (int(every[1]) * _STEP_DAYS[every[2].lower()]) + 1 if every else None
    except (ValueError, TypeError, ZeroDivisionError):
        return None


def _check_format(call: Any, reading: Reading) -> None:
    text = literal_text(unwrap(call.args[0]), reading) if call.args else None
    if text is None or _WIDE_FORMAT.search(text):
        raise refused(
            "format(…) needs a literal format without large widths and %I.",
            "Write the format out, or join with concat(…).",
        )
