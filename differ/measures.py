"""What the changed rows do to the measures the operator configured; called by `net.py` and the hub."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from differ.compose import Scope, compose, per_key, same_key, trusted
from differ.fetching import fetch
from differ.kinds import ClockRule
from differ.model import MeasureDelta, TableImages


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A named sum; `sum` and `where` are SQL over columns of `table`, written by the operator and trusted.

    Each row's `sum` becomes numeric: exact for whole and decimal numbers, 15 digits for floating point.
    """

    name: str
    table: str
    sum: str
    where: str = ""
    unit: str | None = None


def measure_deltas(
    conn: psycopg.Connection[Any],
    touched: Sequence[Scope],
    measures: Sequence[Measure],
    totals: Mapping[str, str],
) -> tuple[MeasureDelta, ...]:
    """One delta per measure, zero where nothing was touched; `totals` are the sides before, by name."""
    scopes = {scope.images.table: scope for scope in touched}
    return tuple(_delta(conn, measure, scopes.get(measure.table), totals.get(measure.name)) for measure in measures)


def measure_total(conn: psycopg.Connection[Any], measure: Measure, images: TableImages) -> str:
    """The measure over the whole table as it is now, as numeric text; reads every row."""
    scope = Scope(images=images, rule=ClockRule(clocks={}, set_columns=frozenset()))
    query = compose(scope, "measure_total", **_expression(measure, sql.Identifier(*images.base)))
    total: str = fetch(conn, query)[0][0]
    return total


def _delta(conn: psycopg.Connection[Any], measure: Measure, scope: Scope | None, total: str | None) -> MeasureDelta:
    if scope is None:
        return MeasureDelta(name=measure.name, before=total, after=total, delta="0", unit=measure.unit)
    query = compose(
        scope,
        "measure_delta",
        given=sql.Literal(total),
        before_sum=_side(measure, scope, scope.before),
        after_sum=_side(measure, scope, scope.after),
    )
    [(delta, before, after)] = fetch(conn, query, many=scope.many)
    return MeasureDelta(name=measure.name, before=before, after=after, delta=delta, unit=measure.unit)


def _side(measure: Measure, scope: Scope, relation: sql.Composable | None) -> sql.Composable:
    if relation is None:
        return sql.SQL("SELECT 0::numeric AS total")
    names = _expression(measure, relation)
    return compose(
        scope,
        "measure_side",
        same_key=same_key(scope.images, names["alias"], "shadowdesk_key"),
        per_key=per_key(scope, "shadowdesk_key"),
        **names,
    )


def _expression(measure: Measure, relation: sql.Composable) -> dict[str, Any]:
    return {
        "amount": trusted(measure.sum),
        "condition": trusted(measure.where.strip() or "true"),
        "relation": relation,
        "alias": sql.Identifier(measure.table.rsplit(".", 1)[-1]),
    }
