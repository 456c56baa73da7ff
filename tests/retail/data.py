"""Reads the shop's documents and sessions from JSON, money as Decimal; called by the runner and tests."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

#: A JSON object whose money is Decimal.
Document = dict[str, Any]

#: Where the public data lies when the repository is checked out beside it; it is not ours to copy.
PUBLIC_DATA = Path(__file__).parents[3] / "shared" / "data" / "support-retail"


class DataMissing(Exception):
    """A file of the shop or of its sessions is not there: nothing was loaded or played."""


@dataclass(frozen=True, kw_only=True)
class Shop:
    """The state every session starts from: documents by their own id."""

    users: dict[str, Document]
    orders: dict[str, Document]
    products: dict[str, Document]


@dataclass(frozen=True, kw_only=True)
class Action:
    """One write of a session; `refused` is true where the source system answered with an error."""

    name: str
    arguments: Document
    refused: bool


@dataclass(frozen=True, kw_only=True)
class Session:
    """One support session: the tenant's words, its writes, and the documents that differ afterwards."""

    id: str
    user_id: str
    request: str
    actions: tuple[Action, ...]
    orders: dict[str, Document]
    users: dict[str, Document]


def read_shop(folder: Path) -> Shop:
    """The shop of one folder. Raises DataMissing."""
    return Shop(
        users=_read(folder / "users.json"),
        orders=_read(folder / "orders.json"),
        products=_read(folder / "products.json"),
    )


def read_sessions(file: Path) -> Iterator[Session]:
    """Sessions in the file's order, one JSON object a line. Raises DataMissing."""
    for line in _text(file).splitlines():
        if line.strip():
            yield _session(json.loads(line, parse_float=Decimal))


def _session(document: Document) -> Session:
    return Session(
        id=document["id"],
        user_id=document["user_id"],
        request=document["request"],
        actions=tuple(
            Action(name=one["name"], arguments=one["arguments"], refused=one["error"] is not None)
            for one in document["actions"]
        ),
        orders=document["expected"]["orders"],
        users=document["expected"]["users"],
    )


def _read(file: Path) -> dict[str, Document]:
    found: dict[str, Document] = json.loads(_text(file), parse_float=Decimal)
    return found


def _text(file: Path) -> str:
    if not file.is_file():
        raise DataMissing(f"{file} is not there, so no session was played. Give its place with --data/--sessions.")
    return file.read_text(encoding="utf-8")
