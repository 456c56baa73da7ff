"""Turns the shop's documents into rows and copies them into an empty database; called by the runner."""

import json
from collections.abc import Iterator
from importlib.resources import files

import psycopg
from psycopg import sql

from tests.retail.data import Document, Shop

Row = tuple[object, ...]
ADDRESS = ("address1", "address2", "city", "country", "state", "zip")

#: Every table with its columns, parents before children.
TABLES: dict[str, tuple[str, ...]] = {
    "users": ("id", "first_name", "last_name", "email", *ADDRESS),
    "payment_methods": ("id", "user_id", "source", "brand", "last_four", "balance"),
    "products": ("id", "name"),
    "variants": ("item_id", "product_id", "available", "price", "options"),
    "orders": (
        "id", "user_id", "position", "status", *ADDRESS, "cancel_reason", "return_payment_method_id",
        "exchange_payment_method_id", "exchange_price_difference",
    ),
    "order_items": ("order_id", "position", "item_id", "price", "options"),
    "payments": ("order_id", "position", "transaction_type", "amount", "payment_method_id"),
    "fulfilments": ("order_id", "position", "tracking_ids"),
    "fulfilment_items": ("order_id", "fulfilment", "position", "item_id"),
    "return_items": ("order_id", "position", "item_id"),
    "exchange_items": ("order_id", "position", "item_id", "new_item_id"),
}  # fmt: skip


def schema() -> str:
    """The shop's CREATE statements."""
    return files("tests.retail").joinpath("schema.sql").read_text(encoding="utf-8")


def load(connection: psycopg.Connection, shop: Shop) -> None:
    """Fills the empty tables in one transaction. Raises ValueError where documents contradict each other."""
    _check(shop)
    rows: dict[str, list[Row]] = {table: [] for table in TABLES}
    for table, row in _rows(shop):
        rows[table].append(row)
    with connection.transaction(), connection.cursor() as cursor:
        for table, columns in TABLES.items():
            statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
            )
            with cursor.copy(statement) as copy:
                for row in rows[table]:
                    copy.write_row(row)


def _check(shop: Shop) -> None:
    """What the rows do not store twice must agree in the documents, or they could not be rebuilt."""
    owners = {order: user for user, document in shop.users.items() for order in document["orders"]}
    if {order: document["user_id"] for order, document in shop.orders.items()} != owners:
        raise ValueError("users and orders disagree about who ordered what")
    names = {
        item: (product["product_id"], product["name"])
        for product in shop.products.values()
        for item in product["variants"]
    }
    for order in shop.orders.values():
        for item in order["items"]:
            if names.get(item["item_id"]) != (item["product_id"], item["name"]):
                raise ValueError(f"order {order['order_id']} holds an item that is no variant of its product")


def _rows(shop: Shop) -> Iterator[tuple[str, Row]]:
    for user_id, user in shop.users.items():
        yield from _user(user_id, user, shop)
    for product in shop.products.values():
        yield "products", (product["product_id"], product["name"])
        for one in product["variants"].values():
            price, options = one["price"], json.dumps(one["options"])
            yield "variants", (one["item_id"], product["product_id"], one["available"], price, options)


def _user(user_id: str, user: Document, shop: Shop) -> Iterator[tuple[str, Row]]:
    name = user["name"]
    yield "users", (user_id, name["first_name"], name["last_name"], user["email"], *_address(user))
    for one in user["payment_methods"].values():
        card = (one.get("brand"), one.get("last_four"), one.get("balance"))
        yield "payment_methods", (one["id"], user_id, one["source"], *card)
    for position, order_id in enumerate(user["orders"]):
        yield from _order(position, shop.orders[order_id])


def _order(position: int, order: Document) -> Iterator[tuple[str, Row]]:
    key: str = order["order_id"]
    yield "orders", (
        key, order["user_id"], position, order["status"], *_address(order), order.get("cancel_reason"),
        order.get("return_payment_method_id"), order.get("exchange_payment_method_id"),
        order.get("exchange_price_difference"),
    )  # fmt: skip
    for at, item in enumerate(order["items"]):
        yield "order_items", (key, at, item["item_id"], item["price"], json.dumps(item["options"]))
    for at, one in enumerate(order["payment_history"]):
        yield "payments", (key, at, one["transaction_type"], one["amount"], one["payment_method_id"])
    for at, one in enumerate(order["fulfillments"]):
        yield "fulfilments", (key, at, one["tracking_id"])
        for within, item_id in enumerate(one["item_ids"]):
            yield "fulfilment_items", (key, at, within, item_id)
    for at, item_id in enumerate(order.get("return_items", ())):
        yield "return_items", (key, at, item_id)
    pairs = zip(order.get("exchange_items", ()), order.get("exchange_new_items", ()), strict=True)
    for at, (item_id, new_item_id) in enumerate(pairs):
        yield "exchange_items", (key, at, item_id, new_item_id)


def _address(document: Document) -> tuple[str, ...]:
    return tuple(document["address"][column] for column in ADDRESS)
