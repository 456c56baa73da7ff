"""Reverts, comparisons and branches in words, for models and for terminals; values are quoted and capped."""

from collections.abc import Iterator, Sequence

from differ.model import Key, RowChange
from differ.text import DATA_NOTE, as_text, measure_line, neutralise, quoted
from mcp_server.branching import BranchView
from mcp_server.comparing import Comparison, RowPair
from mcp_server.reverting import RevertView
from mcp_server.tools.words import dry_run

_KINDS = {"insert": "adds", "update": "changes", "delete": "deletes"}
_CELL = 100
_LATER = 20


def revert(made: RevertView) -> str:
    """The inverse: its diff, what was edited since, what stays."""
    lines = [dry_run(made.dry_run), f"It would put proposal {made.proposal_id} back. Production is untouched."]
    if made.later_edits_total:
        lines.append(f"Edited since it was applied, in {made.later_edits_total:,} places; the inverse overrides them:")
        lines += [f"  {neutralise(str(edit), 300)}" for edit in made.later_edits[:_LATER]]
    lines += [f"Not put back: {neutralise(sentence, 300)}" for sentence in made.not_put_back]
    return "\n".join([*lines, as_text(made.diff)])


def branch(made: BranchView) -> str:
    """The new dry run and its diff."""
    lines = [dry_run(made.dry_run), f"It has steps 1 to {made.from_step} of {made.origin}, which stays as it is."]
    lines += [_bases(made.origin_base_at, made.base_at, "the original's", "this one's")]
    return "\n".join([*lines, *(neutralise(note, 300) for note in made.notes), as_text(made.diff)])


def comparison(found: Comparison, shown: int) -> str:
    """The two dry runs as lists of rows, then their measures."""
    lines = [f"A is {found.a}, B is {found.b}: {found.same:,} rows end alike in both."]
    if not found.same_base:
        lines.append(_bases(found.base_at_a, found.base_at_b, "A's", "B's"))
    if found.same_but_drawn:
        lines.append(f"{found.same_but_drawn:,} new rows are alike but for what Postgres drew for them.")
    if not found.complete:
        lines.append("One of them changes more rows than are compared here: look at both diffs.")
    if found.only_a or found.only_b or found.different:
        lines.append(DATA_NOTE)
    lines += _only("A", found.only_a, shown)
    lines += _only("B", found.only_b, shown)
    for pair in found.different[:shown]:
        lines += _different(pair)
    lines += _left_off(len(found.different), shown)
    for measure in found.measures:
        for name, one in (("A", measure.a), ("B", measure.b)):
            lines += [f"{name}: {measure_line(one)}"] if one else []
    for table in found.side_effects:
        lines.append(f"Side effects in {neutralise(table.table, 120)}: {table.a:,} rows by A, {table.b:,} by B.")
    return "\n".join(lines)


def _bases(one: object, other: object, whose: str, whose_other: str) -> str:
    return f"Rows were read from production at different times: {whose} at {one}, {whose_other} at {other}."


def _only(name: str, rows: Sequence[RowChange], shown: int) -> Iterator[str]:
    for row in rows[:shown]:
        yield f"Only {name} {_KINDS[row.kind]} {_place(row.table, row.key)}"
        for cell in row.cells:
            if row.kind == "update":
                yield f"  {neutralise(cell.column, 120)}: {quoted(cell.before, _CELL)} → {quoted(cell.after, _CELL)}"
    yield from _left_off(len(rows), shown)


def _different(pair: RowPair) -> Iterator[str]:
    yield f"A {_KINDS[pair.kind_a]} and B {_KINDS[pair.kind_b]} {_place(pair.table, pair.key)}"
    for cell in pair.cells:
        apart = " (they started from different values)" if cell.before_differs else ""
        values = f"was {quoted(cell.before, _CELL)}, A {quoted(cell.after_a, _CELL)}, B {quoted(cell.after_b, _CELL)}"
        yield f"  {neutralise(cell.column, 120)}: {values}{apart}"


def _place(table: str, key: Key) -> str:
    parts = ", ".join(f"{neutralise(column, 120)} {quoted(text, _CELL)}" for column, text in key)
    return f"{neutralise(table, 120)} ({parts})"


def _left_off(rows: int, shown: int) -> Iterator[str]:
    if rows > shown:
        yield f"  and {rows - shown:,} more rows"
