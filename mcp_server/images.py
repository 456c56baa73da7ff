"""Hands the differ what it needs to know of a shadow's bookkeeping; called by the desk before every diff."""

from collections.abc import Sequence
from dataclasses import replace

from psycopg import sql

from differ.model import Column, TableImages
from shadow.fence import SINK, FencedTable
from shadow.shadow import Shadow
from shadow.watch import own


def table_images(shadow: Shadow) -> tuple[TableImages, ...]:
    """Every watched table of the shadow, by name."""
    rows = shadow.owner.execute(
        "SELECT rel, name, pristine, drawn, walls, given FROM shadowdesk.watched ORDER BY name"
    ).fetchall()
    return tuple(
        replace(_images(shadow, int(rel), name, pristine, given), drawn=frozenset(drawn), walls=frozenset(walls))
        for rel, name, pristine, drawn, walls, given in rows
    )


def _images(shadow: Shadow, oid: int, name: str, pristine: bool, given: Sequence[str]) -> TableImages:
    table = shadow.fence.tables[name]
    sink = table.fence_class == SINK or not table.table.key
    return TableImages(
        table=name,
        base=(table.table.schema, table.table.relation),
        # without a key rows are only ever added: all that was noted is new
        pristine=("shadowdesk", f"pristine_{oid}") if pristine and table.table.key else None,
        image=("shadowdesk", f"image_{oid}"),
        touched=("shadowdesk", f"touched_{oid}"),
        columns=tuple(Column(name=c.name, type=c.type, nested=c.nested) for c in table.table.columns),
        key=table.table.key,
        sink=sink,
        generated=drawn_columns(table).difference(given) if sink or _inserted_by_triggers(shadow, oid) else frozenset(),
    )


def drawn_columns(table: FencedTable) -> frozenset[str]:
    """Columns whose values Postgres draws when they are left out. None that refers to a row: whose it is matters."""
    referring = {column for fk in table.references for column in fk.columns}
    drawn = {c.name for c in table.table.columns if c.draws in ("sequence", "volatile")}
    return frozenset(drawn - referring)


def _inserted_by_triggers(shadow: Shadow, oid: int) -> bool:
    """True when only triggers inserted rows: their keys are drawn anew at replay and compared as a multiset.

    A table that statements insert into as well keeps every value in the digest: the replay then tells a difference.
    """
    query = sql.SQL(
        "SELECT count(*) FILTER (WHERE origin LIKE 'trigger:%'), count(*) FILTER (WHERE origin = 'statement')"
        " FROM {} WHERE op = 'I'"
    ).format(own("touched", oid))
    row = shadow.owner.execute(query).fetchone()
    return bool(row and row[0] and not row[1])


def step_clocks(shadow: Shadow, steps: Sequence[int] | None, *, rehearsal: bool) -> dict[str, frozenset[str]]:
    """format_type → the texts of the transaction time in those steps (None: all of them)."""
    rows = shadow.owner.execute(
        "SELECT type, array_agg(DISTINCT value) FROM shadowdesk.clocks"
        " WHERE rehearsal = %s AND (%s::int[] IS NULL OR step = ANY(%s::int[])) GROUP BY type",
        (rehearsal, None if steps is None else list(steps), None if steps is None else list(steps)),
    ).fetchall()
    return {type_name: frozenset(values) for type_name, values in rows}
