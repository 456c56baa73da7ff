"""Which columns a statement reads, by name: asked by the hub before a change, so that no masked value is copied out.

Deliberately coarse: a name counts wherever it stands, and whole rows count as all their columns. What is assigned
(SET and column lists) is not read.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import postgast
from postgast import pg_query_pb2 as pg

from shadow.gate_scope import strings, unwrap
from shadow.gate_text import refused, shown
from shadow.masking import Hides
from shadow.statement import GatedStatement, Surface


def refuse_masked_reads(gated: GatedStatement, surface: Surface, hides: Hides) -> None:
    """Raises StatementRefused when a change that passed the gate reads a column that `hides` names."""
    hidden = {
        name: {column for column in surface.tables[name].columns if hides(name, column)}
        for name in gated.reads | gated.writes
    }
    columns = frozenset(column for some in hidden.values() for column in some)
    if not columns:
        return
    nodes = list(_nodes(unwrap(postgast.parse(gated.text).stmts[0].stmt)))
    rows = frozenset(_names_of(nodes, {name for name, some in hidden.items() if some}))
    for node in nodes:
        found = _masked(node, columns, rows)
        if found is not None:
            raise refused(
                f"The statement reads {found}, which is masked for you.",
                "Name rows by other columns; a masked column can be set, and looked at with a query.",
            )


def _masked(node: Any, columns: frozenset[str], rows: frozenset[str]) -> str | None:
    """What of the masked columns a node reads, in words; `rows` are the names that stand for whole rows."""
    if isinstance(node, pg.ColumnRef):
        return _reference(node, columns, rows)
    if isinstance(node, pg.JoinExpr):
        using = columns.intersection(strings(node.using_clause))
        return shown(min(using)) if using else ("whole rows (NATURAL JOIN)" if node.is_natural else None)
    if isinstance(node, pg.ResTarget) and len(node.indirection) and node.name in columns:
        return f"{shown(node.name)} to set a part of it"
    if isinstance(node, pg.RangeVar) and node.relname in rows and len(node.alias.colnames):
        return f"{shown(node.relname)} under other column names"
    return None


def _reference(node: Any, columns: frozenset[str], rows: frozenset[str]) -> str | None:
    parts = [unwrap(part) for part in node.fields]
    if isinstance(parts[-1], pg.A_Star):
        return "whole rows (*)"
    names = strings(node.fields)
    if names[0] == "excluded" and len(names) == 2 and "excluded" not in rows:
        return None  # the row that the statement itself proposes
    if names[-1] in columns:
        return shown(names[-1])
    return f"whole rows of {shown(names[0])}" if len(names) == 1 and names[0] in rows else None


def _names_of(nodes: Iterable[Any], tables: set[str]) -> Iterator[str]:
    """The tables with a masked column and every alias of theirs; OLD and NEW of RETURNING are such rows too."""
    yield from tables | {"old", "new"}
    for node in nodes:
        if isinstance(node, pg.RangeVar) and node.relname in tables and node.HasField("alias"):
            yield node.alias.aliasname


def _nodes(root: Any) -> Iterator[Any]:
    """Every message of the tree, the wrappers of nodes left out."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, pg.Node):
            node = unwrap(node)
        if node is None:
            continue
        yield node
        for field, value in node.ListFields():
            if field.message_type is not None:
                waiting += [value] if hasattr(value, "ListFields") else list(value)
