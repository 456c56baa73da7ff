"""Every kind of type travels the whole way: clone, edit, diff, replay; production equals a copy edited plainly."""

import pytest

from shadow.errors import StatementFailed, StatementRefused
from tests.schemas.whole import WholeWay, schema

#: column → a new value for it, as SQL.
VALUES = {
    "mood": "'low'", "moods": "ARRAY['it''s fine']::mood[]", "price": "0.00", "prices": "'{2.20,3}'", "mail": "'You@Example.ORG'",
    "seal": "'\\x0102'", "home": "ROW('Elm, \"Rd\"', NULL, '(3,4)')::address", "homes": "ARRAY[]::address[]",
    "during": "'[2025-01-01,)'", "slots": "'{\"[1,3)\",empty}'", "many": "'{}'", "own": "'(,1]'",
    "doc": "jsonb_set(doc, '{a,b,0}', 'true')", "raw": "'{\"a\" : 2}'", "bytes": "''", "folded": "'mixed'",
    "pairs": "pairs || 'new=>\"\\\"q\"'", "uid": "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "gap": "'-1 mon +2 days'",
    "amount": "-0.000", "ratio": "'-0'", "small": "1.1", "at": "'0001-01-01 00:00+00'", "plain": "'294276-12-31 23:59:59.999999'",
    "day": "'9999-12-31'", "clock": "'00:00:00.000001'", "zoned": "'23:59:59-08'", "cash": "'-$5.00'", "addr": "'::1'",
    "net": "'2001:db8::/32'", "mac": "'ff:ff:ff:ff:ff:ff'", "words": "'dog:2 slow:1A'", "q": "'cat <-> dog'",
    "bits": "B'00000'", "vbits": "B''", "fixed": "'a b'", "code": "''", '"char"': "'z'", "letter": "' '",
    "grid": "'[0:1]={7,8}'", "texts": "'{}'", "flag": "NULL", "place": "'(-0.0,1e300)'", "shape": "'((1,1),(2,2),(3,1))'",
    "doc_xml": "'tab\tline\nback\\slash'",
}  # fmt: skip


def test_a_value_of_every_type_changes(whole_way: WholeWay) -> None:
    way = whole_way(schema("types"))
    sets = ", ".join(f"{column} = {value}" for column, value in VALUES.items())
    applied = way.applied(
        f"UPDATE things SET {sets} WHERE id = 2",
        "UPDATE things SET " + ", ".join(f"{column} = NULL" for column in VALUES) + " WHERE id = 4",
    )
    assert [(row.kind, len(row.cells)) for row in applied.diff.rows] == [("update", 45), ("update", 45)]


def test_rows_of_every_type_are_inserted_and_deleted(whole_way: WholeWay) -> None:
    way = whole_way(schema("types"))
    columns = ", ".join(VALUES)
    applied = way.applied(
        f"INSERT INTO things(id, tenant_id, {columns}) SELECT id + 100, tenant_id, {columns} FROM things WHERE tenant_id = 1 ORDER BY id",
        "DELETE FROM things WHERE id = 2",
    )
    assert {row.kind for row in applied.diff.rows} == {"insert", "delete"} and applied.diff.total_rows == 4


def test_no_statement_writes_what_is_no_number_or_date(whole_way: WholeWay) -> None:
    way = whole_way(schema("types"))
    for column, value in (("amount", "NaN"), ("ratio", "-Infinity"), ("at", "infinity"), ("day", "-infinity")):
        with pytest.raises(StatementRefused, match="no ordinary"):
            way.run(f"UPDATE things SET {column} = '{value}' WHERE id = 2")


def test_a_domains_check_refuses_in_the_shadow(whole_way: WholeWay) -> None:
    way = whole_way(schema("types"))
    with pytest.raises(StatementFailed, match="check"):
        way.run("UPDATE things SET price = -1 WHERE id = 2")


def test_megabytes_of_text_in_one_cell(whole_way: WholeWay) -> None:
    way = whole_way(
        "CREATE TABLE tenants(id int PRIMARY KEY, name text);"
        "CREATE TABLE notes(id int PRIMARY KEY, tenant_id int REFERENCES tenants, body text, doc jsonb, blob bytea);"
        "INSERT INTO tenants VALUES (1, 'Acme');"
        "INSERT INTO notes VALUES (1, 1, repeat('äöü ', 100000), jsonb_build_object('t', repeat('x', 300000)), decode(repeat('00ff', 100000), 'hex'))"
    )
    applied = way.applied(
        "UPDATE notes SET body = body || '!', doc = doc || '{\"n\": 1}', blob = blob || '\\x01' WHERE id = 1"
    )
    assert applied.diff.total_rows == 1
