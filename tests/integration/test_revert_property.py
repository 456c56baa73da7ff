"""For any fix, reverting it leaves production as it was: every row of every table, read by nobody of ours."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mcp_server.errors import WrongState
from shadow.embedded import EmbeddedServer
from shadow.errors import StatementFailed
from shadow.fence import FenceRules
from tests.control import roles_of
from tests.fixes import REP, WORDS, Fixes, fixes_on
from tests.integration.test_revert import SHOP
from tests.postgres import databases_of

ACCOUNTS = st.sampled_from((2, 4, 6, 8))
CONTRACTS = st.sampled_from((1, 3, 5, 7, "(SELECT max(id) FROM contracts)"))
NUMBERS = st.integers(0, 9)
STEPS = (
    "UPDATE accounts SET note = 'n{n}' WHERE id <= {a}",
    "UPDATE accounts SET name = 'name {n}', note = NULL WHERE id = {a}",
    "UPDATE accounts SET parent_id = {b} WHERE id = {a}",
    "INSERT INTO accounts(name, parent_id) VALUES ('new {n}', {a})",
    "INSERT INTO accounts(name, parent_id) SELECT 'child {n}', max(id) FROM accounts",
    "DELETE FROM accounts WHERE name LIKE 'new%'",
    "DELETE FROM accounts WHERE id = {a}",
    "INSERT INTO contracts(account_id, code, terms) VALUES ({a}, 'code {n}', '{{\"n\": {n}}}')",
    'INSERT INTO contracts(account_id, tags) SELECT max(id), \'{{"q \\"", NULL}}\' FROM accounts',
    "UPDATE contracts SET account_id = {a} WHERE account_id = {b}",
    "UPDATE contracts SET terms = jsonb_set(terms, '{{deep}}', '[{n}]'), active = NOT active WHERE id >= {c}",
    "UPDATE contracts SET code = NULL WHERE id = {c}",
    "UPDATE contracts SET code = 'c1' WHERE id = {c}",
    "DELETE FROM contracts WHERE id = {c}",
    "INSERT INTO lines(contract_id, position, amount) VALUES ({c}, {n}, {n}.25), ({c}, {n} + 20, -{n})",
    "UPDATE lines SET amount = amount + {n} WHERE contract_id = {c}",
    "UPDATE lines SET position = 100 + position, amount = 1 WHERE contract_id = {c}",
    "UPDATE lines SET position = position - 99 WHERE contract_id = {c} AND position >= 100",
    "UPDATE lines SET contract_id = {c}, position = position + 40 + {n} WHERE position = {n}",
    "DELETE FROM lines WHERE position = {n} OR contract_id = {c}",
)


@pytest.fixture(scope="module")
def shop(postgres_server: EmbeddedServer, production_server: EmbeddedServer, migrated_template: str) -> Iterator[Fixes]:
    with databases_of(production_server) as make_production, databases_of(postgres_server) as make_control:
        urls = roles_of(make_control(template=migrated_template))
        with fixes_on(make_production(SHOP), urls.control, postgres_server, FenceRules(root="tenants")) as made:
            yield made


@st.composite
def step(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(STEPS))
    return text.format(a=draw(ACCOUNTS), b=draw(ACCOUNTS), c=draw(CONTRACTS), n=draw(NUMBERS))


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(steps=st.lists(step(), min_size=2, max_size=8))
def test_a_revert_leaves_production_as_it_was(shop: Fixes, steps: list[str]) -> None:
    before = shop.rows()
    dry_run_id = shop.rehearse([])
    for text in steps:
        try:
            shop.desk.run(REP, dry_run_id, text, "as asked")
        except StatementFailed:
            continue
    try:
        proposal_id = shop.confirm(dry_run_id)
    except (WrongState, StatementFailed):
        shop.desk.discard(REP, dry_run_id)
        assume(False)
    made = shop.desk.revert(REP, proposal_id, WORDS)
    assert made.not_put_back == ()
    shop.confirm(made.dry_run.id)
    assert shop.rows() == before
