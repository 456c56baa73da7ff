"""Capture: before a table's first write, its loaded rows are kept beside it and triggers note every key touched.

Called by `Shadow.ensure`; the layout is read by the differ and by the bookkeeping's own functions.
"""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from shadow.errors import StatementRefused
from shadow.fence import SINK, FencedTable
from shadow.predicate import base
from shadow.sql import block

#: An update's statement trigger notes the keys as they are after it; those that were left behind are rare and noted row
#: by row, which saves keeping and reading every old row. A row that moves to another partition fires no UPDATE trigger
#: of its own (Postgres docs, CREATE TRIGGER): partitioned tables note both sides.
_INSERT = ("insert", "I", ("new_rows",), "REFERENCING NEW TABLE AS new_rows")
_UPDATE = ("update", "U", ("new_rows",), "REFERENCING NEW TABLE AS new_rows")
_MOVE = ("update", "U", ("old_rows", "new_rows"), "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows")
_DELETE = ("delete", "D", ("old_rows",), "REFERENCING OLD TABLE AS old_rows")

_FUNCTION = """
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $capture$
DECLARE stack text; came_from text; running shadowdesk.session;
BEGIN
  GET DIAGNOSTICS stack = PG_CONTEXT;
  SELECT * INTO running FROM shadowdesk.session;
  came_from := shadowdesk.origin(pg_trigger_depth(), stack, {name}, running.targets);
  {notes}
  RETURN NULL;
END$capture$
"""

#: Rows without a key can be added, but nothing could prove which of them changed or went.
_NO_KEY = """
  IF EXISTS (SELECT FROM {rows}) THEN
    RAISE EXCEPTION '%', {name} USING ERRCODE = 'SD003';
  END IF;
"""


def watch(conn: psycopg.Connection[Any], table: FencedTable, oid: int) -> None:
    """Makes pristine copy, touched and image tables and the capture triggers of one table (oid in the shadow).

    Raises StatementRefused where production's search_path does not find how the key compares.
    """
    sink = table.fence_class == SINK
    key = table.table.key
    types = {c.name: c.type for c in table.table.columns}
    equality, collations = _equality(conn, table) if key else ([], [""])
    key_types = [types[column] for column in key] or ["text"]
    columns = [c.name for c in table.table.columns]
    conn.execute(
        "INSERT INTO shadowdesk.watched(rel, name, qualified, key, equality, columns, insertable, pristine, drawn_key)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            oid, table.table.name, base(table).as_string(conn), list(key), equality, columns,
            [c.name for c in table.table.columns if not c.generated], not sink,
            any(table.table.column(c).draws in ("sequence", "volatile") for c in key),
        ),
    )  # fmt: skip
    keys = [
        sql.SQL("{} {}{}").format(sql.Identifier(f"k{n}"), _type(t), _type(collation))
        for n, (t, collation) in enumerate(zip(key_types, collations, strict=True), 1)
    ]
    cells = [sql.SQL("{} {}").format(sql.Identifier(f"c{n}"), _type(types[c])) for n, c in enumerate(columns, 1)]
    # No indexes: both are written with every step, and read whole or joined by hash.
    conn.execute(
        sql.SQL('CREATE TABLE {} (step smallint, rehearsal boolean, op "char", origin text, {})').format(
            own("touched", oid), sql.SQL(", ").join(keys)
        )
    )
    conn.execute(
        sql.SQL("CREATE TABLE {} (step smallint, present boolean, {})").format(
            own("image", oid), sql.SQL(", ").join(keys + cells)
        )
    )
    if not sink:
        _keep_pristine(conn, table, oid)
    partitioned = table.table.kind == "p"
    for event, op, transition, referencing in (_INSERT, _MOVE if partitioned else _UPDATE, _DELETE):
        _add_capture(conn, table, oid, event, op, transition, referencing)
    if key and not partitioned:
        _add_key_capture(conn, table, oid, equality)
    if table.everybody:
        _refuse_everybody(conn, table, oid)


def own(kind: str, oid: int) -> sql.Identifier:
    """The bookkeeping table of one watched table: touched, image or pristine."""
    return sql.Identifier("shadowdesk", f"{kind}_{oid}")


def _type(name: str) -> sql.SQL:
    """A type, collation or operator as the catalog writes it, which is valid SQL; it never comes from a caller."""
    return sql.SQL(name)


def _keep_pristine(conn: psycopg.Connection[Any], table: FencedTable, oid: int) -> None:
    conn.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(own("pristine", oid), base(table)))
    if table.table.key:
        key = sql.SQL(", ").join(sql.Identifier(c) for c in table.table.key)
        conn.execute(sql.SQL("CREATE UNIQUE INDEX ON {} ({})").format(own("pristine", oid), key))


def _add_capture(
    conn: psycopg.Connection[Any],
    table: FencedTable,
    oid: int,
    event: str,
    op: str,
    transition: tuple[str, ...],
    referencing: str,
) -> None:
    keys: sql.Composable = sql.SQL("(r.*)::text")
    if table.table.key:
        keys = sql.SQL(", ").join(sql.Identifier("r", column) for column in table.table.key)
    notes: sql.Composable = sql.SQL(" ").join(
        sql.SQL("INSERT INTO {} SELECT running.step, running.rehearsal, {}, came_from, {} FROM {} AS r;").format(
            own("touched", oid), sql.Literal(op), keys, sql.Identifier(rows)
        )
        for rows in transition
    )
    if op != "I" and not table.table.key and table.fence_class != SINK:
        notes = sql.SQL(_NO_KEY).format(name=sql.Literal(table.table.name), rows=sql.Identifier(transition[0]))
    _make_function(conn, table, own(f"capture_{event}", oid), notes)
    # A statement on a partitioned table fires its triggers only, one on a partition (a trigger's) the partition's only.
    for relation in (base(table), *(sql.Identifier(schema, name) for schema, name in table.table.partitions)):
        conn.execute(
            sql.SQL("CREATE TRIGGER {} AFTER {} ON {} {} FOR EACH STATEMENT EXECUTE FUNCTION {}()").format(
                sql.Identifier(f"shadowdesk_capture_{event}"), sql.SQL(event.upper()), relation,
                sql.SQL(referencing), own(f"capture_{event}", oid),
            )
        )  # fmt: skip


def key_equality(conn: psycopg.Connection[Any], table: FencedTable) -> tuple[list[str], list[str], str | None]:
    """By key column: the operator of its equality, and how its collation is written; last the schema of an operator
    that production's search_path does not find, None when there is no such.

    Keys that Postgres takes for one (a citext's `abc` and `ABC`) are one row here as well: a change from one to the
    other is an update that shows the key's cell.
    """
    asked = {"rel": base(table).as_string(conn), "key": list(table.table.key)}
    row = conn.execute(block("key_equality"), asked).fetchone()
    assert row is not None  # noqa: S101 - the mirror has the unique index that makes these columns the key
    return row[0], row[1], row[2]


def _equality(conn: psycopg.Connection[Any], table: FencedTable) -> tuple[list[str], list[str]]:
    equality, collations, hidden = key_equality(conn, table)
    if hidden is not None:
        raise StatementRefused(
            f"The key of {table.table.name} has a type whose operators are in the schema {hidden}, where production's"
            " search_path does not look: its rows cannot be told apart.",
            "It was rolled back: nothing was kept.",
            f"Ask an engineer to add {hidden} to search_path in the settings.",
        )
    return equality, collations


def _add_key_capture(conn: psycopg.Connection[Any], table: FencedTable, oid: int, equality: Sequence[str]) -> None:
    """Notes the old key of a row whose key an update changed; for other rows the condition is all it costs."""
    function = own("capture_key", oid)
    old = sql.SQL(", ").join(sql.Identifier("old", column) for column in table.table.key)
    notes = sql.SQL("INSERT INTO {} SELECT running.step, running.rehearsal, 'U', came_from, {};").format(
        own("touched", oid), old
    )
    _make_function(conn, table, function, notes)
    changed = sql.SQL(" OR ").join(
        sql.SQL("NOT {} {} {}").format(sql.Identifier("old", column), _type(equal), sql.Identifier("new", column))
        for column, equal in zip(table.table.key, equality, strict=True)
    )
    conn.execute(
        sql.SQL("CREATE TRIGGER {} AFTER UPDATE ON {} FOR EACH ROW WHEN ({}) EXECUTE FUNCTION {}()").format(
            sql.Identifier("shadowdesk_capture_key"), base(table), changed, function
        )
    )


def _refuse_everybody(conn: psycopg.Connection[Any], table: FencedTable, oid: int) -> None:
    """Rows without a tenant are for everybody: no statement, cascade or trigger may write one."""
    function = own("everybody", oid)
    refusal = "RAISE EXCEPTION '%', {} USING ERRCODE = 'SD005';"
    _make_function(conn, table, function, sql.SQL(refusal).format(sql.Literal(table.table.name)))
    for event, rows in (("insert", ("new",)), ("update", ("old", "new")), ("delete", ("old",))):
        nulls = [sql.SQL("{} IS NULL").format(sql.Identifier(row, *table.tenant_columns)) for row in rows]
        conn.execute(
            sql.SQL("CREATE TRIGGER {} AFTER {} ON {} FOR EACH ROW WHEN ({}) EXECUTE FUNCTION {}()").format(
                sql.Identifier(f"shadowdesk_everybody_{event}"), sql.SQL(event.upper()), base(table),
                sql.SQL(" OR ").join(nulls), function,
            )
        )  # fmt: skip


def _make_function(
    conn: psycopg.Connection[Any], table: FencedTable, function: sql.Identifier, notes: sql.Composable
) -> None:
    conn.execute(sql.SQL(_FUNCTION).format(function=function, notes=notes, name=sql.Literal(table.table.name)))
