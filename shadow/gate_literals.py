"""Judges literals where their meaning depends on more than their text: the tenant's key, NaN, infinity.

Used by the gate's rules for writes. Text that goes into a text column is never judged.
"""

import re
from typing import Any

from postgast import pg_query_pb2 as pg

from shadow.gate_reading import Reading
from shadow.gate_scope import Scope, strings, type_of, unwrap
from shadow.gate_text import refused, shown
from shadow.statement import SurfaceTable
from shadow.tenant_key import key_parts

_WORDS = re.compile(r"[a-z]+")
_UNENDING = frozenset({"infinity", "bc"})
_NOT_FINITE = re.compile(r"\s*([+-]?inf(inity)?|nan)\s*", re.IGNORECASE)
_DATETIME = re.compile(r"(date|time|timetz|timestamptz|timestamp)\b(?!.*\[\])")
_NUMBER = re.compile(r"(numeric|decimal|real|double precision|float[48]?)\b(?!.*\[\])")
_TEXT = re.compile(r"(text|character|\"?char\"?|varchar|bpchar|name|citext|jsonb?|xml|hstore|bytea)(\b|$)")
_RANGES = re.compile(r"(ts|tstz|date)(multi)?range\b")


def literal_text(value: Any, reading: Reading) -> str | None:
    """Text of a constant or parameter, casts around it and a minus before it included; None for anything else."""
    sign = ""
    while True:
        if isinstance(value, pg.TypeCast):
            value = unwrap(value.arg)
        elif isinstance(value, pg.A_Expr) and strings(value.name) == ("-",) and not value.HasField("lexpr"):
            sign, value = "-" + sign, unwrap(value.rexpr)
        else:
            break
    text = plain_text(value, reading)
    return None if text is None else sign + text


def plain_text(value: Any, reading: Reading) -> str | None:
    """Text of a bare constant or parameter; None for anything else, NULL included."""
    if isinstance(value, pg.ParamRef):
        inside = 1 <= value.number <= len(reading.params)
        return reading.params[value.number - 1] if inside else None
    if not isinstance(value, pg.A_Const):
        return None
    which = value.WhichOneof("val")
    if which == "ival":
        return str(value.ival.ival)
    if which == "fval":
        return str(value.fval.fval)
    return str(value.sval.sval) if which == "sval" else None


def is_tenant_key(value: Any, column: str, table: SurfaceTable, reading: Reading) -> bool:
    """Whether an expression is a tenant column's part of the tenant's own key: a literal or a parameter."""
    text = literal_text(value, reading)
    if text is None:
        return False
    parts = key_parts(reading.surface.tenant_key, table.tenant_columns)
    key = parts[table.tenant_columns.index(column)]
    kind = table.columns.get(column, "")
    if kind == "uuid":
        return text.strip().casefold() == key.casefold()
    if kind in ("smallint", "integer", "bigint"):
        text = text.strip()
    return text == key


def is_text(kind: str) -> bool:
    """Whether a type text or grammar name, arrays included, holds text."""
    return bool(_TEXT.match(kind))


def is_datetime(kind: str) -> bool:
    """Whether a type text or grammar name is a date or time type."""
    return bool(_DATETIME.match(kind))


def check_assigned(value: Any, kind: str, where: str, reading: Reading, scope: Scope) -> None:
    """Refuses literals in an assigned expression that are not finite.

    `kind` is the column's type text, `where` its name for the message. Casts inside the expression are looked at too.
    """
    waiting: list[tuple[Any, str]] = [(value, kind)]
    while waiting:
        one, wanted = waiting.pop()
        if one is None or isinstance(one, pg.SubLink | pg.ColumnRef):
            continue
        if isinstance(one, pg.A_Const | pg.ParamRef):
            _check_finite(plain_text(one, reading), wanted, where)
        elif isinstance(one, pg.TypeCast):
            waiting.append((unwrap(one.arg), type_of(one, scope)))
        elif isinstance(one, pg.CoalesceExpr | pg.MinMaxExpr):
            waiting += [(unwrap(arg), wanted) for arg in one.args]
        elif isinstance(one, pg.A_ArrayExpr):
            waiting += [(unwrap(element), wanted) for element in one.elements]
        elif isinstance(one, pg.CaseExpr):
            waiting += [(unwrap(when.case_when.result), wanted) for when in one.args]
            waiting.append((unwrap(one.defresult), wanted))
        elif isinstance(one, pg.A_Expr):
            waiting += [(unwrap(one.lexpr), ""), (unwrap(one.rexpr), "")]
        elif isinstance(one, pg.FuncCall):
            waiting += [(unwrap(arg), "") for arg in one.args]


def _check_finite(text: str | None, kind: str, where: str) -> None:
    if text is None:
        return
    number = _NUMBER.match(kind) and _NOT_FINITE.fullmatch(text)
    date = (is_datetime(kind) or _RANGES.match(kind)) and not _UNENDING.isdisjoint(_WORDS.findall(text.lower()))
    if number or date:
        raise refused(
            f"{shown(text)} in {shown(where)} is no ordinary {'number' if number else 'date'}: "
            "it can't be shown and compared reliably.",
            "Write a finite value, or NULL where the column allows it.",
        )
