"""Masked columns through the real client: no way of asking shows a value to a model, and no mask is written back."""

import json
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.types import TextContent

from mcp_server.demo.business import STORIES
from mcp_server.demo.stage import Stage, staged

ROOT = Path(__file__).parents[2]
TENANT = str(STORIES.tenant_id)
MASK = re.compile(r"masked#[0-9a-f]{16}")
MASKING = '\n[masking]\ncolumns = ["signatories.email", "*.contracted_total", "contracts.terms"]\n'


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("masking"), MASKING) as stage:
        yield stage


@pytest.fixture(scope="module")
def secrets(stage: Stage) -> list[str]:
    """Every value of the tenant that no model may see."""
    found = stage.production(
        f"SELECT email FROM signatories WHERE tenant_id = {TENANT}"
        f" UNION SELECT contracted_total::text FROM accounts WHERE tenant_id = {TENANT} AND contracted_total <> 0"
        f" UNION SELECT terms::text FROM contracts WHERE tenant_id = {TENANT} AND terms <> '{{}}'"
    )
    assert len(found) > 3
    return [str(row[0]) for row in found]


class Listener:
    """A client that keeps everything it was ever told."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.heard: list[str] = []

    async def call(self, tool: str, **arguments: Any) -> tuple[bool, str, Any]:
        async def progress(done: float, total: float | None, message: str | None) -> None:
            self.heard.append(str(message))

        answer = await self.client.call_tool(tool, arguments, progress_callback=progress)
        assert isinstance(answer.content[0], TextContent)
        self.heard += [answer.content[0].text, json.dumps(answer.structured_content, ensure_ascii=False)]
        return not answer.is_error, answer.content[0].text, answer.structured_content

    async def column(self, dry_run_id: str, sql: str) -> list[Any]:
        good, why, found = await self.call("query_shadow", dry_run_id=dry_run_id, sql=sql, limit=500)
        assert good, why
        return [row[0] for row in found["rows"]]


@asynccontextmanager
async def listening(stage: Stage, person: str = "rep") -> AsyncIterator[tuple[Listener, str]]:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "mcp_server", "stdio", "--no-pages", "--config", str(stage.config)],
        env={
            "SHADOWDESK_STDIO__PERSON": person, "HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT),
            "SHADOWDESK_TOOLS__MODULES": json.dumps(["tests.acceptance.masking_tools"]),
        }, cwd=stage.folder,
    )  # fmt: skip
    async with Client(server) as client:
        listener = Listener(client)
        _, _, made = await listener.call("start_dry_run", tenant=TENANT, request="please", purpose="test")
        yield listener, made["dry_run"]["id"]


QUERIES = [
    "SELECT * FROM signatories ORDER BY id",
    "SELECT email FROM signatories",
    "SELECT upper(email), left(email, 1), length(email) FROM signatories",
    "SELECT s FROM signatories s",
    "SELECT to_jsonb(s) FROM signatories s",
    "SELECT string_agg(email, ',') FROM signatories",
    "SELECT max(email), min(email) FROM signatories",
    "WITH x AS (SELECT email AS e FROM signatories) SELECT e FROM x",
    "SELECT contracted_total, contracted_total || '' FROM accounts",
    "SELECT terms FROM contracts",
    "SELECT a.name, s.email FROM accounts a JOIN signatories s ON s.account_id = a.id",
    "SELECT x.c FROM signatories AS x(a, b, d, e, c)",
    "SELECT row_to_json(x) FROM (SELECT * FROM accounts) x",
]
#: Casts whose error messages would tell a value.
TELLING = [
    "SELECT email::int FROM signatories",
    "SELECT (email || 'x')::date FROM signatories",
    "SELECT contracted_total::boolean FROM accounts",
]
#: Changes that read what they may not.
COPYING = [
    "UPDATE signatories SET office = email",
    "UPDATE signatories s SET office = s.email",
    "UPDATE signatories SET office = 'x' WHERE email LIKE 'a%'",
    "UPDATE signatories SET office = 'x' RETURNING email",
    "UPDATE signatories SET office = 'x' RETURNING *",
    "UPDATE signatories s SET office = 'x' RETURNING s",
    "UPDATE signatories s SET office = to_jsonb(s)::text",
    "UPDATE signatories SET office = (signatories).email",
    "UPDATE accounts SET name = (SELECT max(email) FROM signatories)",
    "UPDATE accounts SET name = x.a FROM (SELECT email AS a FROM signatories) x",
    "UPDATE accounts SET name = x.e FROM signatories AS x(a, b, c, d, e) WHERE x.c = accounts.id",
    "DELETE FROM signatories WHERE email > 'm'",
    "UPDATE accounts SET name = 'x' FROM (SELECT * FROM signatories) x WHERE x.account_id = accounts.id",
    "INSERT INTO accounts (name, currency, plan_id) SELECT email, 'EUR', 1 FROM signatories ORDER BY id",
    "UPDATE accounts SET contracted_total = contracted_total + 1",
    "UPDATE contracts SET code = terms ->> 'x'",
]


@pytest.mark.anyio
async def test_no_way_of_asking_shows_a_value(stage: Stage, secrets: list[str]) -> None:
    async with listening(stage) as (listener, dry_run):
        for sql in QUERIES:
            good, why, _ = await listener.call("query_shadow", dry_run_id=dry_run, sql=sql)
            assert good, (sql, why)
        for sql in TELLING:
            good, why, _ = await listener.call("query_shadow", dry_run_id=dry_run, sql=sql)
            assert not good, sql
        for sql in COPYING:
            good, why, _ = await listener.call("run_statement", dry_run_id=dry_run, sql=sql, reason="try")
            assert not good and ("masked for you" in why or "(expression).name" in why), (sql, why)
        step = {"dry_run_id": dry_run, "reason": "as asked"}
        for sql in ("UPDATE signatories SET email = 'new@example.com'", "UPDATE accounts SET contracted_total = 1",
                    "UPDATE contracts SET terms = '{\"a\": 1}' WHERE id IN (SELECT min(id) FROM contracts)"):  # fmt: skip
            good, why, _ = await listener.call("run_statement", sql=sql, **step)
            assert good, why
        await listener.call("show_diff", dry_run_id=dry_run)
        await listener.call("show_diff", dry_run_id=dry_run, step=1)
        good, why, proposed = await listener.call("propose", dry_run_id=dry_run)
        assert good, why
        await listener.call("proposal_status", proposal_id=proposed["id"])
        _, why, branch = await listener.call("branch_dry_run", dry_run_id=dry_run, from_step=1)
        other = branch["branch"]["dry_run"]["id"]
        await listener.call("run_statement", dry_run_id=other, sql="UPDATE signatories SET email = 'z'", reason="so")
        good, why, _ = await listener.call("compare_dry_runs", dry_run_id=dry_run, other_dry_run_id=other)
        assert good, why
        found = await listener.client.read_resource(f"dryrun://{dry_run}/diff")
        listener.heard.append(found.model_dump_json())
        contract = stage.production(f"SELECT min(id) FROM contracts WHERE tenant_id = {TENANT}")[0][0]
        words = {"contract_id": str(contract), "request": "what are the terms", "reason": "asked"}
        good, why, own = await listener.call("read_terms", **words)
        assert good, why
        assert MASK.fullmatch(own["result"]["email"]) and MASK.fullmatch(own["result"]["terms"])
        good, why, _ = await listener.call("read_terms", refuse=True, **words)
        assert not good and MASK.search(why)
        await listener.call("describe_tables", tables=["signatories"])
        assert "Masked for you, may be set but not read by a change: email." in listener.heard[-2]
    everything = "\n".join(listener.heard)
    assert MASK.search(everything)
    told = [value for value in secrets if value in everything]
    assert told == []


@pytest.mark.anyio
async def test_masks_tell_equal_from_different_and_only_within_one_dry_run(stage: Stage) -> None:
    async with listening(stage) as (listener, dry_run):
        query = "SELECT email FROM signatories ORDER BY id"
        real = [
            row[0] for row in stage.production(f"SELECT email FROM signatories WHERE tenant_id = {TENANT} ORDER BY id")
        ]
        masks = await listener.column(dry_run, query)
        assert all(MASK.fullmatch(one) for one in masks)
        assert [masks.index(one) for one in masks] == [real.index(one) for one in real]
        assert await listener.column(dry_run, query) == masks
        one = f"SELECT count(*) FROM signatories WHERE email = '{masks[0]}'"
        assert await listener.column(dry_run, one) == [str(real.count(real[0]))]
        _, _, made = await listener.call(
            "run_statement", dry_run_id=dry_run, sql="UPDATE signatories SET email = email_new FROM"
            " (VALUES ('same@example.com')) v(email_new)", reason="as asked",
        )  # fmt: skip
        cells = [cell for row in made["step"]["diff"]["rows"] for cell in row["cells"] if cell["column"] == "email"]
        assert {cell["before"] for cell in cells} < set(masks), "the diff masks as the query does"
        assert len({cell["after"] for cell in cells}) == 1
        assert await listener.column(dry_run, "SELECT DISTINCT email FROM signatories") == [cells[0]["after"]]
    async with listening(stage) as (listener, other):
        assert set(await listener.column(other, query)).isdisjoint(masks)


@pytest.mark.anyio
async def test_a_mask_is_never_written_back(stage: Stage) -> None:
    async with listening(stage) as (listener, dry_run):
        [mask, *_] = await listener.column(dry_run, "SELECT email FROM signatories ORDER BY id")
        for sql, params in ((f"UPDATE signatories SET email = '{mask}'", []), (f"UPDATE accounts SET name = 'x{mask}y'", []),
                            ("UPDATE signatories SET email = $1", [mask])):  # fmt: skip
            good, why, _ = await listener.call("run_statement", dry_run_id=dry_run, sql=sql, params=params, reason="no")
            assert not good and "holds a mask" in why
        _, _, diff = await listener.call("show_diff", dry_run_id=dry_run)
        assert diff["diff"]["total_rows"] == 0


@pytest.mark.anyio
async def test_the_page_shows_values_to_those_whose_role_may_see_them(stage: Stage) -> None:
    text = stage.config.read_text()
    assert re.search(r'"audit.read"\]\nconfirm = \["self", "second", "engineer"\]\nsees_masked = true', text)
    before = str(stage.production(f"SELECT min(email) FROM signatories WHERE tenant_id = {TENANT}")[0][0])
    async with listening(stage) as (listener, dry_run):
        sql = "UPDATE signatories SET email = 'q' || id || '@example.com' "
        good, why, _ = await listener.call("run_statement", dry_run_id=dry_run, sql=sql, reason="as asked")
        assert good, why
        _, _, proposed = await listener.call("propose", dry_run_id=dry_run)
    pages = {}
    for person in ("rep", "engineer"):
        browser = stage.browser(person)
        pages[person] = browser.read(f"/review/{proposed['id']}")
        browser.close()
    assert before in pages["engineer"] and not MASK.search(pages["engineer"])
    assert before not in pages["rep"] and MASK.search(pages["rep"])


@pytest.mark.parametrize("columns", ["signatories.emial", "nothing.email", "tenants.name", "contracts.id", "*.*"])
@pytest.mark.anyio
async def test_a_masked_column_that_cannot_be_masked_stops_everything(stage: Stage, columns: str) -> None:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "mcp_server", "stdio", "--no-pages", "--config", str(stage.config)],
        env={"SHADOWDESK_MASKING__COLUMNS": json.dumps([columns]), "HOME": os.environ["HOME"]}, cwd=stage.folder,
    )  # fmt: skip
    async with Client(server) as client:
        answer = await client.call_tool("start_dry_run", {"tenant": TENANT, "request": "please", "purpose": "test"})
    assert answer.is_error
    assert "mask" in answer.content[0].text  # type: ignore[union-attr]


def test_one_hash_in_two_places(stage: Stage) -> None:
    """The mask of Python and the one of the shadow's function are the same for any text."""
    import psycopg

    from shadow.masking import mask
    from shadow.sql import block

    key = bytes(range(32))
    with psycopg.connect(stage.server.owner_url) as conn:
        conn.execute("CREATE SCHEMA shadowdesk")
        conn.execute(block("mask_key"))
        conn.execute("INSERT INTO shadowdesk.mask_key(key) VALUES (%s)", (key,))
        conn.execute(block("mask_function"))
        for value in ("", "a", "ä€😀", "x" * 5000, "masked#0123456789abcdef", "line\nbreak"):
            assert conn.execute("SELECT shadowdesk.mask(%s)", (value,)).fetchone() == (mask(value, key),)
        assert conn.execute("SELECT shadowdesk.mask(NULL)").fetchone() == (None,)
        conn.rollback()


@pytest.mark.anyio
async def test_an_inverse_puts_values_back_and_shows_masks(stage: Stage) -> None:
    row = stage.production(f"SELECT max(id) FROM signatories WHERE tenant_id = {TENANT}")[0][0]
    look = f"SELECT email FROM signatories WHERE id = {row}"
    before = stage.production(look)
    rep = stage.browser("rep")
    async with listening(stage) as (listener, dry_run):
        sql = f"UPDATE signatories SET email = 'moved@example.com' WHERE id = {row}"
        await listener.call("run_statement", dry_run_id=dry_run, sql=sql, reason="as asked")
        _, _, proposed = await listener.call("propose", dry_run_id=dry_run)
        rep.confirm(f"/review/{proposed['id']}", 1)
        assert stage.production(look) == [("moved@example.com",)]
        good, why, made = await listener.call("revert", proposal_id=proposed["id"], request="take it back")
        assert good, why
        _, _, inverse = await listener.call("propose", dry_run_id=made["dry_run"]["id"])
        params = [param for one in inverse["statements"] for param in one["params"]]
        assert params and all(MASK.fullmatch(param) for param in params if param is not None)
        await listener.call("proposal_status", proposal_id=inverse["id"])
        assert str(before[0][0]) not in "\n".join(listener.heard)
        rep.confirm(f"/review/{inverse['id']}", 1)
    rep.close()
    assert stage.production(look) == before, "the value itself is back, not its mask"


@pytest.mark.anyio
async def test_what_a_query_looked_at_is_asked_of_masks_as_well(stage: Stage) -> None:
    """A condition that only the values meet looked at nothing: freshness must not answer it either."""
    async with listening(stage) as (listener, dry_run_id):
        assert await listener.column(dry_run_id, "SELECT id FROM signatories WHERE email LIKE '%@%'") == []
        good, why, _ = await listener.call(
            "run_statement", dry_run_id=dry_run_id, reason="a change elsewhere",
            sql="UPDATE accounts SET name = name || '!' WHERE id = (SELECT min(id) FROM accounts)",
        )  # fmt: skip
        assert good, why
        good, why, made = await listener.call("propose", dry_run_id=dry_run_id)
        assert good, why
        stage.change_production(f"UPDATE signatories SET office = office || '.' WHERE tenant_id = {TENANT}")
        _, _, status = await listener.call("proposal_status", proposal_id=made["id"])
        assert status["freshness"] == []
