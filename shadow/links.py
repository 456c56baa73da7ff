"""Links that the operator declares where the database has no foreign key, polymorphic references included.

Parsed while the fence is built; `predicate.py` follows them like foreign keys, under their condition.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shadow.catalog import Catalog, ForeignKey

_TO = re.compile(r"^\s*([^>]+?)\s*->\s*(.+)\.\s*([^.()]+|\([^()]+\))\s*$")


class FenceInvalid(ValueError):
    """The operator's rules do not fit the catalog; the text names the rule."""


@dataclass(frozen=True, kw_only=True)
class LinkRule:
    """One declared link as TOML has it: `to` is `column -> table.column`.

    `when` is an SQL condition over the row's own columns, or, with `lookup` (`column -> table.column`), over the row of
    the reference table that says what kind of row is meant.
    """

    to: str
    when: str | None = None
    lookup: str | None = None


@dataclass(frozen=True, kw_only=True)
class DeclaredLink(ForeignKey):
    """A link that no constraint holds; it counts only for rows that meet `when`."""

    when: str | None = None
    lookup: ForeignKey | None = None


Via = str | LinkRule | tuple[str | LinkRule, ...]


def via_from(data: str | Sequence[str | Mapping[str, Any]] | None) -> Via | None:
    """What TOML or a recording says of a table's links, as rules; plain text and None stay as they are."""
    if data is None or isinstance(data, str):
        return data
    return tuple(one if isinstance(one, str) else LinkRule(**one) for one in data)


def link_rules(via: Via) -> Iterator[LinkRule]:
    """One link, or a list of them, as rules."""
    for one in via if isinstance(via, tuple) else (via,):
        yield LinkRule(to=one) if isinstance(one, str) else one


def declared_links(via: Via, name: str, catalog: Catalog) -> tuple[DeclaredLink, ...]:
    """The links of one table. Raises FenceInvalid where one names what is not there, or a lookup has no condition."""
    found = []
    for number, rule in enumerate(link_rules(via)):
        if rule.lookup is not None and not rule.when:
            raise FenceInvalid(f"[fence.tables.{name}] via: a `lookup` needs `when`, the condition on the row found.")
        to = _parsed(rule.to, name, f"declared_{name}_{number}", catalog)
        looked = _parsed(rule.lookup, name, f"lookup_{name}_{number}", catalog) if rule.lookup else None
        found.append(
            DeclaredLink(
                name=to.name, columns=to.columns, parent=to.parent, parent_columns=to.parent_columns,
                on_delete="a", on_update="a", deferred=False, when=rule.when, lookup=looked,
            )
        )  # fmt: skip
    return tuple(found)


def _parsed(text: str, name: str, link: str, catalog: Catalog) -> ForeignKey:
    """`contract_id -> contracts.id` as a foreign key that the database does not have."""
    match = _TO.match(text)
    if not match or match[2] not in catalog.tables:
        raise FenceInvalid(f"[fence.tables.{name}] via: write it as `column -> table.column`, got {text!r}.")
    columns = tuple(c.strip() for c in match[1].strip("()").split(","))
    parents = tuple(c.strip() for c in match[3].strip("()").split(","))
    known = {c.name for c in catalog.tables[name].columns}
    known_parents = {c.name for c in catalog.tables[match[2]].columns}
    if len(columns) != len(parents) or not set(columns) <= known or not set(parents) <= known_parents:
        raise FenceInvalid(f"[fence.tables.{name}] via: {text!r} names columns that do not exist or do not pair up.")
    return ForeignKey(
        name=link,
        columns=columns,
        parent=match[2],
        parent_columns=parents,
        on_delete="a",
        on_update="a",
        deferred=False,
    )
