"""Whether a change reads a masked column, judged beside Postgres' own column privileges: nothing it denies passes.

A role that may set every column but select only those that are not masked is the reference (Postgres docs, GRANT): what
the executor denies to it reads a masked column.
"""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from shadow.errors import StatementRefused
from shadow.gate import gate
from shadow.gate_masks import refuse_masked_reads
from tests.postgres import MakeDatabase
from tests.tampering.surface import FOLDER, entries, surface

SURFACE = surface()
MASKED = {"contracts": {"customer", "meta", "code"}, "line_items": {"price"}, "invoices": {"ext_ref"}}

READING = [
    "UPDATE contracts SET note = customer",
    "UPDATE contracts c SET note = c.customer",
    "UPDATE contracts SET note = 'x' WHERE customer LIKE 'a%'",
    "UPDATE contracts SET note = 'x' RETURNING customer",
    "UPDATE contracts SET note = 'x' RETURNING *",
    "UPDATE contracts c SET note = 'x' RETURNING c",
    "UPDATE contracts c SET note = to_jsonb(c)::text",
    "UPDATE contracts SET note = (SELECT max(customer) FROM contracts)",
    "UPDATE contracts SET note = x.a FROM (SELECT id, customer AS a FROM contracts) x WHERE x.id = contracts.id",
    "UPDATE contracts SET note = x.sku FROM line_items x WHERE x.contract_id = contracts.id AND x.price > 3",
    "UPDATE contracts SET customer = customer || 'x'",
    "UPDATE contracts SET meta = meta || '{}'",
    "UPDATE contracts SET meta['a'] = '1'",
    "UPDATE contracts SET note = meta ->> 'a'",
    "UPDATE contracts SET (note, customer) = (SELECT code, 'x')",
    "DELETE FROM contracts WHERE customer = 'a'",
    "DELETE FROM contracts c USING line_items l WHERE l.contract_id = c.id AND l.price = 0",
    "DELETE FROM contracts c USING line_items l WHERE l = l AND l.contract_id = c.id",
    "DELETE FROM contracts WHERE id IN (SELECT contract_id FROM line_items ORDER BY price LIMIT 1)",
    "DELETE FROM contracts WHERE EXISTS (SELECT FROM line_items l WHERE l.contract_id = contracts.id GROUP BY l.price)",
    "INSERT INTO line_items (contract_id, sku) SELECT id, customer FROM contracts ORDER BY id",
    "INSERT INTO line_items (contract_id, sku) SELECT max(contract_id), 'x' FROM line_items l HAVING max(l.price) > 1",
    "INSERT INTO line_items (contract_id, sku) WITH x AS (TABLE contracts) SELECT id, 'x' FROM x ORDER BY id",
    "INSERT INTO line_items (contract_id, sku) VALUES (17, 'q') ON CONFLICT (contract_id, sku) DO UPDATE SET note = line_items.price::text",
    "UPDATE line_items SET note = 'x' FROM contracts NATURAL JOIN invoices WHERE line_items.contract_id = contracts.id",
    "UPDATE line_items SET note = x.f FROM contracts AS x(a, b, c, f) WHERE x.a = line_items.contract_id",
    "WITH x AS (UPDATE contracts SET note = 'a' RETURNING customer) DELETE FROM line_items USING x WHERE sku = x.customer",
]
SETTING = [
    "UPDATE contracts SET customer = 'x'",
    "UPDATE contracts SET customer = 'x', note = status::text WHERE id = 17",
    "UPDATE contracts SET meta = '{}', code = 'C-' || id",
    "UPDATE contracts SET (customer, note) = ('x', 'y') RETURNING id, note",
    "DELETE FROM contracts WHERE id = 17",
    "DELETE FROM line_items l USING contracts c WHERE c.id = l.contract_id AND c.status = 'draft'",
    "INSERT INTO line_items (contract_id, sku, price) VALUES (17, 'new', 3) RETURNING id",
    "INSERT INTO line_items (contract_id, sku, price) VALUES (17, 'new', 3) ON CONFLICT (contract_id, sku) DO UPDATE SET price = excluded.price",
    "INSERT INTO line_items (contract_id, sku, price) SELECT id, 'n', 3 FROM contracts ORDER BY id",
    "WITH x AS (SELECT id FROM contracts WHERE note IS NULL) UPDATE contracts SET customer = 'y' FROM x WHERE x.id = contracts.id",
]


@pytest.fixture(scope="module")
def app() -> str:
    return (FOLDER / "app.sql").read_text()


def hides(table: str, column: str) -> bool:
    return column in MASKED.get(table, ())


def is_refused(text: str, params: tuple[str | None, ...] = ()) -> bool:
    gated = gate(text, params, SURFACE)
    try:
        refuse_masked_reads(gated, SURFACE, hides)
    except StatementRefused as error:
        return "masked for you" in str(error)
    return False


@pytest.fixture
def reference(database: MakeDatabase, app: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """The corpus' app as a role that may set every column and select the ones that are not masked."""
    url = database(app)
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE plans (id integer, name text)")
        conn.execute("CREATE ROLE reads_unmasked")
        for name, table in SURFACE.tables.items():
            columns = sql.SQL(", ").join(sql.Identifier(c) for c in table.columns if not hides(name, c))
            target = sql.Identifier(name)
            conn.execute(
                sql.SQL("GRANT SELECT ({}), INSERT, UPDATE, DELETE ON {} TO reads_unmasked").format(columns, target)
            )
        conn.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO reads_unmasked")
        conn.execute("SET ROLE reads_unmasked")
        yield conn
        conn.rollback()


def denied(conn: psycopg.Connection[tuple[object, ...]], text: str, params: tuple[str | None, ...]) -> bool:
    """Whether the executor's check at the start denies it; the statement itself is not run."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            conn.execute(b"PREPARE one AS " + text.encode())
            given = ", ".join("NULL" for _ in params)
            conn.execute(f"EXPLAIN EXECUTE one{f'({given})' if given else ''}".encode())
    except psycopg.errors.InsufficientPrivilege:
        return True
    except psycopg.Error:
        return False
    finally:
        conn.execute("DEALLOCATE ALL")
    return False


def changes() -> Iterator[tuple[str, tuple[str | None, ...]]]:
    """The changes of the corpus that the gate lets by, and the ones above."""
    for entry in entries():
        for text in entry.statements:
            try:
                gated = gate(text, entry.params, SURFACE)
            except StatementRefused:
                continue
            if gated.kind != "select":
                yield text, entry.params
    yield from ((text, ()) for text in (*READING, *SETTING))


def test_what_postgres_denies_is_refused(reference: psycopg.Connection[tuple[object, ...]]) -> None:
    judged = [(text, denied(reference, text, params), is_refused(text, params)) for text, params in changes()]
    passed = [text for text, reads, refused in judged if reads and not refused]
    # EXCLUDED is the row that the statement itself proposes: Postgres counts it as reading the column, we do not
    assert [text for text in passed if "excluded." not in text.lower()] == []
    assert len(passed) == 2
    assert sum(reads for _, reads, _ in judged) >= len(READING), "the reference denies too little to judge by"
    assert sum(not reads and not refused for _, reads, refused in judged) > 50, "too much is refused to judge by"


@pytest.mark.parametrize("text", READING)
def test_reading_is_refused(text: str) -> None:
    assert is_refused(text)


@pytest.mark.parametrize("text", SETTING)
def test_setting_is_not(text: str) -> None:
    assert not is_refused(text)
