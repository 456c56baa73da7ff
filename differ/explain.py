"""Explains a shown row down to the path inside json, arrays and composites; called by `rows.py`.

DeepDiff is used here only, and only on such cells: of a plain one the two texts say all. It never decides whether
something changed: Postgres' text did, before. Every leaf goes in as its JSON text, so that nothing DeepDiff holds equal
(1.0 and 1.00, NaN, aware and naive times) is lost.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from differ.compose import block_of_type
from differ.fetching import fetch
from differ.model import Column, PathChange, PathKind, TableImages

#: A JSON value whose every leaf is its own JSON text.
Tree: TypeAlias = "str | dict[str, Tree] | list[Tree]"

#: Longer texts, deeper values and more nodes than these are shown whole, without paths.
MAX_CHARACTERS = 100_000
MAX_DEPTH = 50
MAX_NODES = 4_000
MAX_NODES_PER_PAGE = 20_000
#: Lists longer than this are compared place by place: finding moved items costs up to the cube of the length.
MAX_ALIGNED = 150
#: Paths kept per cell; `more_paths` counts the rest.
MAX_PATHS = 100

_KINDS: Mapping[str, PathKind] = {
    "values_changed": "changed",
    "type_changes": "changed",
    "dictionary_item_added": "added",
    "iterable_item_added": "added",
    "dictionary_item_removed": "removed",
    "iterable_item_removed": "removed",
}


class _Literal(str):
    """A number of a JSON document in its own spelling."""

    __slots__ = ()


@dataclass(kw_only=True)
class Budget:
    """What explaining one page may still cost, in nodes."""

    nodes: int = MAX_NODES_PER_PAGE


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Paths by column, and how many were left off."""

    paths: Mapping[str, tuple[PathChange, ...]] = field(default_factory=dict)
    left_off: Mapping[str, int] = field(default_factory=dict)


Cells: TypeAlias = "Sequence[str | None] | None"


def explain_rows(
    conn: psycopg.Connection[Any], images: TableImages, rows: Sequence[tuple[Cells, Cells]], budget: Budget
) -> list[Explanation]:
    """One explanation per row (cell texts before and after); empty for new and deleted rows."""
    wanted = {
        (column, text)
        for before, after in rows
        for column, *texts in _changed_nested(images, before, after)
        for text in texts
    }
    documents = _documents(conn, wanted)
    return [_explain(images, before, after, documents, budget) for before, after in rows]


def explain(
    before: Mapping[str, Tree], after: Mapping[str, Tree], *, aligned: bool = True
) -> dict[str, list[PathChange]]:
    """What DeepDiff reports between two rows, by column: each path in it and the JSON text of both sides.

    `aligned` matches the items of lists up to MAX_ALIGNED long, so that one removed item is one path.
    """
    from deepdiff import DeepDiff  # most processes show no such cell and would only wait for this import

    found = DeepDiff(
        before,
        after,
        view="tree",
        threshold_to_diff_deeper=0,
        ignore_private_variables=False,
        zip_ordered_iterables=not aligned or _longest((before, after)) > MAX_ALIGNED,
    )
    changes: dict[str, list[PathChange]] = {}
    for report, levels in found.items():
        kind = _KINDS.get(report)
        for level in levels if kind else ():
            column, *path = level.path(output_format="list")
            change = PathChange(
                path=tuple(path),
                kind=kind or "changed",
                before=None if kind == "added" else rendered(level.t1),
                after=None if kind == "removed" else rendered(level.t2),
            )
            changes.setdefault(column, []).append(change)
    return {column: sorted(paths, key=_by_path) for column, paths in changes.items()}


def tree_of(document: str) -> tuple[Tree, int] | None:
    """A JSON text as a tree and its number of nodes; None when it is too long, deep or large to explain."""
    if len(document) > MAX_CHARACTERS:
        return None
    try:
        parsed = json.loads(document, parse_int=_Literal, parse_float=_Literal, parse_constant=_Literal)
        nodes = _size(parsed)
    except RecursionError:  # deeper than any explanation would help; the whole value is shown
        return None
    return None if nodes is None else (_tree(parsed), nodes)


def rendered(tree: Any) -> str:
    """The JSON text of a tree."""
    if isinstance(tree, dict):
        parts = (f"{json.dumps(key, ensure_ascii=False)}: {rendered(value)}" for key, value in tree.items())
        return f"{{{', '.join(parts)}}}"
    if isinstance(tree, list):
        return f"[{', '.join(rendered(item) for item in tree)}]"
    return str(tree)


def _explain(
    images: TableImages,
    before: Cells,
    after: Cells,
    documents: Mapping[tuple[Column, str], str],
    budget: Budget,
) -> Explanation:
    old: dict[str, Tree] = {}
    new: dict[str, Tree] = {}
    for column, was, now in _changed_nested(images, before, after):
        trees = [tree_of(documents[column, text]) for text in (was, now)]
        if trees[0] is None or trees[1] is None or trees[0][1] + trees[1][1] > budget.nodes:
            continue
        budget.nodes -= trees[0][1] + trees[1][1]
        old[column.name], new[column.name] = trees[0][0], trees[1][0]
    paths = explain(old, new) if old else {}
    return Explanation(
        paths={name: tuple(found[:MAX_PATHS]) for name, found in paths.items()},
        left_off={name: max(0, len(found) - MAX_PATHS) for name, found in paths.items()},
    )


def _changed_nested(images: TableImages, before: Cells, after: Cells) -> Iterable[tuple[Column, str, str]]:
    if before is None or after is None:
        return
    for column, was, now in zip(images.columns, before, after, strict=True):
        if column.nested and was is not None and now is not None and was != now:
            yield column, was, now


def _documents(conn: psycopg.Connection[Any], wanted: set[tuple[Column, str]]) -> dict[tuple[Column, str], str]:
    """The texts as JSON documents: json is one already, Postgres turns the other types into one."""
    documents = {(column, text): text for column, text in wanted}
    others: dict[Column, list[str]] = {}
    for column, text in wanted:
        if column.type not in ("json", "jsonb") and len(text) <= MAX_CHARACTERS:
            others.setdefault(column, []).append(text)
    for column, texts in others.items():
        found = fetch(conn, block_of_type("as_json", column.type, texts=sql.Literal(texts)))
        documents |= {(column, text): document for text, (document,) in zip(texts, found, strict=True)}
    return documents


def _tree(value: Any) -> Tree:
    if isinstance(value, dict):
        return {key: _tree(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_tree(item) for item in value]
    return str(value) if isinstance(value, _Literal) else json.dumps(value, ensure_ascii=False)


def _size(value: Any) -> int | None:
    """Nodes of a parsed value; None when there are too many or they are too deep."""
    count, waiting = 0, [(value, 0)]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_NODES:
            return None
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        waiting += [(item, depth + 1) for item in inner]
    return count


def _longest(value: Any) -> int:
    """The length of the longest list anywhere inside."""
    longest, waiting = 0, [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            longest = max(longest, len(node))
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ()
        waiting += list(inner)
    return longest


def _by_path(change: PathChange) -> list[tuple[bool, int, str]]:
    return [(isinstance(step, str), 0 if isinstance(step, str) else step, str(step)) for step in change.path]
