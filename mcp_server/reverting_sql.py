"""Statements that write many rows at once: texts and parameters for one batch; called by `reverting.py`.

Values travel as text arrays and are cast to the columns' own types, so one statement of a fixed text holds thousands
of rows; nothing of a value ever stands in a text.
"""

from collections.abc import Iterator, Sequence

from mcp_server.reverting_order import Batch
from shadow.fence import DIRECT, Fence, FencedTable

#: Rows, and bytes of their values, of one statement.
_ROWS = 5_000
_BYTES = 240_000

Row = tuple[str | None, ...]


def statements(fence: Fence, batch: Batch) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """Text, parameters and number of rows of each statement that the batch needs."""
    table = fence.tables[batch.table]
    columns = settable(table, batch.columns) if batch.kind == "insert" else batch.columns
    keys = () if batch.kind == "insert" else table.table.key
    text = _text(fence, table, batch.kind, keys, columns)
    rows = [((*key[: len(keys)], *(cells[c] for c in columns))) for key, cells in batch.rows]
    for chunk in _chunks(rows):
        yield text, tuple(array(list(values)) for values in zip(*chunk, strict=True)), len(chunk)


def settable(table: FencedTable, columns: Sequence[str]) -> tuple[str, ...]:
    """Columns that an INSERT names: the tenant's own column is filled in by the surface."""
    return tuple(c for c in columns if not (table.fence_class == DIRECT and c in table.tenant_columns))


def _text(fence: Fence, table: FencedTable, kind: str, keys: Sequence[str], columns: Sequence[str]) -> str:
    given = "given"
    while given in fence.tables:
        given += "_"
    names = [*(f"k{n}" for n in range(1, len(keys) + 1)), *(f"c{n}" for n in range(1, len(columns) + 1))]
    source = f"unnest({', '.join(f'${n}::text[]' for n in range(1, len(names) + 1))}) AS {given}({', '.join(names)})"
    types = {c.name: c.type for c in table.table.columns}
    cells = [f"{given}.c{n}::{types[c]}" for n, c in enumerate(columns, 1)]
    target = _quoted(table.table.name)
    found = " AND ".join(f"{target}.{_quoted(c)} = {given}.k{n}::{types[c]}" for n, c in enumerate(keys, 1))
    if kind == "insert":
        listed = ", ".join(_quoted(c) for c in columns)
        return f"INSERT INTO {target} ({listed}) SELECT {', '.join(cells)} FROM {source} ORDER BY {given}.c1"  # noqa: S608
    if kind == "delete":
        return f"DELETE FROM {target} USING {source} WHERE {found}"  # noqa: S608
    sets = ", ".join(f"{_quoted(c)} = {cell}" for c, cell in zip(columns, cells, strict=True))
    return f"UPDATE {target} SET {sets} FROM {source} WHERE {found}"  # noqa: S608


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _chunks(rows: Sequence[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    size = 0
    for row in rows:
        length = sum(len((value or "NULL").encode()) + 3 for value in row)
        if chunk and (size + length > _BYTES or len(chunk) == _ROWS):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += length
    if chunk:
        yield chunk


def array(values: Sequence[str | None]) -> str:
    """Postgres' own spelling of a list of texts (docs 8.15.2); NULL stays NULL."""
    return "{" + ",".join("NULL" if value is None else _element(value) for value in values) + "}"


def _element(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
