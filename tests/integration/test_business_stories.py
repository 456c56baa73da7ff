"""The demo's business on a plain database: its stories are there, its triggers keep what they should."""

from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest

from mcp_server.demo.business import STORIES, business_sql
from mcp_server.demo.tools import adjust_line_item, correct_signatory_on_contract, reparent_contract
from mcp_server.tool import EditRefused
from tests.postgres import MakeDatabase
from tests.retail.changes import Dump, changes, dump
from tests.retail.direct import DirectEdit, act

A, B, X = STORIES.wrong_signatory, STORIES.wrong_entity, STORIES.looks_wrong
BILLING = (
    "SELECT sum(qty * unit_price) FROM line_items JOIN contracts ON contracts.id = contract_id WHERE tenant_id = %s"
)


@pytest.fixture
def connection(database: MakeDatabase) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database(business_sql()), autocommit=True) as connection:
        yield connection


def one(connection: psycopg.Connection, query: str, *params: object) -> tuple[object, ...]:
    row = connection.execute(query.encode(), params).fetchone()
    assert row is not None
    return tuple(row)


def touched(before: Dump, after: Dump) -> dict[str, int]:
    """Changed rows by table and kind, the touch of updated_at included."""
    counted: dict[str, int] = {}
    for change in changes(before, after):
        counted[f"{change.table} {change.kind}"] = counted.get(f"{change.table} {change.kind}", 0) + 1
    return counted


def test_about_twenty_thousand_rows_in_three_tenants_the_same_on_every_load(database: MakeDatabase) -> None:
    with (
        psycopg.connect(database(business_sql())) as first,
        psycopg.connect(database(business_sql())) as second,
    ):
        left, right = dump(first), dump(second)
    assert 19_000 <= sum(len(table.rows) for table in left.values()) <= 21_000
    assert len(left["public", "tenants"].rows) == 3
    assert list(changes(left, right)) == []


def test_kept_totals_are_right_from_the_start(connection: psycopg.Connection) -> None:
    wrong = one(
        connection,
        "SELECT (SELECT count(*) FROM contracts AS c WHERE total IS DISTINCT FROM"
        "          (SELECT sum(qty * unit_price) FROM line_items WHERE contract_id = c.id)),"
        "       (SELECT count(*) FROM accounts AS a WHERE contracted_total IS DISTINCT FROM"
        "          (SELECT sum(total) FROM contracts WHERE account_id = a.id)),"
        "       (SELECT count(*) FROM invoices WHERE total IS DISTINCT FROM"
        "          (SELECT sum((line ->> 'amount')::numeric) FROM jsonb_array_elements(lines) AS line)),"
        "       (SELECT count(*) FROM invoices JOIN contracts AS c ON c.id = contract_id"
        "         WHERE invoices.account_id <> c.account_id)",
    )
    assert wrong == (0, 0, 0, 0)


def test_the_wrong_signatory_belongs_to_another_account_of_the_same_tenant(
    connection: psycopg.Connection,
) -> None:
    contract = one(connection, "SELECT id, tenant_id, account_id, signatory_id FROM contracts WHERE code = %s", A.code)
    assert contract == (A.contract_id, STORIES.tenant_id, A.account_id, A.wrong_signatory_id)
    signatory = "SELECT tenant_id, account_id = %s FROM signatories WHERE id = %s"
    assert one(connection, signatory, A.account_id, A.wrong_signatory_id) == (STORIES.tenant_id, False)
    assert one(connection, signatory, A.account_id, A.right_signatory_id) == (STORIES.tenant_id, True)


def test_the_contract_of_the_wrong_entity_has_exactly_three_downstream_records(
    connection: psycopg.Connection,
) -> None:
    contract = one(connection, "SELECT id, account_id, signatory_id FROM contracts WHERE code = %s", B.code)
    assert contract == (B.contract_id, B.wrong_account_id, B.signatory_id)
    assert one(connection, "SELECT account_id FROM signatories WHERE id = %s", B.signatory_id) == (B.right_account_id,)
    invoices = one(connection, "SELECT array_agg(id ORDER BY id) FROM invoices WHERE contract_id = %s", B.contract_id)
    assert invoices == (list(B.invoice_ids),)
    assert len(B.invoice_ids) == 3
    tenants = one(
        connection,
        "SELECT array_agg(DISTINCT tenant_id) FROM accounts WHERE id IN (%s, %s)",
        B.wrong_account_id,
        B.right_account_id,
    )
    assert tenants == ([STORIES.tenant_id],)


def test_the_tempting_fix_costs_exactly_48000_and_the_terms_say_why_it_is_wrong(
    connection: psycopg.Connection,
) -> None:
    contract = "SELECT id, total, terms -> 'volume_discount' ->> 'percent' FROM contracts WHERE code = %s"
    assert one(connection, contract, X.code) == (X.contract_id, X.total, "10")
    assert "on purpose" in str(one(connection, "SELECT terms ->> 'note' FROM contracts WHERE id = %s", X.contract_id))
    billing = [one(connection, BILLING, STORIES.tenant_id)[0]]
    for line_id in X.tempting_line_ids:
        arguments = {
            "contract_id": str(X.contract_id), "line_item_id": str(line_id), "qty": 0, "reason": "double entry",
        }  # fmt: skip
        act(DirectEdit(connection), adjust_line_item, arguments)
        billing.append(one(connection, BILLING, STORIES.tenant_id)[0])
    first, second, third = (Decimal(str(amount)) for amount in billing)
    assert (second - first, third - second) == X.step_deltas
    assert third - first == X.delta == Decimal("-48000.00")


def test_every_tenant_has_contracts_coded_like_those_of_the_stories(connection: psycopg.Connection) -> None:
    for code in (A.code, B.code, X.code):
        like = one(connection, "SELECT count(DISTINCT tenant_id) FROM contracts WHERE code LIKE %s", code[:-1] + "%")
        assert like == (3,)


def test_correcting_the_signatory_changes_one_contract_and_its_history(
    connection: psycopg.Connection,
) -> None:
    before = dump(connection)
    result = act(
        DirectEdit(connection),
        correct_signatory_on_contract,
        {
            "contract_id": str(A.contract_id),
            "new_signatory_id": str(A.right_signatory_id),
            "reason": "signed by CFO",
        },
    )
    assert (result.old_signatory_id, result.office) == (str(A.wrong_signatory_id), "Chief financial officer")
    assert touched(before, dump(connection)) == {"contracts update": 1, "contract_history insert": 1}
    who = one(connection, "SELECT who = session_user, event FROM contract_history ORDER BY id DESC LIMIT 1")
    assert who == (True, "changed")


def test_reparenting_takes_the_three_invoices_along_and_moves_both_accounts_totals(
    connection: psycopg.Connection,
) -> None:
    before = dump(connection)
    arguments = {
        "contract_id": str(B.contract_id), "new_account_id": str(B.right_account_id), "reason": "wrong entity",
    }  # fmt: skip
    assert act(DirectEdit(connection), reparent_contract, arguments).invoices_moved == 3
    assert touched(before, dump(connection)) == {
        "contracts update": 1, "invoices update": 3, "accounts update": 2, "contract_history insert": 1,
    }  # fmt: skip
    test_kept_totals_are_right_from_the_start(connection)


def test_adjusting_a_line_carries_the_contracts_and_the_accounts_total_along(
    connection: psycopg.Connection,
) -> None:
    before = dump(connection)
    arguments = {
        "contract_id": str(X.contract_id), "line_item_id": str(X.line_ids[0]), "unit_price": "5100.00", "reason": "r",
    }  # fmt: skip
    result = act(DirectEdit(connection), adjust_line_item, arguments)
    assert (result.old_amount, result.new_amount) == (Decimal(60000), Decimal(61200))
    assert result.contract_total == X.total + 1200
    assert touched(before, dump(connection)) == {
        "line_items update": 1, "contracts update": 1, "accounts update": 1, "contract_history insert": 1,
    }  # fmt: skip


def test_deleting_a_contract_takes_its_lines_along_and_history_stays(connection: psycopg.Connection) -> None:
    connection.execute("DELETE FROM invoices WHERE contract_id = %s", [X.contract_id])
    before = dump(connection)
    connection.execute("DELETE FROM contracts WHERE id = %s", [X.contract_id])
    assert touched(before, dump(connection)) == {
        "contracts delete": 1, "line_items delete": 3, "accounts update": 1, "contract_history insert": 1,
    }  # fmt: skip
    test_kept_totals_are_right_from_the_start(connection)


def test_an_invoices_total_follows_its_lines(connection: psycopg.Connection) -> None:
    connection.execute("""UPDATE invoices SET lines = lines || '[{"text": "Credit", "amount": -10.50}]' WHERE id = 1""")
    assert one(connection, "SELECT updated_at > '2025-01-03 09:00+00' FROM invoices WHERE id = 1") == (True,)
    test_kept_totals_are_right_from_the_start(connection)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        (correct_signatory_on_contract, {"contract_id": "999999", "new_signatory_id": "19"}),
        (correct_signatory_on_contract, {"contract_id": "19", "new_signatory_id": "154"}),
        (correct_signatory_on_contract, {"contract_id": "22", "new_signatory_id": "22"}),
        (correct_signatory_on_contract, {"contract_id": "19", "new_signatory_id": "999999"}),
        (adjust_line_item, {"contract_id": "19", "line_item_id": "11962", "qty": "1"}),
        (adjust_line_item, {"contract_id": "358", "line_item_id": "11962"}),
        (reparent_contract, {"contract_id": "154", "new_account_id": "34"}),
        (reparent_contract, {"contract_id": "154", "new_account_id": "999999"}),
    ],
)
def test_a_refusal_comes_before_any_statement(
    tool: object, arguments: dict[str, str], connection: psycopg.Connection
) -> None:
    edit = DirectEdit(connection)
    with pytest.raises(EditRefused):
        act(edit, tool, {**arguments, "reason": "r"})
    assert edit.statements == []
