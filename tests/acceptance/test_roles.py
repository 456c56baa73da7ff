"""A role's limits through the real client and Postgres: tenants, writable columns, rows, time; and free SQL apart."""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.types import TextContent

from mcp_server.demo.business import STORIES
from mcp_server.demo.stage import Stage, staged

TENANT = str(STORIES.tenant_id)
LIMITS = """
[roles.intern]
permissions = ["dry_run.start", "dry_run.diff", "contracts.*"]
confirm = []
[roles.practice]
permissions = ["contracts.*"]
limits = {{ tenants = ["{tenant}"] }}
[roles.trainee]
permissions = ["dry_run.*"]
limits = {{ tenants_query = "SELECT id FROM tenants WHERE id = {tenant} AND %(person)s = 'intern'", writes = ["accounts.name"], rows_per_step = 3, statement_timeout_s = 1 }}
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("roles")) as stage:
        text = stage.config.read_text()
        begin, end = text.index("[roles.intern]"), text.index("[roles.rep]")
        stage.config.write_text(text[:begin] + LIMITS.format(tenant=TENANT) + text[end:])
        yield stage


@asynccontextmanager
async def client_of(stage: Stage, person: str, **more: str) -> AsyncIterator[Client]:
    environment = {"SHADOWDESK_STDIO__PERSON": person, **more, "HOME": os.environ["HOME"]}
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "mcp_server", "stdio", "--no-pages", "--config", str(stage.config)],
        env=environment, cwd=stage.folder,
    )  # fmt: skip
    async with Client(server) as client:
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> tuple[bool, str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert isinstance(answer.content[0], TextContent)
    return not answer.is_error, answer.content[0].text, answer.structured_content


@pytest.mark.anyio
async def test_limits_hold_for_every_verb(stage: Stage) -> None:
    other = str(stage.production(f"SELECT id FROM tenants WHERE id <> {TENANT} ORDER BY id LIMIT 1")[0][0])
    words = {"request": "please", "purpose": "test"}
    async with client_of(stage, "engineer") as engineer:
        good, _, started = await call(engineer, "start_dry_run", tenant=other, **words)
        assert good
        foreign = started["dry_run"]["id"]
    trainee = {"SHADOWDESK_PEOPLE__INTERN__ROLE": "trainee"}
    async with client_of(stage, "intern", **trainee) as client:
        _, _, found = await call(client, "find_tenant", text=other)
        assert found["tenants"] == []
        _, _, found = await call(client, "find_tenant", text=TENANT)
        assert [one["key"] for one in found["tenants"]] == [TENANT]
        good, why, _ = await call(client, "start_dry_run", tenant=other, **words)
        assert not good and "no tenant with that key" in why
        good, why, _ = await call(client, "show_diff", dry_run_id=foreign)
        assert not good and "no dry run" in why
        good, _, started = await call(client, "start_dry_run", tenant=TENANT, **words)
        assert good
        run = {"dry_run_id": started["dry_run"]["id"], "reason": "as asked"}
        few = "id IN (SELECT id FROM accounts ORDER BY id LIMIT 1)"
        good, why, _ = await call(client, "run_statement", sql=f"UPDATE accounts SET name = 'x' WHERE {few}", **run)
        assert good, why
        for sql in ("UPDATE contracts SET code = 'x'", f"DELETE FROM accounts WHERE {few}",
                    "INSERT INTO accounts (name) VALUES ('x')"):  # fmt: skip
            good, why, _ = await call(client, "run_statement", sql=sql, **run)
            assert not good and "may not change" in why, why
        slow = (
            "SELECT count(*) FROM generate_series(1, 10000) a, generate_series(1, 10000) b, generate_series(1, 100) c"
        )
        good, why, _ = await call(client, "query_shadow", dry_run_id=run["dry_run_id"], sql=slow)
        assert not good and "57014" in why, why
        _, _, diff = await call(client, "show_diff", dry_run_id=run["dry_run_id"])
        assert diff["diff"]["total_rows"] == 1


@pytest.mark.anyio
async def test_free_sql_is_a_permission_of_its_own(stage: Stage) -> None:
    async with client_of(stage, "intern") as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert "correct_signatory_on_contract" in tools
        assert not tools & {"run_statement", "query_shadow", "undo_statement"}
        good, why, _ = await call(client, "run_statement", dry_run_id="dr_x", sql="SELECT 1", reason="try")
        assert not good and "no tool 'run_statement'" in why
        good, _, _ = await call(client, "start_dry_run", tenant=TENANT, request="please", purpose="test")
        assert good


@pytest.mark.anyio
async def test_a_domain_tool_does_not_tell_whether_another_tenants_row_is_there(stage: Stage) -> None:
    foreign = stage.production(f"SELECT min(id) FROM contracts WHERE tenant_id <> {TENANT}")[0][0]
    told = []
    async with client_of(stage, "intern", SHADOWDESK_PEOPLE__INTERN__ROLE="practice") as client:
        for contract in (str(foreign), "999999999"):
            words = {"contract_id": contract, "new_signatory_id": "1", "request": "please", "reason": "asked"}
            good, why, _ = await call(client, "correct_signatory_on_contract", **words)
            assert not good
            told.append(why)
    assert told[0] == told[1]


@pytest.mark.anyio
async def test_a_step_of_too_many_rows_is_taken_back_and_the_policy_version_is_kept(stage: Stage) -> None:
    from mcp_server.assembly import open_desk
    from mcp_server.policy import policy_version
    from mcp_server.settings import load_settings

    trainee = {"SHADOWDESK_PEOPLE__INTERN__ROLE": "trainee"}
    async with client_of(stage, "intern", **trainee) as client:
        _, _, started = await call(client, "start_dry_run", tenant=TENANT, request="please", purpose="test")
        run = {"dry_run_id": started["dry_run"]["id"], "reason": "as asked"}
        count = stage.production(f"SELECT count(*) FROM accounts WHERE tenant_id = {TENANT}")[0][0]
        assert count > 3
        good, why, _ = await call(client, "run_statement", sql="UPDATE accounts SET name = name || 'x'", **run)
        assert not good and "may change 3" in why
        _, _, diff = await call(client, "show_diff", dry_run_id=run["dry_run_id"])
        assert diff["diff"]["total_rows"] == 0
        one = "UPDATE accounts SET name = 'y' WHERE id = (SELECT min(id) FROM accounts)"
        good, why, _ = await call(client, "run_statement", sql=one, **run)
        assert good, why
        good, why, proposed = await call(client, "propose", dry_run_id=run["dry_run_id"])
        assert good, why
    settings = load_settings(stage.config)
    with open_desk(settings, applier=False) as assembly:
        assert assembly.control.proposal(proposed["id"]).policy_version == policy_version(settings)
