"""The order of an inverse: keys and unique values hold at every step, circles are broken or refused."""

from collections.abc import Mapping, Sequence

import pytest

from mcp_server.reverting_order import Batch, Op, RevertRefused, order
from mcp_server.reverting_sql import array, statements
from shadow.catalog import Catalog, Column, ForeignKey, Table
from shadow.fence import DIRECT, Fence, FencedTable


def column(name: str, type_name: str = "integer", *, nullable: bool = False) -> Column:
    return Column(
        name=name, type=type_name, not_null=not nullable, default=None, identity="", generated="", nested=False,
        sequence=None, draws="",
    )  # fmt: skip


def table(
    name: str, *columns: Column, unique: Sequence[str] = (), refers: Mapping[str, str] | None = None
) -> FencedTable:
    keys = [
        ForeignKey(name=f"{name}_{c}", columns=(c,), parent=parent, parent_columns=("id",), on_delete="a", on_update="a", deferred=False)
        for c, parent in (refers or {}).items()
    ]  # fmt: skip
    made = Table(
        name=name, schema="public", relation=name, oid=1, kind="r", estimated_rows=0, columns=(column("id"), *columns),
        key=("id",), unique_keys=(frozenset({"id"}), *(frozenset({c}) for c in unique)), foreign_keys=tuple(keys), triggers=(),
    )  # fmt: skip
    return FencedTable(table=made, fence_class=DIRECT, tenant_columns=("tenant_id",))


def fence(*tables: FencedTable) -> Fence:
    catalog = Catalog(tables={}, functions={}, routines={}, fingerprint="", server_version=180000, schemas=("public",))
    return Fence(root="tenants", key="id", label=None, tables={t.table.name: t for t in tables}, catalog=catalog)


def op(name: str, key: int, now: dict[str, str | None] | None, then: dict[str, str | None] | None) -> Op:
    sides = [None if cells is None else {"id": str(key), **cells} for cells in (now, then)]
    kind = "insert" if now is None else "delete" if then is None else "update"
    columns = (
        () if then is None else tuple(c for c, v in (sides[1] or {}).items() if now is None or v != (sides[0] or {})[c])
    )
    return Op(kind=kind, table=name, key=(str(key),), now=sides[0], then=sides[1], columns=columns)  # type: ignore[arg-type]


def planned(given: Fence, *ops: Op, lazy: bool = False) -> list[tuple[str, str, list[str]]]:
    return [(b.kind, b.table, [key[0] for key, _ in b.rows]) for b in batches(given, *ops, lazy=lazy)]


def batches(given: Fence, *ops: Op, lazy: bool = False) -> list[Batch]:
    return order(given, ops, lazy=lazy, largest=lambda _table, _column: 50)


FAMILY = fence(
    table("parents", column("name", "text"), unique=["name"]),
    table("children", column("parent"), column("note", "text", nullable=True), refers={"parent": "parents"}),
)


def test_parents_appear_before_their_children_and_go_after_them() -> None:
    assert planned(
        FAMILY,
        op("parents", 1, {"name": "gone"}, None), op("children", 1, {"parent": "1", "note": None}, None),
        op("children", 2, None, {"parent": "2", "note": None}), op("parents", 2, None, {"name": "back"}),
    ) in (
        [("delete", "children", ["1"]), ("delete", "parents", ["1"]), ("insert", "parents", ["2"]), ("insert", "children", ["2"])],
        [("delete", "children", ["1"]), ("insert", "parents", ["2"]), ("delete", "parents", ["1"]), ("insert", "children", ["2"])],
    )  # fmt: skip


def test_a_child_moves_between_the_new_parent_and_the_end_of_the_old_one() -> None:
    assert planned(
        FAMILY,
        op("parents", 1, {"name": "a"}, None), op("parents", 2, None, {"name": "b"}),
        op("children", 1, {"parent": "1", "note": None}, {"parent": "2", "note": None}), lazy=True,
    ) == [("insert", "parents", ["2"]), ("update", "children", ["1"]), ("delete", "parents", ["1"])]  # fmt: skip


def test_a_unique_value_is_freed_before_it_is_taken() -> None:
    assert planned(FAMILY, op("parents", 2, None, {"name": "a"}), op("parents", 1, {"name": "a"}, None)) == [
        ("delete", "parents", ["1"]), ("insert", "parents", ["2"]),
    ]  # fmt: skip


def test_updates_that_nobody_waits_for_may_be_left_to_triggers() -> None:
    lonely = op("children", 1, {"parent": "1", "note": "a"}, {"parent": "1", "note": "b"})
    assert planned(FAMILY, lonely, lazy=True) == []
    assert planned(FAMILY, lonely) == [("update", "children", ["1"])]


def test_rows_that_refer_to_each_other_are_inserted_with_an_empty_reference_first() -> None:
    ring = fence(table("nodes", column("next", nullable=True), refers={"next": "nodes"}))
    made = batches(
        ring,
        op("nodes", 1, None, {"next": "2"}),
        op("nodes", 2, None, {"next": "1"}),
        op("nodes", 3, None, {"next": "3"}),
    )
    assert [(b.columns, [key[0] for key, _ in b.rows]) for b in made] == [
        (("id",), ["3"]), (("id",), ["1"]), (("id", "next"), ["2"]),
    ]  # fmt: skip


def test_exchanged_numbers_are_parked_and_exchanged_texts_refused() -> None:
    numbers = fence(table("lines", column("position"), unique=["position"]))
    made = batches(
        numbers,
        op("lines", 1, {"position": "1"}, {"position": "2"}),
        op("lines", 2, {"position": "2"}, {"position": "1"}),
    )
    assert [[cells["position"] for _, cells in b.rows] for b in made] in (
        [["51"], ["1"], ["2"]],
        [["51"], ["2"], ["1"]],
    )
    with pytest.raises(RevertRefused, match="exchanged unique values"):
        planned(FAMILY, op("parents", 1, {"name": "a"}, {"name": "b"}), op("parents", 2, {"name": "b"}, {"name": "a"}))


def test_a_circle_of_required_references_is_refused() -> None:
    ring = fence(table("nodes", column("next"), refers={"next": "nodes"}))
    with pytest.raises(RevertRefused, match="circle"):
        planned(ring, op("nodes", 1, None, {"next": "2"}), op("nodes", 2, None, {"next": "1"}))


def test_a_chain_that_takes_too_many_steps_is_refused() -> None:
    ring = fence(table("nodes", column("next", nullable=True), refers={"next": "nodes"}))
    chain = [op("nodes", n, None, {"next": str(n - 1) if n else None}) for n in range(600)]
    with pytest.raises(RevertRefused, match="more than 500 steps"):
        planned(ring, *chain)


def test_no_value_stands_in_a_text_and_many_rows_share_a_statement() -> None:
    rows = tuple(((str(n),), {"note": f'"\\{{{n}'}) for n in range(12_000))
    batch = Batch(kind="update", table="children", columns=("note",), rows=rows)
    made = list(statements(FAMILY, batch))
    assert [count for _, _, count in made] == [5000, 5000, 2000]
    assert made[0][0] == (
        'UPDATE "children" SET "note" = given.c1::text FROM unnest($1::text[], $2::text[]) AS given(k1, c1)'
        ' WHERE "children"."id" = given.k1::integer'
    )
    assert array(['a"b', None, "\\", ""]) == '{"a\\"b",NULL,"\\\\",""}'
