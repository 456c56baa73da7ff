"""The gate's rules for INSERT, UPDATE, DELETE and MERGE: targets, columns, the tenant's column, ON CONFLICT.

Each function judges one statement node, notes what it assigns, and leaves walking into it to `shadow.gate_walk`.
"""

from collections.abc import Iterable
from typing import Any

from postgast import pg_query_pb2 as pg

from shadow.gate_literals import check_assigned, is_tenant_key
from shadow.gate_moving import see_assigned
from shadow.gate_reading import Reading
from shadow.gate_scope import Scope, strings, unwrap
from shadow.gate_text import refused, shown
from shadow.statement import SurfaceTable


def written_table(relation: Any, reading: Reading) -> SurfaceTable:
    """The writable table a change names; notes the write."""
    if reading.query:
        raise refused("A query only reads.", "Send a change with the run tool: it is tried on the shadow first.")
    table = reading.surface.tables[relation.relname]
    if not table.writable:
        why = f": {table.read_only}" if table.read_only else ""
        raise refused(f"The table {shown(table.name)} can be read but not changed{why}.", "Leave it as it is.")
    reading.writes.add(table.name)
    return table


def _column(table: SurfaceTable, name: str) -> str:
    """Type text of a column that is assigned; refuses unknown ones."""
    if name not in table.columns:
        raise refused(
            f"The table {shown(table.name)} has no column {shown(name)} that a statement may set.",
            "Its columns are: " + ", ".join(list(table.columns)[:40]) + ".",
        )
    return table.columns[name]


def _assign(table: SurfaceTable, target: Any, value: Any, reading: Reading, scope: Scope) -> None:
    """Notes and judges one assignment; `value` None means it comes from somewhere a literal can't be seen."""
    kind = _column(table, target.name)
    reading.set_columns.add((table.name, target.name))
    if value is not None and not target.indirection:
        check_assigned(value, kind, target.name, reading, scope)
        see_assigned([value], kind, reading, scope)


def _refuse_tenant(table: SurfaceTable, name: str) -> Exception:
    column = shown(name)
    return refused(
        f"{column} of {shown(table.name)} would not be this tenant's own key.",
        f"Leave {column} out: a new row gets this tenant's key, an existing one keeps it.",
    )


def check_insert(statement: Any, table: SurfaceTable, reading: Reading, scope: Scope) -> None:
    """Judges an INSERT's column list, the literals of its rows or of its SELECT, and its ON CONFLICT."""
    query = unwrap(statement.select_stmt)
    if not statement.cols and query is not None:
        raise refused(
            "INSERT without a column list depends on the order of the columns.",
            f"Write INSERT INTO {table.name} (column, …) …, without generated ids.",
        )
    for target in statement.cols:
        _assign(table, target.res_target, None, reading, scope)
    if query is None:
        rows: int | None = 1
    else:
        rows = len(query.values_lists) if isinstance(query, pg.SelectStmt) and query.values_lists else None
        arms = list(_arms(query))
        for values, from_select in arms:
            _check_row(statement.cols, values, from_select, table, reading, scope)
        # VALUES rows become the columns' types one by one; the arms of a UNION find one type among themselves.
        together = [[values] for values, _ in arms] if rows is not None else [[values for values, _ in arms]]
        for group in together:
            _see_columns(statement.cols, group, table, reading, scope)
        if rows is None and query.from_clause and not query.sort_clause:
            reading.warnings["INSERT … SELECT without ORDER BY: generated ids may fall on other rows."] = None
    reading.inserts.append((table.name, rows))
    _give_ids(statement.cols, statement.override, table, reading)
    if statement.HasField("on_conflict_clause"):
        _check_conflict(statement.on_conflict_clause, table, reading, scope)


def _see_columns(cols: Any, rows: list[list[Any]], table: SurfaceTable, reading: Reading, scope: Scope) -> None:
    for target, *values in zip(cols, *rows, strict=False):
        see_assigned(values, table.columns[target.res_target.name], reading, scope)


def _give_ids(cols: Any, override: int, table: SurfaceTable, reading: Reading) -> None:
    """Notes where the rendered text must say that ids of an identity ALWAYS column are ours to give."""
    if not table.always:
        return
    given = sorted({col.res_target.name for col in cols} & table.always)
    if (given and not reading.limits.give_ids) or override != pg.OVERRIDING_NOT_SET or not cols:
        column = shown(given[0] if given else min(table.always))
        raise refused(
            f"{column} of {shown(table.name)} is always generated.",
            "Name other columns and leave it and OVERRIDING out: the id is drawn for you.",
        )
    reading.overriding.append(reading.list_end(cols[-1].res_target.location))


def _arms(query: Any) -> Iterable[tuple[list[Any], bool]]:
    """The rows of values an INSERT's query is seen to give: VALUES rows, and target lists of each UNION arm."""
    waiting = [query]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, pg.SelectStmt):
            continue
        if one.op != pg.SETOP_NONE:
            waiting += [one.larg, one.rarg]
        for row in one.values_lists:
            yield [unwrap(item) for item in row.list.items], False
        if one.target_list:
            yield [unwrap(item.res_target.val) for item in one.target_list], True


def _check_row(
    cols: Any, values: list[Any], from_select: bool, table: SurfaceTable, reading: Reading, scope: Scope
) -> None:
    names = [col.res_target.name for col in cols]
    starred = any(isinstance(v, pg.ColumnRef) and v.fields[-1].HasField("a_star") for v in values)
    if starred and (hidden := [name for name in table.tenant_columns if name in names]):
        raise refused(f"SELECT * hides what goes into {shown(hidden[0])}.", "Write the selected columns out.")
    if starred:
        return
    for name, value, col in zip(names, values, cols, strict=False):
        if name in table.tenant_columns and not _keeps_tenant(value, name, table, from_select, reading):
            raise _refuse_tenant(table, name)
        if not col.res_target.indirection:
            check_assigned(value, table.columns[name], name, reading, scope)


def _keeps_tenant(value: Any, column: str, table: SurfaceTable, from_select: bool, reading: Reading) -> bool:
    """The tenant's own literal, DEFAULT, or (in a SELECT) a row's own tenant column; the view checks the last."""
    if isinstance(value, pg.SetToDefault):
        return True
    if from_select and isinstance(value, pg.ColumnRef):
        return strings(value.fields)[-1:] == (column,)
    return is_tenant_key(value, column, table, reading)


def _check_conflict(clause: Any, table: SurfaceTable, reading: Reading, scope: Scope) -> None:
    """ON CONFLICT only where it can't meet a row of another tenant, and without moving the row it meets."""
    arbiter = _arbiter(clause)
    if arbiter not in table.unique_with_tenant:
        usable = " or ".join("(" + ", ".join(sorted(key)) + ")" for key in table.unique_with_tenant)
        raise refused(
            f"ON CONFLICT ({', '.join(sorted(arbiter))}) could meet a row outside this tenant.",
            f"Use ON CONFLICT {usable}." if usable else "Look with a query first, then INSERT or UPDATE.",
        )
    keys = frozenset(table.key).union(*table.unique_keys)
    for item in clause.target_list:
        target = item.res_target
        value = unwrap(target.val)
        own = isinstance(value, pg.ColumnRef) and strings(value.fields) == ("excluded", target.name)
        if target.name in arbiter and not own:
            raise refused(
                f"ON CONFLICT DO UPDATE would change {shown(target.name)}, part of the key it looks rows up by.",
                "Leave that column out of SET; change keys with an UPDATE of their own.",
            )
        if not own:
            _check_set(target, table, reading, scope)
        if target.name in keys - arbiter:
            reading.key_updates.add(table.name)
        reading.set_columns.add((table.name, target.name))
    if clause.target_list:
        reading.reads.add(table.name)


def _arbiter(clause: Any) -> frozenset[str]:
    infer = clause.infer
    if infer.conname:
        raise refused(
            "ON CONFLICT ON CONSTRAINT does not work through a view.", "Name the columns: ON CONFLICT (column, …)."
        )
    if not infer.index_elems:
        raise refused(
            "ON CONFLICT without columns reacts to any unique key, even of rows outside this tenant.",
            "Name the columns of the key: ON CONFLICT (column, …).",
        )
    names = set()
    for item in infer.index_elems:
        element = item.index_elem
        if not element.name or element.collation or element.opclass:
            raise refused("ON CONFLICT names an expression.", "Name plain columns: ON CONFLICT (column, …).")
        names.add(element.name)
    return frozenset(names)


def _check_set(target: Any, table: SurfaceTable, reading: Reading, scope: Scope) -> None:
    value = unwrap(target.val)
    if isinstance(value, pg.MultiAssignRef):
        value = _multi_value(value)
    if isinstance(value, pg.SetToDefault) and target.name in table.defaults:
        raise refused(
            f"SET {shown(target.name)} = DEFAULT would write NULL: a view has no defaults of its own for an UPDATE.",
            "Write the value itself.",
        )
    if target.name in table.tenant_columns and (value is None or not is_tenant_key(value, target.name, table, reading)):
        raise _refuse_tenant(table, target.name)
    _assign(table, target, value, reading, scope)


def _multi_value(reference: Any) -> Any:
    """The expression one column of SET (a, b) = (x, y) gets; None when a sub-select gives it."""
    source = unwrap(reference.source)
    if isinstance(source, pg.RowExpr) and reference.colno <= len(source.args):
        return unwrap(source.args[reference.colno - 1])
    return None


def check_update(statement: Any, table: SurfaceTable, reading: Reading, scope: Scope) -> None:
    """Judges an UPDATE's SET list; notes key changes and a missing WHERE."""
    _check_sets(statement.target_list, table, reading, scope)
    reading.reads.add(table.name)
    if not statement.HasField("where_clause"):
        reading.warnings["UPDATE without WHERE: this touches every row of the tenant."] = None


def _check_sets(targets: Any, table: SurfaceTable, reading: Reading, scope: Scope) -> None:
    keys = frozenset(table.key).union(*table.unique_keys)
    for item in targets:
        _check_set(item.res_target, table, reading, scope)
        if item.res_target.name in keys:
            reading.key_updates.add(table.name)


def check_delete(statement: Any, table: SurfaceTable, reading: Reading) -> None:
    """Notes a DELETE and a missing WHERE."""
    reading.reads.add(table.name)
    reading.deletes.add(table.name)
    if not statement.HasField("where_clause"):
        reading.warnings["DELETE without WHERE: this removes every row of the tenant."] = None


def check_merge(statement: Any, table: SurfaceTable, reading: Reading, scope: Scope) -> None:
    """Judges a MERGE's actions; refused where the server can't MERGE into a view."""
    if reading.surface.server_version < 170000:
        raise refused(
            "MERGE into a view needs PostgreSQL 17; this server is older.",
            "Write an UPDATE and an INSERT as two steps, or INSERT … ON CONFLICT.",
        )
    reading.reads.add(table.name)
    for item in statement.merge_when_clauses:
        when = item.merge_when_clause
        if when.command_type == pg.CMD_DELETE:
            reading.deletes.add(table.name)
        elif when.command_type == pg.CMD_UPDATE:
            _check_sets(when.target_list, table, reading, scope)
        elif when.command_type == pg.CMD_INSERT:
            _check_merge_insert(when, table, reading, scope)


def _check_merge_insert(when: Any, table: SurfaceTable, reading: Reading, scope: Scope) -> None:
    if not when.target_list and getattr(when, "values"):  # noqa: B009 - `values` is a field here, not a method
        raise refused(
            "MERGE … INSERT without a column list depends on the order of the columns.",
            "Write INSERT (column, …) VALUES (…).",
        )
    for target in when.target_list:
        _assign(table, target.res_target, None, reading, scope)
    values = [unwrap(value) for value in when.values]
    _check_row(when.target_list, values, True, table, reading, scope)
    _see_columns(when.target_list, [values], table, reading, scope)
    _give_ids(when.target_list, when.override, table, reading)
    reading.inserts.append((table.name, None))
