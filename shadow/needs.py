"""Which tables a statement needs loaded, and how deep: a refused access must never be a silently empty table.

Called by `Shadow.ensure` before a statement runs; what it misses, Postgres refuses (42501) and is loaded then.
"""

from collections.abc import Iterable, Mapping

from shadow.fence import REACHED, SHARED, SINK, Fence, trigger_mentions, trigger_targets

READ, WRITE, DELETE = 1, 2, 3


def closure(fence: Fence, wanted: Mapping[str, int]) -> dict[str, int]:
    """Tables and levels that `wanted` leads to.

    Reading needs the parents that the fence and the keys look at; writing also what the table's triggers name;
    deleting (or changing a key) also every child that a foreign key cascades to or is checked against.
    """
    levels: dict[str, int] = {}
    todo = list(wanted.items())
    while todo:
        name, level = todo.pop()
        if levels.get(name, 0) >= level:
            continue
        levels[name] = level
        todo.extend(_reading(fence, name))
        if level >= WRITE:
            todo.extend(_writing(fence, name))
        if level >= DELETE:
            todo.extend(_deleting(fence, name))
    return levels


def _reading(fence: Fence, name: str) -> Iterable[tuple[str, int]]:
    table = fence.tables[name]
    for fk in (*table.paths, *table.links, *table.references):
        parent = fence.tables[fk.parent]
        if parent.owned or parent.fence_class == SHARED:
            yield fk.parent, READ


def _writing(fence: Fence, name: str) -> Iterable[tuple[str, int]]:
    table = fence.tables[name].table
    written = trigger_targets(table, fence.catalog)
    for mentioned in trigger_mentions(table, fence.catalog) | written:
        other = fence.tables[mentioned]
        if other.fence_class == SINK or (other.owned and mentioned != name):
            yield mentioned, WRITE
        elif other.fence_class == SHARED:
            yield mentioned, READ


def _deleting(fence: Fence, name: str) -> Iterable[tuple[str, int]]:
    for child, fk in fence.children(name):
        if not child.owned:
            continue
        if fk.on_delete == "c" or fk.on_update == "c":
            yield child.table.name, DELETE
        elif fk.on_delete in "nd" or fk.on_update in "nd":
            yield child.table.name, WRITE
        else:
            yield child.table.name, READ


def loadable(fence: Fence, name: str) -> bool:
    """True when a shadow may hold the table at all."""
    return fence.tables[name].owned or fence.tables[name].fence_class in (SHARED, SINK, REACHED)
