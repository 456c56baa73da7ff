"""How an after cell is to be compared: by value, as the transaction's clock, or as drawn inside a trigger.

Read by `compose.py` (in SQL, for the digest) and `rows.py` / `frozen.py` (for people and the replay).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from differ.model import CellKind, Column, TableImages

#: The least precision at which a value equal to the clock cannot be chance.
FINE_PRECISION = 3
_TIME = re.compile(r"^(timestamp|time)(?:\((\d)\))? with(?:out)? time zone$")


@dataclass(frozen=True, kw_only=True)
class ClockRule:
    """The shadow's transaction times: format_type text → the texts such a column shows for them.

    A column of a coarse type (date, time of day, precision below milliseconds) equals the clock too easily:
    there a column named in `set_columns` as (table, column), one that a statement set itself, is a value.
    """

    clocks: Mapping[str, frozenset[str]]
    set_columns: frozenset[tuple[str, str]]

    def texts(self, table: str, column: Column) -> frozenset[str]:
        """The texts that make a changed after cell of this column a clock cell; empty where none does."""
        texts = self.clocks.get(column.type, frozenset())
        if coarse(column.type) and (table, column.name) in self.set_columns:
            return frozenset()
        return texts


def coarse(type_name: str) -> bool:
    """Whether a date/time type (format_type text) is too coarse to tell the clock from a chosen value."""
    found = _TIME.match(type_name)
    if found is None or found[1] == "time":
        return True
    return found[2] is not None and int(found[2]) < FINE_PRECISION


def cell_kind(
    images: TableImages,
    rule: ClockRule,
    position: int,
    before: list[str | None] | None,
    after: list[str | None] | None,
) -> CellKind:
    """The kind of one cell of a row; only a changed after cell is anything but a value."""
    column = images.columns[position]
    if before is None and column.name in images.generated:
        return "generated"
    if after is None:
        return "value"
    cell = after[position]
    same = before is not None and before[position] == cell
    if not same and column.name in images.drawn:
        return "generated"
    if not same and column.name in images.walls:
        return "wall"
    return "clock" if not same and cell in rule.texts(images.table, column) else "value"
