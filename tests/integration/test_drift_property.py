"""Random fixes of random tenants against random concurrent edits: a conflict is always found, what is none never
blocks, and no other tenant's row is ever written.

Production is read by nobody of ours. A refusal has to be right: the same statements rehearsed again on the edited rows
must then touch other rows, or leave them otherwise.
"""

from collections.abc import Iterator
from typing import TypeAlias

import psycopg
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mcp_server.production import ProductionSettings
from shadow.embedded import EmbeddedServer
from shadow.errors import Diverged, Drifted, ShadowError, StatementFailed
from shadow.fence import FenceRules
from shadow.replay import Frozen
from tests.integration.test_revert import SHOP
from tests.lifecycle import Lifecycle, installed
from tests.postgres import databases_of

Rows: TypeAlias = dict[tuple[str, str], tuple[str | None, ...]]

TABLES = ("accounts", "contracts", "lines")
DEFINITIONS, FILL = SHOP.split("INSERT INTO tenants", 1)
AGAIN = (
    "DELETE FROM lines; DELETE FROM contracts; DELETE FROM accounts; DELETE FROM tenants;"
    " SELECT setval('accounts_id_seq', 1, false), setval('contracts_id_seq', 1, false), setval('lines_id_seq', 1, false);"
    " INSERT INTO tenants" + FILL
)
#: Accounts with an even id are tenant 1's, as are the contracts 1, 3, 5… that hang on them.
FIXES = (
    "UPDATE accounts SET note = 'n{n}' WHERE id <= {a}",
    "UPDATE accounts SET note = 'm{n}' WHERE parent_id IS NOT NULL OR id = {a}",
    "UPDATE contracts SET active = NOT active WHERE id >= {c}",
    "UPDATE contracts SET tags = tags || 'n{n}'::text WHERE account_id = {a}",
    "UPDATE contracts SET terms = '{{\"n\": {n}}}' WHERE id IN (SELECT contract_id FROM lines WHERE position = {p})",
    "UPDATE lines SET amount = amount + {n} WHERE contract_id = {c}",
    "UPDATE lines SET amount = 0 WHERE position = {p} AND contract_id IN (SELECT id FROM contracts WHERE active)",
    "DELETE FROM lines WHERE position = {p} AND contract_id <= {c}",
    "DELETE FROM contracts WHERE id = {c}",
)
EDITS = (
    "UPDATE accounts SET note = 'e{n}' WHERE id = {x}",
    "UPDATE accounts SET parent_id = {x} WHERE id = {a}",
    "UPDATE contracts SET active = NOT active WHERE id = {y}",
    "UPDATE contracts SET account_id = {x} WHERE id = {y}",
    "INSERT INTO contracts(account_id, code) VALUES ({x}, 'code {n}') ON CONFLICT DO NOTHING",
    "INSERT INTO lines(contract_id, position, amount) VALUES ({y}, {p}, {n}) ON CONFLICT DO NOTHING",
    "UPDATE lines SET amount = amount + {n} WHERE contract_id = {y} AND position = {p}",
    "UPDATE lines SET amount = amount WHERE contract_id = {y}",
    "DELETE FROM lines WHERE contract_id = {y} AND position = {p}",
)


@st.composite
def statement(draw: st.DrawFn, texts: tuple[str, ...]) -> str:
    return draw(st.sampled_from(texts)).format(
        a=draw(st.sampled_from((2, 4, 6, 8))), c=draw(st.sampled_from((1, 3, 5, 7, 9))), x=draw(st.integers(1, 8)),
        y=draw(st.integers(1, 16)), p=draw(st.integers(0, 3)), n=draw(st.integers(1, 9)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def shop(production_server: EmbeddedServer) -> Iterator[tuple[str, ProductionSettings]]:
    with databases_of(production_server) as make:
        url = make(DEFINITIONS)
        yield url, installed(url, FenceRules(root="tenants", label="name"))


def rows(url: str) -> Rows:
    found: Rows = {}
    with psycopg.connect(url) as conn:
        conn.execute("SET timezone = 'UTC'")
        for table in TABLES:
            columns = conn.execute(
                "SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute"
                " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped", (table,)
            ).fetchone()  # fmt: skip
            assert columns
            cells = ", ".join(f"{name}::text" for name in columns[0])
            for row in conn.execute(f"SELECT {cells} FROM {table}").fetchall():
                found[table, str(row[0])] = row
    return found


def of_others(url: str, tenant: str) -> list[str]:
    """Every row of the other tenants with who last wrote it, by joins that know nothing of our fence."""
    found: list[str] = []
    with psycopg.connect(url) as conn:
        for query in (
            "SELECT a.xmin::text || a::text FROM accounts a WHERE a.tenant_id <> %s::int",
            "SELECT c.xmin::text || c::text FROM contracts c JOIN accounts a ON a.id = c.account_id"
            " WHERE a.tenant_id <> %s::int",
            "SELECT l.xmin::text || l::text FROM lines l JOIN contracts c ON c.id = l.contract_id"
            " JOIN accounts a ON a.id = c.account_id WHERE a.tenant_id <> %s::int",
            "SELECT t.xmin::text || t::text FROM tenants t WHERE t.id <> %s::int",
        ):
            found += sorted(str(text) for (text,) in conn.execute(query, (tenant,)))
    return found


def apart(url: str, statements: list[str]) -> None:
    """Somebody else's edits, each in its own transaction; one that a constraint stops is none."""
    with psycopg.connect(url, autocommit=True) as conn:
        for text in statements:
            try:
                conn.execute(text.encode())
            except psycopg.errors.IntegrityError:
                continue


def rehearsed(life: Lifecycle, fixes: list[str]) -> Frozen | None:
    for text in fixes:
        try:
            life.run(text)
        except StatementFailed:
            continue
    return life.freeze()[0] if life.steps else None


def effect(frozen: Frozen) -> object:
    touched = [(row.table, row.key, row.before, row.after) for row in frozen.rows]
    return touched, frozen.row_counts, dict(frozen.counters), [r.gated.text for r in frozen.statements]


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    tenant=st.sampled_from(("1", "2")),
    fixes=st.lists(statement(FIXES), min_size=1, max_size=3),
    edits=st.lists(statement(EDITS), min_size=1, max_size=3),
)
def test_conflicts_are_always_found_and_nothing_else_blocks(
    shop: tuple[str, ProductionSettings], postgres_server: EmbeddedServer, tenant: str, fixes: list[str],
    edits: list[str],
) -> None:  # fmt: skip
    url, production = shop
    apart(url, [AGAIN])
    life = Lifecycle(settings=production, sandbox_server=postgres_server, tenant=tenant)
    again = None
    try:
        frozen = rehearsed(life, fixes)
        if frozen is None:
            return
        apart(url, edits)
        edited, others = rows(url), of_others(url, tenant)
        try:
            life.replay(frozen)
        except (Drifted, Diverged):
            event("refused")
            assert of_others(url, tenant) == others
            assert rows(url) == edited
            again = Lifecycle(settings=production, sandbox_server=postgres_server, tenant=tenant)
            try:
                now = rehearsed(again, fixes)
            except ShadowError:
                return
            assert now is None or effect(now) != effect(frozen), "refused without a conflict"
            return
        event("applied")
        assert of_others(url, tenant) == others
        for row in frozen.rows:
            place = (row.table, row.key[0])
            assert edited.get(place) == row.before, "a changed row was not noticed"
            edited.pop(place, None)
            if row.after is not None:
                edited[place] = row.after
        assert rows(url) == edited
    finally:
        life.close()
        if again is not None:
            again.close()
