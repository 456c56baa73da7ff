"""A domain tool that reads masked columns and gives them back, as a careless author would; for the tests of masking."""

from typing import Any

from mcp_server.tool import Edit, EditRefused, tool


@tool(
    name="read_terms",
    requires_permission="contracts.read_terms",
    description="The terms of a contract and who signs it.",
    tenant_from="contracts.id:contract_id",
)
def read_terms(contract_id: str, reason: str, edit: Edit, refuse: bool = False) -> dict[str, Any]:
    found = edit.query(
        "SELECT c.terms, s.email FROM contracts c JOIN signatories s ON s.id = c.signatory_id WHERE c.id = $1",
        (contract_id,),
    )
    if refuse:
        raise EditRefused(f"{found[0]['email']} may not sign.")
    return dict(found[0])
