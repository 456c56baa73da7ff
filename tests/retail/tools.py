"""The shop's seven support actions as domain tools: the worked example of authoring tools for ShadowDesk.

Each tool first checks every rule (an `EditRefused` means that nothing ran), then runs its statements on the
dry run's shadow. Nothing here can reach production.
"""

from decimal import Decimal
from typing import Literal

from pydantic import BaseModel

from mcp_server.tool import Edit, EditRefused, tool
from tests.retail.rules import Method, Order, Payment, held, method_of, order_in, ordered, swap


class OrderChange(BaseModel):
    """An order after the edit; `charged` is what the customer pays now, negative when they get money back."""

    order_id: str
    status: str
    charged: Decimal = Decimal(0)


class AddressChange(BaseModel):
    """Whose address was changed."""

    user_id: str


@tool(
    name="cancel_pending_order",
    requires_permission="orders.cancel",
    description="Cancel a pending order and refund every payment; gift cards get the money at once.",
    tenant_from="orders.id:order_id",
)
def cancel_pending_order(
    order_id: str, reason: Literal["no longer needed", "ordered by mistake"], edit: Edit
) -> OrderChange:
    order = order_in(edit, order_id, "pending")
    refunds = [Payment(kind="refund", amount=one.amount, method_id=one.method_id) for one in held(order.payments)]
    methods = [method_of(edit, order.user_id, one.method_id) for one in refunds]
    edit.run(
        "UPDATE orders SET status = 'cancelled', cancel_reason = $1 WHERE id = $2",
        (reason, order_id),
        reason=f"cancelled: {reason}",
    )
    _settle(edit, order, refunds, methods)
    return OrderChange(order_id=order_id, status="cancelled", charged=-sum((one.amount for one in refunds), Decimal(0)))


@tool(
    name="modify_pending_order_address",
    requires_permission="orders.modify",
    description="Change where a pending order is delivered to.",
    tenant_from="orders.id:order_id",
)
def modify_pending_order_address(
    order_id: str, address1: str, address2: str, city: str, country: str, state: str, zip: str, edit: Edit
) -> OrderChange:
    order_in(edit, order_id, "pending")
    edit.run(
        "UPDATE orders SET address1 = $1, address2 = $2, city = $3, country = $4, state = $5, zip = $6 WHERE id = $7",
        (address1, address2, city, country, state, zip, order_id),
        reason="new delivery address",
    )
    return OrderChange(order_id=order_id, status="pending")


@tool(
    name="modify_pending_order_payment",
    requires_permission="orders.modify",
    description="Move a pending order's only payment to another payment method of the same user.",
    tenant_from="orders.id:order_id",
)
def modify_pending_order_payment(order_id: str, payment_method_id: str, edit: Edit) -> OrderChange:
    order = order_in(edit, order_id, "pending")
    method = method_of(edit, order.user_id, payment_method_id)
    if [one.kind for one in order.payments] != ["payment"]:
        raise EditRefused(f"Order {order_id} has more than one entry in its payment history.")
    (paid,) = order.payments
    if paid.method_id == method.id:
        raise EditRefused(f"Order {order_id} is already paid with {method.id}.")
    method.covers(paid.amount)
    entries = [
        Payment(kind="payment", amount=paid.amount, method_id=method.id),
        Payment(kind="refund", amount=paid.amount, method_id=paid.method_id),
    ]
    _settle(edit, order, entries, [method, method_of(edit, order.user_id, paid.method_id)])
    return OrderChange(order_id=order_id, status="pending")


@tool(
    name="modify_pending_order_items",
    requires_permission="orders.modify",
    description="Swap items of a pending order for available variants of the same products. Possible once.",
    tenant_from="orders.id:order_id",
)
def modify_pending_order_items(
    order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str, edit: Edit
) -> OrderChange:
    order = order_in(edit, order_id, "pending")
    planned = swap(edit, order, item_ids, new_item_ids)
    method = method_of(edit, order.user_id, payment_method_id)
    method.covers(planned.difference)
    for before, after in zip(order.lines, planned.lines, strict=True):
        if before != after:
            edit.run(
                "UPDATE order_items SET item_id = $1, price = $2, options = $3 WHERE order_id = $4 AND position = $5",
                (after.item_id, str(after.price), after.options, order_id, str(after.position)),
                reason=f"{before.item_id} swapped for {after.item_id}",
            )
    kind = "payment" if planned.difference > 0 else "refund"
    _settle(edit, order, [Payment(kind=kind, amount=abs(planned.difference), method_id=method.id)], [method])
    status = "pending (item modified)"
    edit.run(
        "UPDATE orders SET status = $1 WHERE id = $2",
        (status, order_id),
        reason="items are swapped only once",
    )
    return OrderChange(order_id=order_id, status=status, charged=planned.difference)


@tool(
    name="return_delivered_order_items",
    requires_permission="orders.return",
    description="Request the return of delivered items; money goes to the method that paid or a gift card.",
    tenant_from="orders.id:order_id",
)
def return_delivered_order_items(order_id: str, item_ids: list[str], payment_method_id: str, edit: Edit) -> OrderChange:
    order = order_in(edit, order_id, "delivered")
    ordered(order, item_ids)
    method = method_of(edit, order.user_id, payment_method_id)
    if method.balance is None and method.id != order.payments[0].method_id:
        raise EditRefused("A return is refunded to the original payment method or to a gift card.")
    edit.run(
        "UPDATE orders SET status = 'return requested', return_payment_method_id = $1 WHERE id = $2",
        (method.id, order_id),
        reason="return requested",
    )
    for position, item_id in enumerate(item_ids):
        edit.run(
            "INSERT INTO return_items (order_id, position, item_id) VALUES ($1, $2, $3)",
            (order_id, str(position), item_id),
            reason=f"{item_id} comes back",
        )
    return OrderChange(order_id=order_id, status="return requested")


@tool(
    name="exchange_delivered_order_items",
    requires_permission="orders.exchange",
    description="Request the exchange of delivered items for available variants of the same products.",
    tenant_from="orders.id:order_id",
)
def exchange_delivered_order_items(
    order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str, edit: Edit
) -> OrderChange:
    order = order_in(edit, order_id, "delivered")
    planned = swap(edit, order, item_ids, new_item_ids)
    method = method_of(edit, order.user_id, payment_method_id)
    method.covers(planned.difference)
    edit.run(
        "UPDATE orders SET status = 'exchange requested', exchange_payment_method_id = $1,"
        " exchange_price_difference = $2 WHERE id = $3",
        (method.id, str(planned.difference), order_id),
        reason="exchange requested; nothing is charged before the items are back",
    )
    for position, (item_id, new_item_id) in enumerate(zip(item_ids, new_item_ids, strict=True)):
        edit.run(
            "INSERT INTO exchange_items (order_id, position, item_id, new_item_id) VALUES ($1, $2, $3, $4)",
            (order_id, str(position), item_id, new_item_id),
            reason=f"{item_id} for {new_item_id}",
        )
    return OrderChange(order_id=order_id, status="exchange requested")


@tool(
    name="modify_user_address",
    requires_permission="users.modify",
    description="Change a user's default address; orders already made keep theirs.",
    tenant_from="users.id:user_id",
)
def modify_user_address(
    user_id: str, address1: str, address2: str, city: str, country: str, state: str, zip: str, edit: Edit
) -> AddressChange:
    if not edit.query("SELECT id FROM users WHERE id = $1", (user_id,)):
        raise EditRefused(f"There is no user {user_id} here.")
    edit.run(
        "UPDATE users SET address1 = $1, address2 = $2, city = $3, country = $4, state = $5, zip = $6 WHERE id = $7",
        (address1, address2, city, country, state, zip, user_id),
        reason="new default address",
    )
    return AddressChange(user_id=user_id)


def _settle(edit: Edit, order: Order, entries: list[Payment], methods: list[Method]) -> None:
    """Appends the entries to the order's payment history; gift cards among their methods move at once."""
    for position, (entry, method) in enumerate(zip(entries, methods, strict=True), start=len(order.payments)):
        edit.run(
            "INSERT INTO payments (order_id, position, transaction_type, amount, payment_method_id)"
            " VALUES ($1, $2, $3, $4, $5)",
            (order.id, str(position), entry.kind, str(entry.amount), method.id),
            reason=f"{entry.kind} of {entry.amount}",
        )
        if method.balance is not None and entry.amount:
            moved = -entry.amount if entry.kind == "payment" else entry.amount
            edit.run(
                "UPDATE payment_methods SET balance = balance + $1 WHERE id = $2",
                (str(moved), method.id),
                reason=f"the gift card's {entry.kind}",
            )
