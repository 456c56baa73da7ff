"""Every kind of type travels the whole way: clone, edit, diff, replay; production equals a copy edited plainly."""

import pytest

from shadow.errors import StatementFailed, StatementRefused
from tests.fixes import REP
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


OWNED = "CREATE TABLE tenants(id int PRIMARY KEY, name text); INSERT INTO tenants VALUES (1, 'Acme'), (2, 'Globex');"
#: Types whose key `abc` is the same as `ABC`: what the type needs, and its name.
FOLDED = {
    "citext": ("CREATE EXTENSION citext;", "citext"),
    "a domain over citext": (
        "CREATE EXTENSION citext; CREATE DOMAIN code AS citext CHECK (length(VALUE) < 9);",
        "code",
    ),
}


@pytest.mark.parametrize("kind", FOLDED)
def test_keys_that_postgres_takes_for_one_are_one_row(whole_way: WholeWay, kind: str) -> None:
    prepare, type_name = FOLDED[kind]
    way = whole_way(
        OWNED
        + f"{prepare} CREATE TABLE p(code {type_name} PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, name text);"
        "INSERT INTO p VALUES ('abc', 1, 'one'), ('zz', 1, 'three'), ('B', 2, 'two');"
    )
    desk = way.fixes.desk
    dry_run = way.run("UPDATE p SET code = 'ABC' WHERE code = 'abc'")
    [renamed] = desk.diff(REP, dry_run).rows
    assert [(cell.column, cell.before, cell.after) for cell in renamed.cells] == [("code", "abc", "ABC")]
    desk.undo(REP, dry_run, 0)
    assert desk.query(REP, dry_run, "SELECT code, name FROM p ORDER BY 2").rows == (("abc", "one"), ("zz", "three"))
    assert desk.diff(REP, dry_run).total_rows == 0
    way.fixes.applied(["UPDATE p SET code = 'ABC' WHERE code = 'abc'", "UPDATE p SET name = (SELECT count(*) FROM p)"])
    assert set(way.fixes.rows()["p"]) == {("(ABC,1,2)",), ("(zz,1,2)",), ("(B,2,two)",)}
    way.fixes.applied(["DELETE FROM p WHERE code = 'abc'", "INSERT INTO p(code, name) VALUES ('aBC', 'new')"])
    assert set(way.fixes.rows()["p"]) == {("(aBC,1,new)",), ("(zz,1,2)",), ("(B,2,two)",)}


def test_keys_of_an_extensions_type_are_written(whole_way: WholeWay) -> None:
    way = whole_way(
        OWNED + "CREATE EXTENSION ltree;"
        "CREATE TABLE p(path ltree PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, name text NOT NULL);"
        "CREATE TABLE c(id int PRIMARY KEY, path ltree REFERENCES p ON UPDATE CASCADE);"
        "INSERT INTO p VALUES ('a.b', 1, 'one'), ('a.c', 1, 'x'), ('B', 2, 'two'); INSERT INTO c VALUES (1, 'a.b'), (2, 'B');"
    )
    dry_run = way.run("UPDATE p SET path = 'a.b.d' WHERE path = 'a.b'", "DELETE FROM p WHERE path = 'a.c'")
    way.fixes.desk.undo(REP, dry_run, 0)
    assert way.fixes.desk.diff(REP, dry_run).total_rows == 0
    way.applied("UPDATE p SET path = 'a.b.d', name = 'y' WHERE path = 'a.b'", "DELETE FROM p WHERE path = 'a.c'")


def test_a_key_that_the_search_path_cannot_compare_is_refused_with_the_way_out(whole_way: WholeWay) -> None:
    made = (
        OWNED + "CREATE SCHEMA ext; CREATE EXTENSION ltree SCHEMA ext;"
        "CREATE TABLE p(path ext.ltree PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, name text NOT NULL);"
        "INSERT INTO p VALUES ('a.b', 1, 'one'), ('B', 2, 'two');"
        "CREATE TABLE q(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int); INSERT INTO q VALUES (1, 1, 0);"
    )
    way = whole_way(made)
    with pytest.raises(StatementRefused, match="schema ext") as told:
        way.run("UPDATE p SET name = 'x' WHERE name = 'one'")
    assert "search_path" in told.value.next_step
    way.applied("UPDATE q SET n = (SELECT count(*) FROM p WHERE name = 'one')", plain=["UPDATE q SET n = 1"])
    way = whole_way(made, search_path=("public", "ext"))
    assert way.applied("UPDATE p SET name = 'x' WHERE name = 'one'").diff.total_rows == 1
