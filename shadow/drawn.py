"""Values that triggers draw anew each time (the wall clock, a uuid): found by rehearsing twice, compared by kind; and
values that they choose where a default would draw one.

Called by the desk around the rehearsal, and again when it left other values than the steps did. What is neither a
uuid nor the wall clock is refused: nobody could say what production would get.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from shadow.errors import StatementFailed
from shadow.predicate import base
from shadow.rehearsal import Recorded, Rehearsed, rehearse
from shadow.shadow import Shadow
from shadow.watch import own

_WALL_TYPES = ("timestamp",)

#: (table, column) → the values, as text, in rows that triggers made.
Made = Mapping[tuple[str, str], frozenset[str]]


@dataclass(frozen=True, kw_only=True)
class _Touched:
    """One watched table whose rows the first rehearsal touched."""

    name: str
    oid: int
    key: tuple[str, ...]

    @property
    def first(self) -> sql.Identifier:
        return sql.Identifier("pg_temp", f"first_{self.oid}")


def rehearse_again(
    shadow: Shadow, statements: Sequence[Recorded], first: Rehearsed, set_columns: frozenset[tuple[str, str]]
) -> Rehearsed:
    """A second rehearsal, after `first`: columns that came out differently are noted as drawn or as the wall clock.

    Returns what stands now. Raises StatementFailed when a trigger draws something that cannot be compared by kind.
    """
    tables = _keep_first(shadow)
    try:
        second = rehearse(shadow, statements)
        for table in tables:
            _note(shadow, table, _drawn(shadow, table, first, second), set_columns)
    finally:
        for table in tables:
            shadow.owner.execute(sql.SQL("DROP TABLE {}").format(table.first))
    return second


def made_by_triggers(shadow: Shadow, *, rehearsal: bool) -> Made:
    """What rows that triggers made hold in columns with a drawn default, after the steps or after the rehearsal."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    for name, oid, key in _watched(shadow):
        fenced = shadow.fence.tables[name]
        columns = [c.name for c in fenced.table.columns if c.draws in ("sequence", "volatile")]
        if not columns:
            continue
        values = [sql.SQL("array_agg(DISTINCT {}::text)").format(sql.Identifier("b", column)) for column in columns]
        query = sql.SQL(
            "SELECT {} FROM (SELECT DISTINCT {} FROM {} WHERE op = 'I' AND origin LIKE 'trigger:%'"
            " AND rehearsal = {}) t JOIN {} b ON {}"
        ).format(sql.SQL(", ").join(values), _keys(key), own("touched", oid), rehearsal, base(fenced), _same_key(key))
        [row] = shadow.owner.execute(query).fetchall()
        found |= {(name, c): frozenset(held) for c, held in zip(columns, row, strict=True) if held}
    return found


def note_given(shadow: Shadow, stepped: Made) -> bool:
    """After the first rehearsal: what comes out as it did in the steps was not drawn but chosen by a trigger, and is
    compared as a value. True when there is such a column.

    A sequence gives no number twice; of a few random letters some come up again by chance, but not all.
    """
    given: dict[str, list[str]] = {}
    for (name, column), values in made_by_triggers(shadow, rehearsal=True).items():
        before = stepped.get((name, column), frozenset())
        sequence = shadow.fence.tables[name].table.column(column).draws == "sequence"
        if (values & before) if sequence else (values == before):
            given.setdefault(name, []).append(column)
    for name, columns in given.items():
        shadow.owner.execute("UPDATE shadowdesk.watched SET given = %s WHERE name = %s", (columns, name))
    return bool(given)


def _watched(shadow: Shadow) -> list[tuple[str, int, list[str]]]:
    """Name, number and key of the watched tables whose rows can be told apart."""
    rows = shadow.owner.execute(
        "SELECT name, rel, key FROM shadowdesk.watched WHERE cardinality(key) > 0 AND pristine ORDER BY name"
    ).fetchall()
    return [(name, int(oid), key) for name, oid, key in rows]


def _keys(key: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(f"k{n}") for n in range(1, len(key) + 1))


def _same_key(key: Sequence[str]) -> sql.Composed:
    """The row `b` of the key `t` that was noted."""
    return sql.SQL(" AND ").join(
        sql.SQL("b.{} = t.{}").format(sql.Identifier(c), sql.Identifier(f"k{n}")) for n, c in enumerate(key, 1)
    )


def _keep_first(shadow: Shadow) -> list[_Touched]:
    """Copies of the touched rows as the first rehearsal left them."""
    kept = []
    for name, oid, key in _watched(shadow):
        table = _Touched(name=name, oid=oid, key=tuple(key))
        query = sql.SQL("SELECT b.* FROM (SELECT DISTINCT {} FROM {} WHERE rehearsal) t JOIN {} b ON {}").format(
            _keys(key), own("touched", oid), base(shadow.fence.tables[name]), _same_key(key)
        )
        shadow.owner.execute(sql.SQL("CREATE TEMP TABLE {} AS {}").format(sql.Identifier(f"first_{oid}"), query))
        kept.append(table)
    return kept


def _drawn(shadow: Shadow, table: _Touched, first: Rehearsed, second: Rehearsed) -> Mapping[str, bool]:
    """Column → whether every value that differs between the two rehearsals is the wall clock of the second."""
    columns = [c for c in shadow.fence.tables[table.name].table.columns if c.name not in table.key]
    if not columns:
        return {}
    asked = sql.SQL(", ").join(
        sql.SQL("bool_or({differs}), coalesce(bool_and({wall}) FILTER (WHERE {differs}), false)").format(
            differs=_differs(c.name, c.type, first, second),
            wall=_wall(c.name, second.clocks.get(c.type), shadow.clock_types.get(c.type, "")),
        )
        for c in columns
    )
    same = sql.SQL(" AND ").join(sql.SQL("b.{0} = f.{0}").format(sql.Identifier(column)) for column in table.key)
    # A row that only one of the two touched was picked by chance, not drawn: the replay tells such a difference.
    [row] = shadow.owner.execute(
        sql.SQL("SELECT {} FROM {} f JOIN {} b ON {} WHERE EXISTS (SELECT FROM {} t WHERE t.rehearsal AND {})").format(
            asked, table.first, base(shadow.fence.tables[table.name]), same, own("touched", table.oid),
            sql.SQL(" AND ").join(
                sql.SQL("t.{} = f.{}").format(sql.Identifier(f"k{n}"), sql.Identifier(c))
                for n, c in enumerate(table.key, 1)
            ),
        )
    ).fetchall()  # fmt: skip
    return {c.name: bool(row[2 * n + 1]) for n, c in enumerate(columns) if row[2 * n]}


def _differs(column: str, type_name: str, first: Rehearsed, second: Rehearsed) -> sql.Composable:
    """Not the same text, and not the two transactions' own times."""
    texts = sql.SQL("f.{0}::text IS DISTINCT FROM b.{0}::text").format(sql.Identifier(column))
    if type_name not in first.clocks:
        return texts
    return sql.SQL("({} AND NOT (f.{c}::text = {} AND b.{c}::text = {}))").format(
        texts, first.clocks[type_name], second.clocks[type_name], c=sql.Identifier(column)
    )


def _wall(column: str, began: str | None, type_name: str) -> sql.Composable:
    if began is None or not type_name.startswith(_WALL_TYPES):
        return sql.SQL("false")
    return sql.SQL("b.{} BETWEEN {}::{type} AND clock_timestamp()::{type}").format(
        sql.Identifier(column), began, type=sql.SQL(type_name)
    )


def _note(shadow: Shadow, table: _Touched, found: Mapping[str, bool], set_columns: frozenset[tuple[str, str]]) -> None:
    types = {c.name: c.type for c in shadow.fence.tables[table.name].table.columns}
    walls = [column for column, wall in found.items() if wall]
    drawn = [column for column, wall in found.items() if not wall]
    referring = {column for fk in shadow.fence.tables[table.name].references for column in fk.columns}
    # which row is meant may not be left to chance either: it could be another tenant's
    unknown = [column for column in drawn if types[column] != "uuid" or column in referring]
    both = [column for column in drawn if (table.name, column) in set_columns]
    if unknown or both:
        raise _unforeseen(table.name, (unknown or both)[0], by_statement=not unknown)
    shadow.owner.execute(
        "UPDATE shadowdesk.watched SET drawn = %s, walls = %s WHERE rel = %s", (drawn, walls, table.oid)
    )


def _unforeseen(table: str, column: str, *, by_statement: bool) -> StatementFailed:
    why = (
        "a statement gives it a value and a trigger draws another one"
        if by_statement
        else "a trigger or the order of rows gives it another value each time"
    )
    return StatementFailed(
        f"Nobody can say what {column} of {table} would be on production: {why}.",
        "Nothing was proposed; the shadow shows one of the possible outcomes.",
        f"Undo that step and leave {column} out of it, or ask an engineer: the trigger decides this value.",
    )


def forget_drawn(shadow: Shadow) -> None:
    """Before a rehearsal: nothing is known to be drawn."""
    shadow.owner.execute("UPDATE shadowdesk.watched SET drawn = '{}', walls = '{}', given = '{}'")
