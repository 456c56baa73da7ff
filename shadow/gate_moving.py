"""Words that are dates and mean another moment at the replay ('now', 'today'): refused unless they are surely text.

Used by the gate's walk and its rules for calls and writes. A literal's type is settled by what stands around it, so
only surroundings that make it text are listed; whatever is not listed counts as a date.
"""

import re
from collections.abc import Iterable
from typing import Any

from postgast import pg_query_pb2 as pg

from shadow.gate_literals import is_text, literal_text, plain_text
from shadow.gate_names import CLOCKS
from shadow.gate_reading import Reading
from shadow.gate_scope import Scope, strings, type_of, unwrap
from shadow.gate_text import refused, shown

_MOVING = frozenset({"now", "today", "tomorrow", "yesterday"})
_WORDS = re.compile(r"[a-z]+")
_PARTS = re.compile(r"[a-z][a-z_/-]*")
#: Words of one date at most: 'tomorrow 10:00 am Europe/Berlin bc'. Longer text is prose.
_MOST = 4
_DATES = re.compile(r"(date|time|timetz|timestamptz|timestamp|(ts|tstz|date)(multi)?range)\b")
_TIMES = re.compile(r"(time|timetz)\b")
#: Operators whose literals are text, keys or patterns, never dates.
_TEXT_OPERATORS = frozenset("|| -> ->> #> #>> ? ?| ?& #- ~ ~* !~ !~* ~~ ~~* !~~ !~~* ^@".split())
_TEXT_GIVING = frozenset({"||", "->>", "#>>"})
_PATTERNS = (pg.AEXPR_LIKE, pg.AEXPR_ILIKE, pg.AEXPR_SIMILAR)
#: Functions of the list that take an untyped literal as a date (their overloads in pg_proc, PostgreSQL 14 to 18).
_DATE_ARGUMENTS = frozenset(
    """
    age array_append array_cat array_position array_positions array_prepend array_remove array_replace date date_add
    date_bin date_part date_subtract date_trunc daterange extract generate_series isfinite lag lead overlaps
    range_merge timezone to_char tsrange tstzrange width_bucket
    """.split()
)
_TEXT_FUNCTIONS = frozenset(
    """
    btrim chr concat concat_ws convert_from format initcap lower lpad ltrim md5 overlay regexp_replace repeat replace
    reverse right left rpad rtrim split_part substr substring to_char translate trim upper
    """.split()
)
_DATE_FUNCTIONS = frozenset(
    "date date_add date_bin date_subtract date_trunc make_date make_time make_timestamp make_timestamptz timezone "
    "to_date to_timestamp".split()
)


def check_moving(literal: Any, reading: Reading) -> None:
    """Refuses a constant or parameter that is a moving date, unless it was found to be text; passes anything else."""
    text = plain_text(literal, reading)
    if text is None or reading.query or literal.location in reading.texts or not _moves(text):
        return
    raise refused(
        f"The date {shown(text)} means another moment when the change is replayed.",
        "Use CURRENT_DATE, CURRENT_DATE + 1 or now(): their value is recorded; or write the date itself. Where it is "
        "meant as text, say so: '…'::text.",
    )


def _moves(text: str) -> bool:
    for part in text.lower().split(","):
        if not _MOVING.isdisjoint(_WORDS.findall(part)) and len(_PARTS.findall(part)) <= _MOST:
            return True
    return False


def take_as_text(values: Iterable[Any], reading: Reading) -> None:
    """Notes that those of the values which are bare literals are text here."""
    for value in values:
        if isinstance(value, pg.A_Const | pg.ParamRef):
            reading.texts.add(value.location)


def see_assigned(values: Iterable[Any], kind: str, reading: Reading, scope: Scope) -> None:
    """Literals that go into a text column are text, unless something else that goes there makes them a date."""
    listed = list(values)
    if is_text(kind) and all(_may_be_text(value, scope) for value in listed):
        for value in listed:
            take_as_text(_leaves(value), reading)


def _may_be_text(value: Any, scope: Scope) -> bool:
    leaves = _leaves(value)
    return all(isinstance(leaf, pg.A_Const | pg.ParamRef) or _gives_text(leaf, scope) for leaf in leaves)


def _leaves(value: Any) -> list[Any]:
    """What an expression gives, each way: the branches of CASE, COALESCE, GREATEST and the elements of an array."""
    leaves: list[Any] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, pg.CoalesceExpr | pg.MinMaxExpr):
            waiting += [unwrap(arg) for arg in one.args]
        elif isinstance(one, pg.A_ArrayExpr):
            waiting += [unwrap(element) for element in one.elements]
        elif isinstance(one, pg.CaseExpr):
            waiting += [unwrap(when.case_when.result) for when in one.args] + [unwrap(one.defresult)]
        elif one is not None:
            leaves.append(one)
    return leaves


def see_cast(cast: Any, reading: Reading, scope: Scope) -> None:
    """A cast to text makes a literal text; refuses one to a date whose text is put together from literals."""
    kind = type_of(cast, scope)
    value = unwrap(cast.arg)
    if is_text(kind):
        take_as_text([value], reading)
    elif not reading.query:
        _check_dated(value, kind, reading)


def _check_dated(value: Any, kind: str, reading: Reading) -> None:
    if literal_text(value, reading) is not None:
        check_moving(_innermost(value), reading)
    elif _DATES.match(kind):
        for one in _within(value):
            check_moving(one, reading)
        _check_composed(value)


def _innermost(value: Any) -> Any:
    while isinstance(value, pg.TypeCast):
        value = unwrap(value.arg)
    return value


def _check_composed(value: Any) -> None:
    """Refuses a date that is put together from literals alone: nobody can see which word it becomes."""
    found = list(_within(value))
    if not any(_is_known(one) for one in found) and any(_is_piece(one) for one in found):
        raise refused(
            "A date is put together from pieces of text.", "Write the whole date as one literal: '2026-01-31'::date."
        )


def _is_known(node: Any) -> bool:
    """What makes the date one of a row's, of the recorded clock, or of a type that says what it is."""
    if isinstance(node, pg.FuncCall):
        return strings(node.funcname)[-1] in CLOCKS.keys() | _DATE_FUNCTIONS
    if isinstance(node, pg.TypeCast):
        return not is_text(strings(node.type_name.names)[-1])
    return isinstance(node, pg.ColumnRef | pg.SQLValueFunction)


def _is_piece(node: Any) -> bool:
    if isinstance(node, pg.FuncCall):
        return strings(node.funcname)[-1] == "chr"
    return isinstance(node, pg.ParamRef) or (isinstance(node, pg.A_Const) and node.WhichOneof("val") == "sval")


def _within(value: Any) -> Iterable[Any]:
    """An expression's node and all nodes below it."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        yield node
        for field, held in node.ListFields():
            if field.message_type is not None:
                below = (held,) if hasattr(held, "ListFields") else held
                waiting += [unwrap(child) if isinstance(child, pg.Node) else child for child in below]


def see_operator(node: Any, reading: Reading, scope: Scope) -> None:
    """Literals beside an operator of text, or compared with text, are text."""
    sides = [unwrap(node.lexpr), unwrap(node.rexpr)]
    name = strings(node.name)[-1] if node.name else ""
    if node.kind in _PATTERNS or (node.kind == pg.AEXPR_OP and name in _TEXT_OPERATORS):
        take_as_text((side for side in sides if not (name == "||" and _is_braced(side, reading))), reading)
    elif name not in ("+", "-", "*", "/"):
        see_siblings(sides, reading, scope)


def _is_braced(value: Any, reading: Reading) -> bool:
    """Whether a literal beside || may be an array of dates."""
    return (plain_text(value, reading) or "").lstrip().startswith("{")


def see_siblings(values: Iterable[Any], reading: Reading, scope: Scope) -> None:
    """Literals that are compared or chosen with text are text."""
    listed = [item for value in values for item in _items(value)]
    if any(_gives_text(value, scope) for value in listed):
        take_as_text(listed, reading)


def _items(value: Any) -> list[Any]:
    return [unwrap(item) for item in value.items] if isinstance(value, pg.List) else [value]


def see_case(node: Any, reading: Reading, scope: Scope) -> None:
    """CASE x WHEN 'word': compared with x."""
    if node.HasField("arg"):
        see_siblings([unwrap(node.arg), *(unwrap(when.case_when.expr) for when in node.args)], reading, scope)


def see_call(call: Any, name: str, reading: Reading, scope: Scope) -> None:
    """Literals given to a function are text, unless it may take them as dates: what the app's own take nobody knows.

    Refuses AT TIME ZONE of a time without its day: Postgres takes today's summer time for it (docs 9.9.4).
    """
    if name == "timezone" and not reading.query and any(_is_time(unwrap(arg), scope) for arg in call.args):
        raise refused(
            "AT TIME ZONE of a time of day depends on the day on which it is asked.",
            "Use it on a timestamp, or write the time in the other zone.",
        )
    if name not in _DATE_ARGUMENTS | reading.surface.allow_functions:
        take_as_text((unwrap(arg) for arg in call.args), reading)
    elif name == "date" and call.args and not reading.query:
        _check_dated(unwrap(call.args[0]), "date", reading)


def _is_time(value: Any, scope: Scope) -> bool:
    if isinstance(value, pg.SQLValueFunction):
        return "TIME" in pg.SQLValueFunctionOp.Name(value.op) and "STAMP" not in pg.SQLValueFunctionOp.Name(value.op)
    if isinstance(value, pg.FuncCall):
        return strings(value.funcname)[-1] == "make_time"
    return bool(_TIMES.match(type_of(value, scope)))


def _gives_text(value: Any, scope: Scope) -> bool:
    if isinstance(value, pg.FuncCall):
        return strings(value.funcname)[-1] in _TEXT_FUNCTIONS
    if isinstance(value, pg.A_Expr):
        return bool(value.name) and strings(value.name)[-1] in _TEXT_GIVING
    return is_text(type_of(value, scope))
