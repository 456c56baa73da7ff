"""Rebuilds one user's documents from rows, compares documents to the cent; called by the runner and tests."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.retail.data import Document
from tests.retail.loader import ADDRESS

_CENT = Decimal("0.01")


@dataclass(frozen=True, kw_only=True)
class Documents:
    """One user's documents by their ids, money as Decimal."""

    users: dict[str, Document]
    orders: dict[str, Document]


def documents_of(connection: psycopg.Connection, user_id: str) -> Documents:
    """The user's own document and all their orders' documents, as the rows say now."""
    rows = _Reader(connection, user_id)
    orders = [_order(rows, row) for row in rows("SELECT * FROM orders WHERE user_id = %s ORDER BY position")]
    return Documents(
        users={row["id"]: _user(rows, row) for row in rows("SELECT * FROM users WHERE id = %s")},
        orders={one["order_id"]: one for one in orders},
    )


def differences(expected: object, found: object, path: str = "") -> Iterator[str]:
    """One sentence per place where two documents differ; numbers are compared to the cent."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted({*expected, *found}):
            place = f"{path}.{key}" if path else str(key)
            if key not in found:
                yield f"{place}: missing"
            elif key not in expected:
                yield f"{place}: not expected"
            else:
                yield from differences(expected[key], found[key], place)
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            yield f"{path}: {len(expected)} entries expected, {len(found)} found"
        for at, (left, right) in enumerate(zip(expected, found, strict=False)):
            yield from differences(left, right, f"{path}[{at}]")
    elif not _same(expected, found):
        yield f"{path}: {expected!r} expected, {found!r} found"


def _same(expected: object, found: object) -> bool:
    if _is_number(expected) and _is_number(found):
        return Decimal(str(expected)).quantize(_CENT) == Decimal(str(found)).quantize(_CENT)
    return type(expected) is type(found) and expected == found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


class _Reader:
    """Runs a query whose one parameter is the user (or the order given) and returns rows as dicts."""

    def __init__(self, connection: psycopg.Connection, user_id: str) -> None:
        self._connection = connection
        self._user_id = user_id

    def __call__(self, query: str, key: str | None = None) -> list[dict[str, Any]]:
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode(), [key or self._user_id]).fetchall()


def _user(rows: _Reader, row: dict[str, Any]) -> Document:
    methods = rows("SELECT id, source, brand, last_four, balance FROM payment_methods WHERE user_id = %s")
    orders = rows("SELECT id FROM orders WHERE user_id = %s ORDER BY position")
    return {
        "name": {"first_name": row["first_name"], "last_name": row["last_name"]},
        "address": {column: row[column] for column in ADDRESS},
        "email": row["email"],
        "payment_methods": {one["id"]: _present(one) for one in methods},
        "orders": [one["id"] for one in orders],
    }


def _order(rows: _Reader, row: dict[str, Any]) -> Document:
    key: str = row["id"]
    requested = ("cancel_reason", "return_payment_method_id", "exchange_payment_method_id")
    document = {
        "order_id": key,
        "user_id": row["user_id"],
        "address": {column: row[column] for column in ADDRESS},
        "items": rows(
            "SELECT name, product_id, item_id, order_items.price, order_items.options FROM order_items"
            " JOIN variants USING (item_id) JOIN products ON products.id = product_id"
            " WHERE order_id = %s ORDER BY position",
            key,
        ),
        "fulfillments": rows(
            "SELECT tracking_ids AS tracking_id, ARRAY(SELECT item_id FROM fulfilment_items AS item"
            " WHERE item.order_id = f.order_id AND fulfilment = f.position"
            " ORDER BY item.position) AS item_ids"
            " FROM fulfilments AS f WHERE order_id = %s ORDER BY position",
            key,
        ),
        "status": row["status"],
        "payment_history": rows(
            "SELECT transaction_type, amount, payment_method_id FROM payments WHERE order_id = %s ORDER BY position",
            key,
        ),
        **_present({column: row[column] for column in (*requested, "exchange_price_difference")}),
    }
    if row["status"] == "return requested":
        returned = rows("SELECT item_id FROM return_items WHERE order_id = %s", key)
        document["return_items"] = sorted(one["item_id"] for one in returned)
    if row["status"] == "exchange requested":
        swapped = rows("SELECT item_id, new_item_id FROM exchange_items WHERE order_id = %s", key)
        document["exchange_items"] = sorted(one["item_id"] for one in swapped)
        document["exchange_new_items"] = sorted(one["new_item_id"] for one in swapped)
    return document


def _present(row: dict[str, Any]) -> Document:
    return {column: value for column, value in row.items() if value is not None}
