"""Hands the differ what it needs to know of a shadow's bookkeeping; called by the desk before every diff."""

from collections.abc import Sequence

from differ.model import Column, TableImages
from shadow.fence import SINK
from shadow.shadow import Shadow


def table_images(shadow: Shadow) -> tuple[TableImages, ...]:
    """Every watched table of the shadow, by name."""
    rows = shadow.owner.execute("SELECT rel, name, pristine FROM shadowdesk.watched ORDER BY name").fetchall()
    return tuple(_images(shadow, int(rel), name, pristine) for rel, name, pristine in rows)


def _images(shadow: Shadow, oid: int, name: str, pristine: bool) -> TableImages:
    table = shadow.fence.tables[name]
    drawn = frozenset(c.name for c in table.table.columns if c.draws in ("sequence", "volatile"))
    return TableImages(
        table=name,
        base=(table.table.schema, table.table.relation),
        pristine=("shadowdesk", f"pristine_{oid}") if pristine else None,
        image=("shadowdesk", f"image_{oid}"),
        touched=("shadowdesk", f"touched_{oid}"),
        columns=tuple(Column(name=c.name, type=c.type, nested=c.nested) for c in table.table.columns),
        key=table.table.key,
        sink=table.fence_class == SINK or not table.table.key,
        generated=drawn,
    )


def step_clocks(shadow: Shadow, steps: Sequence[int] | None, *, rehearsal: bool) -> dict[str, frozenset[str]]:
    """format_type → the texts of the transaction time in those steps (None: all of them)."""
    rows = shadow.owner.execute(
        "SELECT type, array_agg(DISTINCT value) FROM shadowdesk.clocks"
        " WHERE rehearsal = %s AND (%s::int[] IS NULL OR step = ANY(%s::int[])) GROUP BY type",
        (rehearsal, None if steps is None else list(steps), None if steps is None else list(steps)),
    ).fetchall()
    return {type_name: frozenset(values) for type_name, values in rows}
