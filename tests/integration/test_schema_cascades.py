"""Foreign keys that act, and partitioned tables: what production does is what the shadow showed."""

import pytest

from mcp_server.errors import WrongState
from shadow.errors import StatementFailed, StatementRefused
from tests.fixes import REP
from tests.schemas.whole import WholeWay, schema


def test_every_action_of_a_foreign_key(whole_way: WholeWay) -> None:
    way = whole_way(schema("cascades", "actions"))
    applied = way.applied(
        "DELETE FROM parents WHERE id = 4",
        "UPDATE parents SET code = code || '-new' WHERE id IN (6, 8)",
        "DELETE FROM by_cascade WHERE id = 12",
        "DELETE FROM parents WHERE id = 6",
    )
    assert {row.table for row in applied.diff.rows} == {
        "parents", "by_cascade", "deeper", "by_null", "by_default", "by_code", "by_code_null",
    }  # fmt: skip
    assert applied.origins("deeper") == {"cascade"} == applied.origins("by_null") == applied.origins("by_default")
    with pytest.raises(StatementFailed, match="refer"):
        way.run("DELETE FROM parents WHERE id = 10")


def test_set_null_of_some_columns_only(whole_way: WholeWay) -> None:
    way = whole_way(schema("cascades", "column_list"))
    applied = way.applied(
        "DELETE FROM parents WHERE id = 2", plain=["DELETE FROM parents WHERE id = 2 AND tenant_id = 1"]
    )
    assert [(row.table, row.kind) for row in applied.diff.rows] == [("children", "update"), ("parents", "delete")]


def test_keys_travel_down_two_levels(whole_way: WholeWay) -> None:
    way = whole_way(schema("cascades", "keys_travel"))
    applied = way.applied("UPDATE a SET code = 'zz' WHERE code = 'a2'", "UPDATE b SET n = n + 10 WHERE a = 'zz'")
    assert {row.kind for row in applied.diff.rows} == {"insert", "delete"}
    assert applied.diff.total_rows == 10


def test_a_shared_row_and_what_hangs_on_it_stay(whole_way: WholeWay) -> None:
    way = whole_way(schema("cascades", "shared"))
    with pytest.raises(StatementRefused, match="read but not changed"):
        way.run("DELETE FROM plans WHERE id = 1")
    assert way.applied("DELETE FROM subscriptions WHERE id = 2").diff.total_rows == 1


def test_rows_of_partitions_change_and_move(whole_way: WholeWay) -> None:
    way = whole_way(schema("cascades", "partitioned"))
    applied = way.applied(
        "UPDATE sales SET amount = amount + 1 WHERE id IN (2, 4)",
        "UPDATE sales SET day = day + 400 WHERE id = 2",
        "UPDATE sales SET day = '2030-01-01' WHERE id = 6",
        "INSERT INTO sales(id, tenant_id, day, amount) VALUES (100, 1, '2024-02-03', 5), (101, 1, '2050-01-01', 6)",
        "INSERT INTO parts(id, sale, day) VALUES (100, 100, '2024-02-03')",
        "DELETE FROM sales WHERE id = 8",
        "UPDATE day_sums SET total = 0 WHERE day > '2024-06-01'",
        plain=[
            "UPDATE sales SET amount = amount + 1 WHERE id IN (2, 4)",
            "UPDATE sales SET day = day + 400 WHERE id = 2",
            "UPDATE sales SET day = '2030-01-01' WHERE id = 6",
            "INSERT INTO sales(id, tenant_id, day, amount) VALUES (100, 1, '2024-02-03', 5), (101, 1, '2050-01-01', 6)",
            "INSERT INTO parts(id, sale, day) VALUES (100, 100, '2024-02-03')",
            "DELETE FROM sales WHERE id = 8",
            "UPDATE day_sums SET total = 0 WHERE day > '2024-06-01' AND tenant_id = 1",
        ],
    )
    assert {row.table for row in applied.diff.rows} == {"sales", "parts", "clicks", "day_sums"}


def test_partitions_undo_and_keyless_ones_give_back_the_right_rows(whole_way: WholeWay) -> None:
    way = whole_way(schema("cascades", "partitioned"))
    dry_run = way.run(
        "UPDATE sales SET amount = amount + 1 WHERE id = 2", "UPDATE sales SET amount = 9 WHERE id IN (4, 6)"
    )
    query = "SELECT at, n FROM clicks ORDER BY n, at"
    assert len(way.fixes.desk.query(REP, dry_run, query).rows) == 6 + 3
    way.fixes.desk.undo(REP, dry_run, 1)
    assert len(way.fixes.desk.query(REP, dry_run, query).rows) == 6 + 1
    way.fixes.desk.undo(REP, dry_run, 0)
    assert len(way.fixes.desk.query(REP, dry_run, query).rows) == 6
    with pytest.raises(WrongState):
        way.fixes.desk.propose(REP, dry_run)


def test_a_partition_by_its_own_name_is_refused(whole_way: WholeWay) -> None:
    way = whole_way(schema("cascades", "partitioned"))
    with pytest.raises(StatementRefused, match="part of the table “sales”"):
        way.run("UPDATE sales_2023 SET amount = 0 WHERE id = 2")
