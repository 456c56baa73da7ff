"""The shop's rules in one place: reads orders through an Edit, refuses in words, plans swaps; for tools.py."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from mcp_server.tool import Edit, EditRefused


@dataclass(frozen=True, kw_only=True)
class Line:
    """One ordered item; `options` is jsonb's own text."""

    position: int
    item_id: str
    product_id: str
    price: Decimal
    options: str


@dataclass(frozen=True, kw_only=True)
class Payment:
    """One entry of an order's payment history; `kind` is `payment` or `refund`."""

    kind: str
    amount: Decimal
    method_id: str


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way this user pays; only gift cards have a balance."""

    id: str
    balance: Decimal | None

    def covers(self, amount: Decimal) -> None:
        """Refuses when this is a gift card that holds less than the amount."""
        if self.balance is not None and self.balance < amount:
            raise EditRefused(f"The gift card {self.id} does not cover {amount}. Choose another payment method.")


@dataclass(frozen=True, kw_only=True)
class Order:
    """One order in the state a rule asked for, its items and payments in their order."""

    id: str
    user_id: str
    lines: tuple[Line, ...]
    payments: tuple[Payment, ...]


@dataclass(frozen=True, kw_only=True)
class Swap:
    """What a swap of items comes to: the order's lines afterwards and what the new ones cost more."""

    lines: tuple[Line, ...]
    difference: Decimal


def order_in(edit: Edit, order_id: str, status: str) -> Order:
    """The order, if it is in exactly that status."""
    found = edit.query("SELECT user_id, status FROM orders WHERE id = $1", (order_id,))
    if not found:
        raise EditRefused(f"There is no order {order_id} of this user.")
    if found[0]["status"] != status:
        raise EditRefused(f"Order {order_id} is {found[0]['status']}; this needs an order that is {status}.")
    lines = edit.query(
        "SELECT position, item_id, product_id, order_items.price, order_items.options"
        " FROM order_items JOIN variants USING (item_id) WHERE order_id = $1 ORDER BY position",
        (order_id,),
    )
    payments = edit.query(
        "SELECT transaction_type, amount, payment_method_id FROM payments WHERE order_id = $1 ORDER BY position",
        (order_id,),
    )
    return Order(
        id=order_id,
        user_id=_text(found[0]["user_id"]),
        lines=tuple(_line(row, int(_text(row["position"]))) for row in lines),
        payments=tuple(
            Payment(
                kind=_text(row["transaction_type"]),
                amount=Decimal(_text(row["amount"])),
                method_id=_text(row["payment_method_id"]),
            )
            for row in payments
        ),
    )


def method_of(edit: Edit, user_id: str, method_id: str) -> Method:
    """The payment method, if it is this user's own."""
    found = edit.query("SELECT balance FROM payment_methods WHERE id = $1 AND user_id = $2", (method_id, user_id))
    if not found:
        raise EditRefused(f"{method_id} is not a payment method of this user.")
    balance = found[0]["balance"]
    return Method(id=method_id, balance=None if balance is None else Decimal(balance))


def held(payments: Iterable[Payment]) -> list[Payment]:
    """The payments that no refund has given back yet."""
    refunded = Counter((one.method_id, one.amount) for one in payments if one.kind == "refund")
    kept = []
    for one in payments:
        if one.kind == "payment":
            if refunded[one.method_id, one.amount]:
                refunded[one.method_id, one.amount] -= 1
            else:
                kept.append(one)
    return kept


def ordered(order: Order, item_ids: Sequence[str]) -> None:
    """Refuses items the order does not hold as often as they are named."""
    if not item_ids:
        raise EditRefused("No item was named.")
    missing = Counter(item_ids) - Counter(line.item_id for line in order.lines)
    if missing:
        raise EditRefused(f"Order {order.id} does not hold: {', '.join(sorted(missing.elements()))}.")


def swap(edit: Edit, order: Order, item_ids: Sequence[str], new_item_ids: Sequence[str]) -> Swap:
    """Plans each item's exchange for the new one at its place: an available variant of the same product.

    A repeated item is taken from the first line that holds it at that moment, as the shop's own system does.
    """
    ordered(order, item_ids)
    if len(item_ids) != len(new_item_ids):
        raise EditRefused(f"{len(item_ids)} items cannot be swapped for {len(new_item_ids)}.")
    lines = list(order.lines)
    difference = Decimal(0)
    for item_id, new_item_id in zip(item_ids, new_item_ids, strict=True):
        before = next(line for line in order.lines if line.item_id == item_id)
        after = _available(edit, before.product_id, new_item_id)
        difference += after.price - before.price
        at = next(place for place, line in enumerate(lines) if line.item_id == item_id)
        lines[at] = replace(after, position=lines[at].position)
    return Swap(lines=tuple(lines), difference=difference)


def _available(edit: Edit, product_id: str, item_id: str) -> Line:
    found = edit.query(
        "SELECT item_id, product_id, price, options FROM variants WHERE item_id = $1 AND product_id = $2 AND available",
        (item_id, product_id),
    )
    if not found:
        raise EditRefused(f"{item_id} is not an available variant of product {product_id}.")
    return _line(found[0], 0)


def _line(row: dict[str, str | None], position: int) -> Line:
    return Line(
        position=position,
        item_id=_text(row["item_id"]),
        product_id=_text(row["product_id"]),
        price=Decimal(_text(row["price"])),
        options=_text(row["options"]),
    )


def _text(value: str | None) -> str:
    """A cell of a NOT NULL column."""
    if value is None:
        raise ValueError("a column that is NOT NULL came back as NULL")
    return value
