"""The gate: which single statements pass, and which rule refuses the others; one hostile spelling per rule."""

from dataclasses import replace

import pytest

from shadow.errors import StatementRefused
from shadow.gate import gate
from shadow.statement import GateLimits, render
from tests.tampering.surface import surface

SURFACE = surface()

REFUSED = [
    # one statement, of a kind that is accepted
    ("", "no statement"),
    (" -- only a comment", "no statement"),
    ("SELECT 1; SELECT 2", "2 statements"),
    ("EXPLAIN SELECT 1", "“EXPLAIN”"),
    ("COMMIT", "Each step is its own transaction"),
    ("SELECT FROM WHERE", "cannot read"),
    ("SELECT 'a", "cannot be read"),
    ("'x'", "no SQL statement"),
    # bytes and spelling
    ("SELECT '\x00'", "U+0000"),
    ("SELECT '\x1b[2J'", "U+001B"),
    ("SELECT '\x9b31m'", "U+009B"),
    ("SELECT '\x7f'", "U+007F"),
    ("SELECT '\u202e'", "U+202E"),
    ("SELECT '\u2066'", "U+2066"),
    ("SELECT '\ud800'", "half a character"),
    ('SELECT 1 AS "a\u200b"', "U+200B"),
    ("SELECT\u00a01", "U+00A0"),
    (r"SELECT E'\x27'", "Escape strings"),
    (r"SELECT e'\x27'", "Escape strings"),
    (r"SELECT U&'\0061'", "Unicode escapes"),
    (r'SELECT * FROM U&"contracts"', "Unicode escapes"),
    ("SELECT 0x1F", "plain decimal"),
    ("SELECT 1_000", "plain decimal"),
    ("SELECT 1 AS " + "a" * 70, "63 bytes"),
    ("SELECT 1 " + "+" * 300 + " 1", "200 operator signs"),
    ("SELECT 1 " + "/**/" * 60, "200 operator signs"),
    # size and nesting
    ("SELECT '" + "x" * 70_000 + "'", "bytes long"),
    ("SELECT 1" + ",1" * 6_000, "words and signs"),
    ("SELECT " + "(" * 300 + "1" + ")" * 300, "nested too deeply"),
    ("SELECT " + "CASE WHEN true THEN " * 300 + "1" + " END" * 300, "nested too deeply"),
    ("SELECT 1" + " + 1" * 300, "nested too deeply"),
    ("SELECT 1" + " + 1" * 120, "nested too deeply"),
    ("SELECT " + "NOT " * 300 + "true", "nested too deeply"),
    ("SELECT 1" + "::int" * 300, "nested too deeply"),
    ("SELECT 1 FROM contracts" + " CROSS JOIN contracts" * 61, "nested too deeply"),
    ("SELECT 1" + " UNION SELECT 1" * 61, "nested too deeply"),
    ("SELECT 1" + " BETWEEN 1 AND 2 IS TRUE" * 100, "nested too deeply"),
    ("SELECT 1" + " + (SELECT 1 end)" * 200, "nested too deeply"),
    ("UPDATE contracts SET (" + "note," * 400 + "note) = (SELECT " + "1," * 400 + "1)", "too many columns"),
    ("SELECT (WITH x AS (UPDATE contracts SET note='x' RETURNING id) SELECT id FROM x)", "stand at the top"),
    # tables and names
    ("SELECT * FROM public.contracts", "qualified with a schema"),
    ("SELECT * FROM a.b.contracts", "qualified with a schema"),
    ("SELECT * FROM tenants", "does not belong to a tenant"),
    ("DELETE FROM app_secrets", "does not belong to a tenant"),
    ("SELECT * FROM pg_class", "catalog"),
    ("SELECT * FROM contract", "Did you mean contracts?"),
    ("SELECT * FROM zzz", "describe_tables"),
    ("SELECT * FROM ONLY contracts", "ONLY"),
    ("WITH c AS (SELECT 1 AS a) SELECT * FROM ONLY c", "ONLY"),
    ("SELECT * FROM contracts AS pg_class", "poses as a catalog"),
    ("SELECT * FROM contracts AS invoices", "name of another table"),
    ("SELECT * FROM (SELECT 1) AS contracts", "name of another table"),
    ("UPDATE contracts AS tenants SET note='x'", "name of another table"),
    ("WITH contracts AS (SELECT 1) SELECT * FROM contracts", "hides the table"),
    ("WITH tenants AS (SELECT 1) SELECT 1", "hides the table"),
    ("WITH pg_class AS (SELECT 1) SELECT 1", "hides the table"),
    ("WITH a AS (SELECT 1), a AS (SELECT 2) SELECT 1", "Two WITH queries"),
    ("WITH RECURSIVE r AS (SELECT 1) SELECT * FROM r", "RECURSIVE"),
    ("WITH a AS (SELECT 1 AS n) SEARCH DEPTH FIRST BY n SET o SELECT * FROM a", "SEARCH and CYCLE"),
    ("WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a", "no table “b”"),
    ("SELECT * FROM (WITH q AS (SELECT 1) SELECT * FROM q) x, q", "no table “q”"),
    ("WITH c AS (SELECT 1 AS id) UPDATE c SET id=2", "is a WITH query"),
    # functions in disguise and columns
    ("SELECT c.pg_sleep FROM contracts c", "function call"),
    ("SELECT g.pg_sleep FROM generate_series(1,3) g", "function call"),
    ("SELECT v.app_note FROM (VALUES (1)) v", "function call"),
    ("SELECT c.pg_sleep FROM generate_series(1,5) c WHERE EXISTS (SELECT 1 FROM (SELECT 1 AS pg_sleep) c)", "function"),
    ("SELECT (SELECT c.pg_sleep FROM (SELECT 1 AS pg_sleep) c) FROM generate_series(1,5) c", "function call"),
    ("SELECT 1 FROM generate_series(1,5) c, (SELECT c.pg_sleep) d", "No table or alias"),
    ("SELECT j.pg_sleep FROM (SELECT 1 AS pg_sleep) z, (contracts c CROSS JOIN invoices i) AS j", "function call"),
    ("SELECT u.u FROM unnest(ARRAY[1], ARRAY[2]) u", "function call"),
    ("SELECT e.e FROM contracts c, jsonb_each(c.meta) e", "function call"),
    ("WITH x AS (SELECT now()) UPDATE contracts SET updated_at = x.now FROM x", "name others with AS"),
    ("SELECT (c.note).pg_sleep FROM contracts c", "(expression).name"),
    ("SELECT (row_to_json(c)).* FROM contracts c", "(expression).name"),
    ("SELECT public.contracts.note FROM contracts", "qualified with a schema"),
    ("SELECT z.note FROM contracts", "No table or alias “z”"),
    ("SELECT z.* FROM contracts", "No table or alias “z”"),
    ("SELECT ctid FROM contracts", "system column"),
    ("SELECT c.xmin FROM contracts c", "system column"),
    # functions, types, operators
    ("SELECT pg_sleep(1)", "server's own state"),
    ("SELECT has_table_privilege('x','select')", "server's own state"),
    ("SELECT to_regclass('x')", "server's own state"),
    ("SELECT query_to_xml('select 1',true,true,'')", "server's own state"),
    ("SELECT lo_create(0)", "server's own state"),
    ("SELECT setseed(0.5)", "acts, or answers differently"),
    ("SELECT app_close_contract(1)", "not on the list"),
    ("SELECT regclass('contracts')", "not on the list"),
    ("SELECT public.lower('A')", "bare name"),
    ("SELECT pg_catalog.lower('A')", "bare name"),
    ("SELECT nextval('contracts_id_seq')", "Leave the id column out"),
    ("SELECT current_user", "CURRENT_USER"),
    ("SELECT current_schema", "CURRENT_SCHEMA"),
    ("SELECT collation for ('a')", "server's own state"),
    ("SELECT 'contracts'::regclass", "type “regclass”"),
    ("SELECT NULL::contracts", "type “contracts”"),
    ("SELECT 1::pg_catalog.regclass", "type “regclass”"),
    ("SELECT 1::public.contract_status", "bare type name"),
    ("SELECT 1::SETOF int", "SETOF"),
    ("SELECT '1'::varbit(id) FROM contracts", "size is not a plain number"),
    ("SELECT '{}'::regclass[]", "type “regclass”"),
    ("SELECT 1 OPERATOR(pg_catalog.+) 1", "bare operator"),
    ("SELECT note =% 'x' FROM contracts", "operator “=%”"),
    ("SELECT meta @? '$.a' FROM contracts", "operator “@?”"),
    ("SELECT 1 WHERE 1 OPERATOR(public.=) ANY (SELECT 1)", "bare operator"),
    ("SELECT id FROM contracts ORDER BY id USING <", "USING"),
    ('SELECT note COLLATE public."x" FROM contracts', "collation"),
    ("SELECT generate_series(1, 1000000)", "generate_series"),
    ("SELECT generate_series(1, 100, 0.00001)", "generate_series"),
    ("SELECT generate_series(1, 'NaN'::numeric)", "generate_series"),
    ("SELECT generate_series(1, id) FROM contracts", "generate_series"),
    ("SELECT generate_series('2000-01-01'::date, '2026-01-01', '1 minute')", "generate_series"),
    ("SELECT generate_series('2000-01-01'::date, '2026-01-01', '0 day')", "generate_series"),
    ("SELECT repeat('x', 100000)", "small number"),
    ("SELECT repeat('x', id) FROM contracts", "small number"),
    ("SELECT repeat(repeat('x', 9999), 9999)", "small number"),
    ("SELECT lpad('x', 100000)", "small number"),
    ("SELECT format('%999999s', 'x')", "literal format"),
    ("SELECT format('%*s', 100000000, 'x')", "literal format"),
    ("SELECT format(note) FROM contracts", "literal format"),
    # clauses
    ("SELECT * INTO loot FROM contracts", "SELECT INTO"),
    ("SELECT * FROM contracts FOR UPDATE", "FOR UPDATE"),
    ("SELECT * FROM contracts TABLESAMPLE system (10)", "TABLESAMPLE"),
    ("SELECT * FROM json_to_recordset('[]') AS t(a int)", "column definition"),
    ("UPDATE contracts SET note='x' WHERE CURRENT OF c", "CURRENT OF"),
    ("SELECT json_value('{}', '$.a')", "JsonFuncExpr"),
    ("SELECT xmlelement(name a)", "XmlExpr"),
    # writes
    ("UPDATE plans SET name='x'", "can be read but not changed"),
    ("INSERT INTO contracts VALUES (1, 1)", "without a column list"),
    ("INSERT INTO contracts SELECT 1", "without a column list"),
    ("INSERT INTO contracts (nope) VALUES (1)", "no column “nope”"),
    ("INSERT INTO contracts (ctid) VALUES (1)", "no column “ctid”"),
    ("UPDATE contracts SET nope = 1", "no column “nope”"),
    # the tenant's column
    ("INSERT INTO contracts (tenant_id, code) VALUES (2, 'a')", "tenant's own key"),
    ("INSERT INTO contracts (tenant_id, code) VALUES (1, 'a'), (2, 'b')", "tenant's own key"),
    ("INSERT INTO contracts (tenant_id, code) VALUES ((SELECT 2), 'a')", "tenant's own key"),
    ("INSERT INTO contracts (tenant_id, code) VALUES (NULL, 'a')", "tenant's own key"),
    ("INSERT INTO contracts (tenant_id, code) VALUES (1 + 1, 'a')", "tenant's own key"),
    ("INSERT INTO contracts (tenant_id, code) SELECT 1, 'a' UNION SELECT 2, 'b'", "tenant's own key"),
    ("INSERT INTO contracts (tenant_id, code) SELECT i.contract_id, 'a' FROM invoices i", "tenant's own key"),
    ("INSERT INTO contracts (tenant_id, code) SELECT * FROM (VALUES (2,'a')) v", "hides what goes into"),
    ("UPDATE contracts SET tenant_id = 2", "tenant's own key"),
    ("UPDATE contracts SET tenant_id = -1", "tenant's own key"),
    ("UPDATE contracts SET tenant_id = tenant_id + 1", "tenant's own key"),
    ("UPDATE contracts SET (tenant_id) = (SELECT 2)", "tenant's own key"),
    ("UPDATE contracts SET (note, tenant_id) = ('x', 2)", "tenant's own key"),
    ("MERGE INTO contracts c USING (SELECT 1 AS a) s ON true WHEN MATCHED THEN UPDATE SET tenant_id = 2", "own key"),
    (
        "MERGE INTO contracts c USING (SELECT 1 AS a) s ON true WHEN NOT MATCHED THEN INSERT (tenant_id) VALUES (2)",
        "own key",
    ),
    (
        "MERGE INTO contracts c USING (SELECT 1 AS a) s ON true WHEN NOT MATCHED THEN INSERT VALUES (1, 1)",
        "without a column list",
    ),
    # ON CONFLICT
    ("INSERT INTO contracts (code) VALUES ('a') ON CONFLICT DO NOTHING", "Name the columns"),
    ("INSERT INTO contracts (code) VALUES ('a') ON CONFLICT (code) DO NOTHING", "outside this tenant"),
    ("INSERT INTO contracts (code) VALUES ('a') ON CONFLICT ON CONSTRAINT k DO NOTHING", "through a view"),
    ("INSERT INTO line_items (sku) VALUES ('a') ON CONFLICT (lower(sku)) DO NOTHING", "plain columns"),
    ('INSERT INTO line_items (sku) VALUES (1) ON CONFLICT (contract_id, sku COLLATE "C") DO NOTHING', "plain columns"),
    ("INSERT INTO line_items (sku) VALUES ('a') ON CONFLICT (sku) DO NOTHING", "Use ON CONFLICT (contract_id, sku)"),
    (
        "INSERT INTO line_items (contract_id, sku) VALUES (1, 'a') ON CONFLICT (contract_id, sku) "
        "DO UPDATE SET contract_id = 17",
        "part of the key",
    ),
    (
        "INSERT INTO invoices (number) VALUES ('a') ON CONFLICT (tenant_id, number) DO UPDATE SET total = pg_sleep(1)",
        "server's own state",
    ),
    # literals that move or have no end
    ("UPDATE contracts SET starts_on = 'today'", "another moment"),
    ("UPDATE contracts SET updated_at = ' Tomorrow 10:00'", "another moment"),
    ("UPDATE contracts SET note = 'now'::timestamptz::text", "another moment"),
    ("UPDATE contracts SET note = date('today')::text", "another moment"),
    ("UPDATE contracts SET note = 'x' WHERE ends_on < 'today'", "another moment"),
    ("UPDATE contracts SET note = 'x' WHERE 'yesterday' < contracts.ends_on", "another moment"),
    ("UPDATE contracts SET note = 'x' WHERE ends_on BETWEEN 'today' AND 'tomorrow'", "another moment"),
    ("UPDATE contracts SET note = 'x' WHERE ends_on IN ('today')", "another moment"),
    ("UPDATE contracts SET note = 'x' WHERE coalesce(ends_on, 'now') > starts_on", "another moment"),
    ("UPDATE contracts SET note = 'x' WHERE ends_on - 1 < 'today'", "another moment"),
    ("UPDATE contracts SET note = 'x' WHERE CURRENT_DATE < 'tomorrow'", "another moment"),
    ("UPDATE contracts SET note = 'x' WHERE length('now'::timestamptz::text) > 3", "another moment"),
    ("DELETE FROM contracts WHERE code < CAST('tomorrow' AS date)::text", "another moment"),
    ("UPDATE contracts SET note = 'x' WHERE date_trunc('day', now()) < 'tomorrow'", "another moment"),
    ("INSERT INTO contracts (code, starts_on) VALUES ('a', 'today')", "another moment"),
    ("INSERT INTO contracts (code, starts_on) SELECT 'a', 'today'", "another moment"),
    ("UPDATE contracts SET amount = 'NaN'", "no ordinary number"),
    ("UPDATE contracts SET amount = '-Infinity'::numeric", "no ordinary number"),
    ("UPDATE contracts SET amount = greatest(amount, 'inf')", "no ordinary number"),
    ("UPDATE contracts SET amount = CASE WHEN true THEN 'NaN' ELSE amount END", "no ordinary number"),
    ("UPDATE contracts SET amount = CASE WHEN true THEN amount ELSE 'NaN' END", "no ordinary number"),
    ("UPDATE contracts SET amount = amount + 'NaN'::numeric", "no ordinary number"),
    ("UPDATE contracts SET amount = round('NaN'::numeric)", "no ordinary number"),
    ("UPDATE contracts SET (note, amount) = ('x', 'NaN')", "no ordinary number"),
    ("UPDATE contracts SET ends_on = 'infinity'", "no ordinary date"),
    ("UPDATE contracts SET ends_on = '0044-03-15 BC'", "no ordinary date"),
    # clocks and draws
    ("UPDATE contracts SET note = random()::text", "evaluated anew"),
    ("UPDATE contracts SET note = gen_random_uuid()::text", "evaluated anew"),
    ("INSERT INTO contracts (code) SELECT uuidv7()::text", "evaluated anew"),
    ("INSERT INTO contracts (code) VALUES ((SELECT gen_random_uuid()::text))", "evaluated anew"),
    ("INSERT INTO contracts (code) VALUES ('a') RETURNING random()", "evaluated anew"),
    ("INSERT INTO contracts (code, amount) VALUES ('a', random(1, 10))", "without arguments"),
    ("UPDATE contracts SET note = age(starts_on)::text", "age(now(), …)"),
    ("UPDATE contracts SET updated_at = n FROM now() AS n", "cannot be a table"),
    ("UPDATE contracts SET starts_on = n FROM CURRENT_DATE AS n", "cannot be a table"),
    ("UPDATE contracts SET note = 'today'::date::text", "another moment"),
    # upserts: what they look rows up by, and what they set
    (
        "INSERT INTO invoices (number, total, due_on) VALUES ('n', 1, '2026-01-01')"
        " ON CONFLICT (tenant_id, (lower(number))) DO NOTHING",
        "names an expression",
    ),
    (
        "INSERT INTO invoices (number, total, due_on) VALUES ('n', 1, '2026-01-01')"
        ' ON CONFLICT (tenant_id, number COLLATE "C") DO NOTHING',
        "names an expression",
    ),
    (
        "INSERT INTO invoices (number, total, due_on) VALUES ('n', 1, '2026-01-01')"
        " ON CONFLICT (tenant_id, number) DO UPDATE SET total = 'NaN'",
        "no ordinary number",
    ),
    # parameters
    ("SELECT $1", "0 parameters"),
    ("SELECT $0", "0 parameters"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=lambda value: value[:60].encode("ascii", "replace").decode())
def test_a_hostile_or_ambiguous_statement_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(StatementRefused) as refusal:
        gate(text, (), SURFACE)
    assert reason in str(refusal.value)
    assert refusal.value.not_happened == "Nothing ran."


ACCEPTED = [
    "SELECT 1;",
    "((SELECT 1)) -- why not",
    "SELECT 'C:\\temp; DROP TABLE x' AS \"Søn 日本\"",
    "SELECT $q$it's$q$",
    "SELECT 1 WHERE " + " OR ".join(f"1 = {n}" for n in range(500)),
    "SELECT CASE " + "".join(f"WHEN id = {n} THEN {n} " for n in range(200)) + "END FROM contracts",
    "SELECT c.code, l.sku FROM contracts c JOIN line_items l ON l.contract_id = c.id LEFT JOIN invoices i USING (id)",
    "SELECT contracts.id FROM contracts WHERE EXISTS (SELECT 1 FROM invoices i WHERE i.contract_id = contracts.id)",
    "SELECT t.a, z.b FROM (VALUES (1,2)) AS t(a,b) JOIN (SELECT 1 AS a, 2 AS b) z USING (a)",
    "SELECT x.count, x.max, x.coalesce, x.case, x.nullif, x.greatest, x.exists, x.array, x.d, x.note, x.id FROM (SELECT"
    " count(*), max(ends_on)::date, coalesce(note,''), CASE WHEN true THEN 1 END, nullif(note,''), greatest(1,2),"
    " EXISTS (SELECT 1), ARRAY[1], 1 AS d, note::text, (SELECT i.id FROM invoices i) FROM contracts GROUP BY note) x",
    "SELECT j.qty FROM (contracts JOIN line_items ON line_items.contract_id = contracts.id) AS j",
    "SELECT u.id FROM contracts c JOIN invoices i USING (id) AS u",
    "SELECT c.x, c.code FROM contracts AS c (x)",
    "SELECT g.g, o.ordinality FROM generate_series(1,3) g, unnest(ARRAY[1]) WITH ORDINALITY o",
    "SELECT e.key, e.value, a.value FROM contracts c, jsonb_each(c.meta) e, jsonb_array_elements(c.meta) a",
    "SELECT c.tags[1], c.meta['tier'], row_to_json(c), c FROM contracts c",
    "WITH u AS (UPDATE contracts SET note='x' RETURNING id, note AS n), v AS (SELECT u.n FROM u) SELECT v.n FROM v",
    "WITH d AS (DELETE FROM line_items RETURNING *) SELECT d.sku FROM d",
    "SELECT u.column1, w.id FROM (VALUES (1)) u, (SELECT contracts.* FROM contracts UNION SELECT * FROM contracts) w",
    "SELECT 'draft'::contract_status, '{draft}'::contract_status[], 1::numeric(10,2), 'a'::varchar, date '2026-01-01'",
    "SELECT name COLLATE \"C\", name LIKE '!%' ESCAPE '!', name SIMILAR TO 'a', now() AT TIME ZONE 'UTC' FROM plans",
    "SELECT extract(year FROM ends_on), trim(note), substring(note FROM 1 FOR 2), position('a' IN note) FROM contracts",
    "SELECT sum(id) OVER w, count(*) FILTER (WHERE id > 1) FROM contracts WINDOW w AS (PARTITION BY code ORDER BY id)",
    "SELECT mode() WITHIN GROUP (ORDER BY amount), grouping(status) FROM contracts GROUP BY ROLLUP(status)",
    "SELECT d::date FROM generate_series('2026-01-01'::date, '2026-12-31', '1 month') AS d",
    "SELECT repeat('ab', 3), lpad(code, 10, '0'), format('%s: %-10s', code, note) FROM contracts",
    "INSERT INTO contracts DEFAULT VALUES",
    "INSERT INTO contracts (tenant_id, code) VALUES (1, 'a'), ('1', 'b'), (DEFAULT, 'c'), ('1'::int, 'd')",
    "INSERT INTO contracts (tenant_id, code) SELECT c.tenant_id, 'x' FROM contracts c ORDER BY c.id",
    "INSERT INTO contracts (code) SELECT * FROM (SELECT 'a') s",
    "INSERT INTO line_items AS l (contract_id, sku) VALUES (17, 'a') ON CONFLICT (sku, contract_id) DO UPDATE"
    " SET contract_id = EXCLUDED.contract_id, qty = l.qty + EXCLUDED.qty WHERE l.qty < 5 RETURNING l.id",
    "INSERT INTO invoices (number) VALUES ('a') ON CONFLICT (tenant_id, number) DO NOTHING",
    "UPDATE contracts SET tenant_id = 1, note = 'today', meta['a'] = '1' WHERE code = 'now' RETURNING old.id, new.id",
    "UPDATE contracts c SET (note, amount) = (SELECT 'x', sum(l.qty) FROM line_items l WHERE l.contract_id = c.id)",
    "UPDATE contracts SET note = 'NaN', ends_on = NULL, starts_on = '2026-02-28' WHERE amount = 'NaN'",
    "DELETE FROM contracts c USING invoices i WHERE i.contract_id = c.id",
    "MERGE INTO invoices t USING (SELECT c.id, c.tenant_id FROM contracts c) s ON t.contract_id = s.id"
    " WHEN MATCHED AND t.paid THEN DELETE WHEN MATCHED THEN UPDATE SET total = 0"
    " WHEN NOT MATCHED THEN INSERT (tenant_id, contract_id) VALUES (s.tenant_id, s.id) RETURNING merge_action()",
]


@pytest.mark.parametrize("text", ACCEPTED, ids=lambda value: value[:60].encode("ascii", "replace").decode())
def test_an_ordinary_statement_passes_unchanged(text: str) -> None:
    assert gate(text, (), SURFACE).text == text


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        (("x",), "not used"),
        (("a\x00",), "NUL"),
        (("\ud800",), "half a character"),
        ((["a"],), "neither text nor null"),
        (("x" * 300_000,), "bytes long"),
        (("1",) * 1_001, "too many"),
    ],
)
def test_a_parameter_postgres_cannot_take_or_the_statement_does_not_use_is_refused(
    params: tuple[str | None, ...], reason: str
) -> None:
    with pytest.raises(StatementRefused, match=reason):
        gate("SELECT 1", params, SURFACE)


def test_parameters_are_judged_like_the_literals_they_stand_for() -> None:
    assert gate("UPDATE contracts SET note = $1 WHERE id = $2", ("today \x1b", None), SURFACE).params == (
        "today \x1b",
        None,
    )
    with pytest.raises(StatementRefused, match="another moment"):
        gate("UPDATE contracts SET ends_on = $1", ("tomorrow",), SURFACE)
    with pytest.raises(StatementRefused, match="no ordinary date"):
        gate("UPDATE contracts SET ends_on = $1::date", ("infinity",), SURFACE)
    insert = "INSERT INTO contracts (tenant_id, code) VALUES ($1, $2)"
    assert gate(insert, ("1", "2"), SURFACE).inserts == (("contracts", 1),)
    with pytest.raises(StatementRefused, match="own key"):
        gate(insert, ("2", "1"), SURFACE)


def test_a_query_only_reads_but_may_look_at_the_clock() -> None:
    clock = gate(
        "SELECT now(), CURRENT_DATE, age(ends_on) FROM contracts WHERE ends_on < 'today'", (), SURFACE, query=True
    )
    assert clock.pins == ()
    for text in ("UPDATE contracts SET note='x'", "WITH d AS (DELETE FROM contracts RETURNING 1) SELECT 1"):
        with pytest.raises(StatementRefused, match="A query only reads"):
            gate(text, (), SURFACE, query=True)
    with pytest.raises(StatementRefused, match="each time it is called"):
        gate("SELECT random()", (), SURFACE, query=True)


def test_merge_is_refused_with_its_reason_before_postgres_17() -> None:
    text = "MERGE INTO invoices t USING contracts c ON false WHEN NOT MATCHED THEN DO NOTHING"
    assert gate(text, (), SURFACE).kind == "merge"
    with pytest.raises(StatementRefused, match="needs PostgreSQL 17"):
        gate(text, (), replace(SURFACE, server_version=160004))


def test_a_function_counts_by_what_the_server_has_and_configuration_can_add_one() -> None:
    with pytest.raises(StatementRefused, match="not on the list"):
        gate("SELECT lower('A')", (), replace(SURFACE, functions={}))
    with pytest.raises(StatementRefused, match="acts, or answers differently"):
        gate("SELECT lower('A')", (), replace(SURFACE, functions={"lower": "v"}))
    allowed = replace(SURFACE, allow_functions=frozenset({"app_label"}))
    assert gate("SELECT app_label(code) FROM contracts", (), allowed).kind == "select"


def test_text_and_uuid_tenant_keys_are_compared_as_their_types_do() -> None:
    contracts = SURFACE.tables["contracts"]
    for kind, key, written, passes in (
        ("uuid", "0190f0a0-0000-7000-8000-00000000000a", "0190F0A0-0000-7000-8000-00000000000A", True),
        ("text", "acme", "acme", True),
        ("text", "acme", "ACME", False),
        ("text", "acme", " acme", False),
        ("bigint", "12", " 12 ", True),
    ):
        table = replace(contracts, columns={**contracts.columns, "tenant_id": kind})
        made = replace(SURFACE, tenant_key=key, tables={"contracts": table})
        text = f"INSERT INTO contracts (tenant_id) VALUES ('{written}')"
        if passes:
            assert gate(text, (), made).kind == "insert"
        else:
            with pytest.raises(StatementRefused, match="own key"):
                gate(text, (), made)


def test_ids_that_are_always_generated_are_left_to_us() -> None:
    always = replace(SURFACE.tables["contracts"], always=frozenset({"id"}))
    made = replace(SURFACE, tables={**SURFACE.tables, "contracts": always})
    for text in (
        "INSERT INTO contracts (id, code) VALUES (1, 'a')",
        "INSERT INTO contracts (code) OVERRIDING USER VALUE VALUES ('a')",
        "INSERT INTO contracts DEFAULT VALUES",
        "MERGE INTO contracts c USING invoices i ON false WHEN NOT MATCHED THEN INSERT (id) VALUES (1)",
    ):
        with pytest.raises(StatementRefused, match="always generated"):
            gate(text, (), made)
    for text in (
        "INSERT INTO contracts (code, meta[length(')')]) # VALUES ('a', '1')",
        "MERGE INTO contracts c USING invoices i ON false WHEN NOT MATCHED THEN INSERT (code)# VALUES (i.number)",
    ):
        gated = gate(text.replace("#", ""), (), made)
        assert gated.overriding == (text.index("#") - text.count(" #"),)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ('UPDATE contracts"a" SET note=note', 'UPDATE "y"."contracts" "a" SET note=note'),
        ('UPDATE"contracts"SET note=note', 'UPDATE"y"."contracts"SET note=note'),
        (
            "INSERT INTO contracts(id,code)VALUES(9,'c')",
            """INSERT INTO "y"."contracts"(id,code) OVERRIDING SYSTEM VALUE VALUES(9,'c')""",
        ),
        (
            "INSERT INTO contracts(id,code)SELECT 9,'c'",
            """INSERT INTO "y"."contracts"(id,code) OVERRIDING SYSTEM VALUE SELECT 9,'c'""",
        ),
    ],
)
def test_what_is_put_in_stays_apart_from_what_follows(text: str, rendered: str) -> None:
    always = replace(SURFACE.tables["contracts"], always=frozenset({"id"}))
    of = replace(SURFACE, tables={**SURFACE.tables, "contracts": always})
    gated = gate(text, (), of, limits=GateLimits(give_ids=True))
    assert render(gated, {"contracts": "y"}).decode() == rendered


def test_a_default_that_a_view_does_not_have_is_refused_in_an_update() -> None:
    drawn = replace(SURFACE.tables["contracts"], defaults={"note": "'none'::text"})
    made = replace(SURFACE, tables={**SURFACE.tables, "contracts": drawn})
    with pytest.raises(StatementRefused, match="would write NULL"):
        gate("UPDATE contracts SET note = DEFAULT", (), made)
    gate("UPDATE contracts SET note = DEFAULT", (), SURFACE)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(StatementRefused, match="not text"):
        gate(b"SELECT 1", (), SURFACE)  # type: ignore[arg-type]


def test_limits_come_from_the_caller() -> None:
    with pytest.raises(StatementRefused, match="20 bytes long; 10 are allowed"):
        gate("SELECT 1234567890123", (), SURFACE, limits=GateLimits(max_bytes=10))
