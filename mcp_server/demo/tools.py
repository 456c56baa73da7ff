"""The demo's three domain tools, as that business' engineer would write them; the TOML names this module.

Each checks its rules first, so a refusal means that nothing ran; writes go to the dry run's shadow only.
"""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, Field

from mcp_server.tool import Edit, EditRefused, tool

#: Keys of the business are whole numbers; as text they pass every client unharmed.
Id = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,17}$")]


class SignatoryChange(BaseModel):
    """Who signed before and who is recorded now."""

    contract_id: str
    old_signatory_id: str
    new_signatory_id: str
    office: str


class LineItemChange(BaseModel):
    """The line's amount before and now, and the contract's total that the business' trigger made of it."""

    line_item_id: str
    old_amount: Decimal
    new_amount: Decimal
    contract_total: Decimal


class ContractMove(BaseModel):
    """From which account to which, and how many invoices followed."""

    contract_id: str
    old_account_id: str
    new_account_id: str
    invoices_moved: int


@tool(
    name="correct_signatory_on_contract",
    requires_permission="contracts.edit_signatory",
    description="Reassign the signatory on a contract; only to one of its own account. Always dry-run first.",
    tenant_from="contracts.id:contract_id",
)
def correct_signatory_on_contract(contract_id: Id, new_signatory_id: Id, reason: str, edit: Edit) -> SignatoryChange:
    contract = _contract(edit, contract_id)
    offered = edit.query("SELECT account_id, office FROM signatories WHERE id = $1", (new_signatory_id,))
    if not offered or offered[0]["account_id"] != contract["account_id"]:
        raise EditRefused(f"Signatory {new_signatory_id} may not sign for account {contract['account_id']}.")
    if contract["signatory_id"] == new_signatory_id:
        raise EditRefused(f"Contract {contract_id} already carries signatory {new_signatory_id}.")
    edit.run("UPDATE contracts SET signatory_id = $1 WHERE id = $2", (new_signatory_id, contract_id), reason=reason)
    return SignatoryChange(
        contract_id=contract_id,
        old_signatory_id=str(contract["signatory_id"]),
        new_signatory_id=new_signatory_id,
        office=str(offered[0]["office"]),
    )


@tool(
    name="adjust_line_item",
    requires_permission="contracts.adjust_line",
    description="Set a line item's quantity, unit price or both; the contract's total follows by itself.",
    tenant_from="contracts.id:contract_id",
)
def adjust_line_item(
    contract_id: Id,
    line_item_id: Id,
    reason: str,
    edit: Edit,
    qty: Annotated[Decimal | None, Field(ge=0)] = None,
    unit_price: Decimal | None = None,
) -> LineItemChange:
    if qty is None and unit_price is None:
        raise EditRefused("Neither a quantity nor a unit price was given.")
    before = _line(edit, contract_id, line_item_id)
    edit.run(
        "UPDATE line_items SET qty = $1, unit_price = $2 WHERE id = $3 AND contract_id = $4",
        (
            before["qty"] if qty is None else str(qty),
            before["unit_price"] if unit_price is None else str(unit_price),
            line_item_id,
            contract_id,
        ),
        reason=reason,
    )
    return LineItemChange(
        line_item_id=line_item_id,
        old_amount=Decimal(str(before["amount"])),
        new_amount=Decimal(str(_line(edit, contract_id, line_item_id)["amount"])),
        contract_total=Decimal(str(_contract(edit, contract_id)["total"])),
    )


@tool(
    name="reparent_contract",
    requires_permission="contracts.reparent",
    description="Move a contract and its invoices to another account of the same tenant.",
    tenant_from="contracts.id:contract_id",
)
def reparent_contract(contract_id: Id, new_account_id: Id, reason: str, edit: Edit) -> ContractMove:
    contract = _contract(edit, contract_id)
    if not edit.query("SELECT id FROM accounts WHERE id = $1", (new_account_id,)):
        raise EditRefused(f"This tenant has no account {new_account_id}.")
    if contract["account_id"] == new_account_id:
        raise EditRefused(f"Contract {contract_id} already belongs to account {new_account_id}.")
    invoices = edit.query("SELECT id FROM invoices WHERE contract_id = $1", (contract_id,))
    edit.run("UPDATE contracts SET account_id = $1 WHERE id = $2", (new_account_id, contract_id), reason=reason)
    if invoices:
        edit.run(
            "UPDATE invoices SET account_id = $1 WHERE contract_id = $2",
            (new_account_id, contract_id),
            reason="invoices follow their contract",
        )
    return ContractMove(
        contract_id=contract_id,
        old_account_id=str(contract["account_id"]),
        new_account_id=new_account_id,
        invoices_moved=len(invoices),
    )


def _contract(edit: Edit, contract_id: str) -> dict[str, str | None]:
    found = edit.query("SELECT account_id, signatory_id, total FROM contracts WHERE id = $1", (contract_id,))
    if not found:
        raise EditRefused(f"This tenant has no contract {contract_id}.")
    return found[0]


def _line(edit: Edit, contract_id: str, line_item_id: str) -> dict[str, str | None]:
    found = edit.query(
        "SELECT qty, unit_price, qty * unit_price AS amount FROM line_items WHERE id = $1 AND contract_id = $2",
        (line_item_id, contract_id),
    )
    if not found:
        raise EditRefused(f"Contract {contract_id} has no line item {line_item_id}.")
    return found[0]
