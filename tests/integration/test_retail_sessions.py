"""The shop's tools, loader and measurement on a plain database: our own sessions, the public shop if it is there."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from mcp_server.tool import EditRefused
from tests.postgres import MakeDatabase
from tests.retail import tools
from tests.retail.changes import changes, dump, put_back
from tests.retail.data import PUBLIC_DATA, Session, Shop, read_sessions, read_shop
from tests.retail.direct import DirectDriver, DirectEdit, act
from tests.retail.documents import differences, documents_of
from tests.retail.loader import TABLES, load, schema
from tests.retail.run import run

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "retail" / "sample"
SESSIONS = {session.id: session for session in read_sessions(SAMPLE / "sessions.jsonl")}


@pytest.fixture
def shop() -> Shop:
    return read_shop(SAMPLE)


@pytest.fixture
def connection(database: MakeDatabase, shop: Shop) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database(schema()), autocommit=True) as connection:
        load(connection, shop)
        yield connection


@pytest.mark.parametrize("session", SESSIONS.values(), ids=SESSIONS)
def test_a_session_ends_in_the_expected_documents(session: Session, connection: psycopg.Connection, shop: Shop) -> None:
    report = run([session], shop, connection, DirectDriver(connection))
    assert report.to_json()["differences"] == []
    assert report.good


def test_all_sessions_in_one_run_start_from_the_same_shop(connection: psycopg.Connection, shop: Shop) -> None:
    figures = run(SESSIONS.values(), shop, connection, DirectDriver(connection)).to_json()
    counted = {name: figures[name] for name in ("sessions", "equal", "refusals_equal", "differences")}
    assert counted == {"sessions": 16, "equal": 16, "refusals_equal": 16, "differences": []}


def test_a_wrong_expectation_is_found(connection: psycopg.Connection, shop: Shop) -> None:
    session = SESSIONS["gift-card-shortfall"]
    cent_off = {
        **session.orders["#S1"],
        "payment_history": [dict(one) for one in session.orders["#S1"]["payment_history"]],
    }
    cent_off["payment_history"][-1]["amount"] = Decimal("15.01")
    not_refused = (*session.actions[:-1], replace(session.actions[-1], refused=True))
    wrong = replace(session, orders={"#S1": cent_off}, actions=not_refused)
    found = run([wrong], shop, connection, DirectDriver(connection)).to_json()
    assert (found["equal"], found["refusals_equal"]) == (0, 0)
    assert found["differences"] == [
        {"session": session.id, "where": "orders.#S1.payment_history[1].amount: "
         "Decimal('15.01') expected, Decimal('15.00') found"},
        {"session": session.id, "where": "action 4, modify_pending_order_items: a refusal was expected"},
    ]  # fmt: skip


def test_a_change_no_session_expected_is_found_in_the_users_other_documents(
    connection: psycopg.Connection, shop: Shop
) -> None:
    class Careless(DirectDriver):
        def confirm(self) -> None:
            connection.execute("UPDATE orders SET city = 'Elsewhere' WHERE id = '#S3'")

    report = run([SESSIONS["wrong-state"]], shop, connection, Careless(connection))
    (where,) = report.outcomes[0].differences
    assert where.startswith("orders.#S3.address.city: ")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cancel_pending_order", {"order_id": "#S2", "reason": "no longer needed"}),
        ("modify_pending_order_payment", {"order_id": "#S1", "payment_method_id": "gift_card_1"}),
        (
            "modify_pending_order_items",
            {
                "order_id": "#S1",
                "item_ids": ["mug_blue", "lamp_small"],
                "new_item_ids": ["mug_red", "lamp_old"],
                "payment_method_id": "credit_card_1",
            },
        ),
        (
            "return_delivered_order_items",
            {"order_id": "#S2", "item_ids": ["mug_red"], "payment_method_id": "credit_card_1"},
        ),
        ("modify_user_address", dict.fromkeys(("address1", "address2", "city", "country", "state", "zip"), "x")
         | {"user_id": "nobody"}),
    ],
)  # fmt: skip
def test_a_refusal_comes_before_any_statement(
    name: str, arguments: dict[str, object], connection: psycopg.Connection
) -> None:
    edit = DirectEdit(connection)
    with pytest.raises(EditRefused):
        act(edit, getattr(tools, name), arguments)
    assert edit.statements == []


def test_the_documents_come_back_from_the_rows_as_they_were_loaded(connection: psycopg.Connection, shop: Shop) -> None:
    for user_id, user in shop.users.items():
        found = documents_of(connection, user_id)
        assert list(differences({user_id: user}, found.users)) == []
        assert list(differences({key: shop.orders[key] for key in user["orders"]}, found.orders)) == []


def test_put_back_undoes_inserts_updates_and_deletes_in_the_order_of_the_keys(
    connection: psycopg.Connection,
) -> None:
    before = dump(connection)
    connection.execute("INSERT INTO users SELECT 'new', 'N', 'N', 'n@example.com', '', '', '', '', '', ''")
    connection.execute("UPDATE payment_methods SET user_id = 'new', balance = 7 WHERE id = 'gift_card_2'")
    connection.execute("DELETE FROM fulfilment_items")
    connection.execute("DELETE FROM fulfilments")
    after = dump(connection)
    assert {(one.table, one.kind) for one in changes(before, after)} == {
        ("users", "insert"), ("payment_methods", "update"), ("fulfilment_items", "delete"), ("fulfilments", "delete"),
    }  # fmt: skip
    put_back(connection, before, after, list(TABLES))
    assert list(changes(before, dump(connection))) == []


def test_the_run_says_loudly_that_the_data_is_absent(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.retail", "run", "--data", str(tmp_path), "--direct"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("NOT RUN: ")


@pytest.mark.skipif(not PUBLIC_DATA.is_dir(), reason=f"PUBLIC DATA ABSENT: {PUBLIC_DATA}")
def test_the_public_shop_loads_and_every_document_comes_back(database: MakeDatabase) -> None:
    public = read_shop(PUBLIC_DATA)
    with psycopg.connect(database(schema()), autocommit=True) as connection:
        load(connection, public)
        for user_id, user in public.users.items():
            found = documents_of(connection, user_id)
            assert list(differences({user_id: user}, found.users)) == []
            assert list(differences({key: public.orders[key] for key in user["orders"]}, found.orders)) == []
