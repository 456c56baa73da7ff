"""The retail run's judgement, without a database: documents to the cent, refunds, rows, figures."""

from decimal import Decimal
from pathlib import Path

import pytest

from mcp_server.demo.person import _Form
from tests.retail.changes import Change, Table, changes
from tests.retail.data import Action, DataMissing, Session, Shop, read_sessions, read_shop
from tests.retail.documents import differences
from tests.retail.loader import load
from tests.retail.rules import Payment, held
from tests.retail.run import Report
from tests.retail.session import Outcome

SAMPLE = Path(__file__).parents[1] / "retail" / "sample"


def payment(kind: str, amount: str, method_id: str) -> Payment:
    return Payment(kind=kind, amount=Decimal(amount), method_id=method_id)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (Decimal("12.340000000000032"), Decimal("12.34")),
        (12, Decimal("12.00")),
        ({"a": [1, {"b": "x"}]}, {"a": [Decimal("1.00"), {"b": "x"}]}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_documents_are_equal_to_the_cent_and_in_any_key_order(expected: object, found: object) -> None:
    assert list(differences(expected, found)) == []


@pytest.mark.parametrize(
    ("expected", "found", "where"),
    [
        ({"price": Decimal("12.34")}, {"price": Decimal("12.35")}, "price"),
        ({"items": ["a", "b"]}, {"items": ["b", "a"]}, "items[0]"),
        ({"items": ["a"]}, {"items": ["a", "b"]}, "items: 1 entries"),
        ({"reason": "x"}, {}, "reason: missing"),
        ({}, {"reason": "x"}, "reason: not expected"),
        ({"zip": "01234"}, {"zip": 1234}, "zip"),
        ({"flag": True}, {"flag": 1}, "flag"),
        ({"note": None}, {"note": ""}, "note"),
    ],
)
def test_every_other_difference_is_named_by_its_place(expected: object, found: object, where: str) -> None:
    (sentence, *_) = differences(expected, found)
    assert sentence.startswith(where)


def test_a_payment_that_was_given_back_is_not_held_any_more() -> None:
    moved = [
        payment("payment", "9.25", "gift"),
        payment("payment", "9.25", "card"),
        payment("refund", "9.25", "gift"),
    ]
    assert held(moved) == [moved[1]]


def test_two_equal_payments_with_one_refund_leave_one_held() -> None:
    twice = [payment("payment", "5", "card"), payment("payment", "5", "card"), payment("refund", "5", "card")]
    assert held(twice) == [twice[1]]


def table(**rows: str | None) -> dict[tuple[str, str], Table]:
    one = Table(
        schema="public",
        name="t",
        columns=("id", "v"),
        key=("id",),
        rows={(key,): (key, value) for key, value in rows.items()},
    )
    return {("public", "t"): one}


def test_two_dumps_differ_by_insert_delete_update_and_null_is_not_empty_text() -> None:
    found = set(changes(table(a="1", b="2", c="", d="4"), table(a="1", c=None, d="5", e="6")))
    key = {name: (("id", name),) for name in "bcde"}
    assert found == {
        Change(table="t", kind="delete", key=key["b"], cells=(("id", "b", None), ("v", "2", None))),
        Change(table="t", kind="update", key=key["c"], cells=(("v", "", None),)),
        Change(table="t", kind="update", key=key["d"], cells=(("v", "4", "5"),)),
        Change(table="t", kind="insert", key=key["e"], cells=(("id", None, "e"), ("v", None, "6"))),
    }


def test_only_the_confirm_forms_own_hidden_fields_are_sent() -> None:
    form = _Form("/review/pr_1/confirm")
    form.feed(
        '<form action="/logout"><input type="hidden" name="csrf" value="a"></form>'
        '<form action="/desk/review/pr_1/confirm"><input type="hidden" name="csrf" value="b">'
        '<input type="hidden" name="digest" value="d"><input type="text" name="rows"></form>'
        '<form action="/review/pr_1/reject"><input type="hidden" name="csrf" value="c"></form>'
    )
    assert form.fields == {"csrf": "b", "digest": "d"}


def outcome(ms: float, *, differences: tuple[str, ...] = (), diff_equal: bool | None = True) -> Outcome:
    return Outcome(
        session="s",
        writes=2,
        equal=not differences,
        refusals_equal=True,
        diff_equal=diff_equal,
        differences=differences,
        ms=ms,
    )


def test_the_figures_count_sessions_and_name_every_difference() -> None:
    report = Report(outcomes=(*(outcome(float(ms)) for ms in range(1, 20)), outcome(99, differences=("x",))))
    assert report.to_json() == {
        "sessions": 20,
        "writes": 40,
        "equal": 19,
        "refusals_equal": 20,
        "diff_equal": 20,
        "differences": [{"session": "s", "where": "x"}],
        "p50_ms": 10.5,
        "p95_ms": 19.0,
    }
    assert not report.good


def test_a_run_without_sessions_is_not_good_and_an_unseen_diff_is_not_counted() -> None:
    assert not Report(outcomes=()).good
    assert Report(outcomes=(outcome(1, diff_equal=None),)).to_json()["diff_equal"] is None


def test_absent_data_is_said_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"users\.json is not there"):
        read_shop(tmp_path)
    with pytest.raises(DataMissing, match=r"sessions\.jsonl is not there"):
        list(read_sessions(tmp_path / "sessions.jsonl"))


def test_a_session_is_read_with_exact_money() -> None:
    sessions = {one.id: one for one in read_sessions(SAMPLE / "sessions.jsonl")}
    shortfall = sessions["gift-card-shortfall"]
    assert isinstance(shortfall, Session)
    assert [action.refused for action in shortfall.actions] == [True, True, True, False]
    assert isinstance(shortfall.actions[0], Action)
    assert shortfall.orders["#S1"]["items"][1]["price"] == Decimal("8.50")


def test_documents_that_contradict_each_other_are_not_loaded() -> None:
    shop = read_shop(SAMPLE)
    orphaned = Shop(users={}, orders=shop.orders, products=shop.products)
    with pytest.raises(ValueError, match="who ordered what"):
        load(None, orphaned)  # type: ignore[arg-type]  # refused before the connection is used
