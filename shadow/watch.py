"""Capture: before a table's first write, its loaded rows are kept beside it and triggers note every key touched.

Called by `Shadow.ensure`; the layout is read by the differ and by the bookkeeping's own functions.
"""

from typing import Any

import psycopg
from psycopg import sql

from shadow.fence import SINK, FencedTable
from shadow.predicate import base

_EVENTS = (
    ("insert", "I", ("new_rows",), "REFERENCING NEW TABLE AS new_rows"),
    ("update", "U", ("old_rows", "new_rows"), "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"),
    ("delete", "D", ("old_rows",), "REFERENCING OLD TABLE AS old_rows"),
)

_FUNCTION = """
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $capture$
DECLARE stack text; came_from text; running shadowdesk.session;
BEGIN
  GET DIAGNOSTICS stack = PG_CONTEXT;
  SELECT * INTO running FROM shadowdesk.session;
  came_from := shadowdesk.origin(pg_trigger_depth(), stack, {name}, running.targets);
  {inserts}
  RETURN NULL;
END$capture$
"""

#: Rows without a key can be added, but nothing could prove which of them changed or went.
_NO_KEY = """
  IF EXISTS (SELECT FROM old_rows) THEN
    RAISE EXCEPTION '%', {name} USING ERRCODE = 'SD003';
  END IF;
"""


def watch(conn: psycopg.Connection[Any], table: FencedTable, oid: int) -> None:
    """Makes pristine copy, touched and image tables and the capture triggers of one table (oid in the shadow)."""
    sink = table.fence_class == SINK
    key = table.table.key
    types = {c.name: c.type for c in table.table.columns}
    key_types = [types[column] for column in key] or ["text"]
    columns = [c.name for c in table.table.columns]
    conn.execute(
        "INSERT INTO shadowdesk.watched(rel, name, qualified, key, columns, insertable, pristine, drawn_key)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (
            oid, table.table.name, base(table).as_string(conn), list(key), columns,
            [c.name for c in table.table.columns if not c.generated], not sink,
            any(table.table.column(c).draws in ("sequence", "volatile") for c in key),
        ),
    )  # fmt: skip
    keys = [sql.SQL("{} {}").format(sql.Identifier(f"k{n}"), _type(t)) for n, t in enumerate(key_types, 1)]
    cells = [sql.SQL("{} {}").format(sql.Identifier(f"c{n}"), _type(types[c])) for n, c in enumerate(columns, 1)]
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
    if key:
        conn.execute(
            sql.SQL("CREATE INDEX ON {} ({})").format(
                own("image", oid), sql.SQL(", ").join(sql.Identifier(f"k{n}") for n in range(1, len(keys) + 1))
            )
        )
    conn.execute(sql.SQL("CREATE INDEX ON {} (step)").format(own("touched", oid)))
    if not sink:
        _keep_pristine(conn, table, oid)
    for event, op, transition, referencing in _EVENTS:
        _add_capture(conn, table, oid, event, op, transition, referencing)


def own(kind: str, oid: int) -> sql.Identifier:
    """The bookkeeping table of one watched table: touched, image or pristine."""
    return sql.Identifier("shadowdesk", f"{kind}_{oid}")


def _type(name: str) -> sql.SQL:
    """A type as format_type writes it, which is valid SQL; it comes from the catalog, never from a caller."""
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
    function = own(f"capture_{event}", oid)
    keys: sql.Composable = sql.SQL("(r.*)::text")
    if table.table.key:
        keys = sql.SQL(", ").join(sql.Identifier("r", column) for column in table.table.key)
    inserts = sql.SQL(" ").join(
        sql.SQL("INSERT INTO {} SELECT running.step, running.rehearsal, {}, came_from, {} FROM {} AS r;").format(
            own("touched", oid), sql.Literal(op), keys, sql.Identifier(rows)
        )
        for rows in transition
    )
    if op != "I" and not table.table.key and table.fence_class != SINK:
        inserts = sql.SQL(_NO_KEY).format(name=sql.Literal(table.table.name))
    conn.execute(sql.SQL(_FUNCTION).format(function=function, inserts=inserts, name=sql.Literal(table.table.name)))
    # A statement on a partitioned table fires its triggers only, one on a partition (a trigger's) the partition's only.
    for relation in (base(table), *(sql.Identifier(schema, name) for schema, name in table.table.partitions)):
        conn.execute(
            sql.SQL("CREATE TRIGGER {} AFTER {} ON {} {} FOR EACH STATEMENT EXECUTE FUNCTION {}()").format(
                sql.Identifier(f"shadowdesk_capture_{event}"), sql.SQL(event.upper()), relation,
                sql.SQL(referencing), function,
            )
        )  # fmt: skip
