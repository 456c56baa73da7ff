"""docker/compose.yaml is started as docs/deploy.md tells, used by a person and their model, stopped and started again."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.composition.desk import Desk, compose_command
from tests.composition.stand_ins import official_names

SERVICES = ("production", "sandbox", "control", "server")
RAISE = "UPDATE contracts SET monthly = monthly + 1"


@pytest.fixture(scope="module")
def desk(docker_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The composition, up; one at a time on this machine."""
    desk = Desk(tmp_path_factory.mktemp("composition"), compose_command())
    lock = Path(tempfile.gettempdir(), f"shadowdesk-tests-composition-{os.geteuid()}.lock")
    with lock.open("w") as alone, official_names(docker_image):
        fcntl.flock(alone, fcntl.LOCK_EX)
        try:
            desk.compose("down", "--volumes")  # of a run that was killed
            desk.up()
            yield desk
        finally:
            desk.compose("down", "--volumes", "--rmi", "local", check=False)


async def call(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error and result.structured_content is not None, result.content
    return result.structured_content


async def proposed(desk: Desk, token: str) -> dict[str, Any]:
    """A model's way from the rep's words to a proposal."""
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=60) as http,
        Client(streamable_http_client(f"{desk.base_url}/mcp", http_client=http)) as client,
    ):
        [hit] = (await call(client, "find_tenant", {"text": "birch"}))["tenants"]
        words = {"tenant": hit["key"], "request": "Birch agreed to one more a month", "purpose": "raise the rent"}
        dry_run = (await call(client, "start_dry_run", words))["dry_run"]["id"]
        await call(client, "run_statement", {"dry_run_id": dry_run, "sql": RAISE, "reason": "agreed by phone"})
        return await call(client, "propose", {"dry_run_id": dry_run})


def review(proposal: dict[str, Any]) -> str:
    return f"/review/{proposal['id']}"


def monthly(desk: Desk) -> str:
    return desk.sql("production", "SELECT string_agg(monthly::text, ' ' ORDER BY id) FROM contracts")


def the_server_finds_its_databases_and_the_sandbox_finds_no_one(desk: Desk) -> None:
    for other in ("production", "sandbox", "control"):
        assert desk.inside("server", "getent", "hosts", other).stdout
    # by name: what keeps numbers apart are the engine's packet filters, which an engine for tests may lack
    assert desk.inside("sandbox", "timeout", "2", "getent", "hosts", "production", check=False).returncode in (2, 124)
    networks = {name: set(desk.inspect(name)["NetworkSettings"]["Networks"]) for name in SERVICES}
    assert len(networks["server"]) == 4
    assert not networks["sandbox"] & (networks["production"] | networks["control"])


def the_doctor_finds_all_in_order(desk: Desk) -> None:
    doctor = desk.inside("server", "shadowdesk", "doctor", check=False)
    assert doctor.returncode == 0, doctor.stdout
    assert "sandbox role may not reach" in doctor.stdout and "wall: " in doctor.stdout


def the_first_files_for_ones_own_production_come_out_of_the_image(desk: Desk) -> None:
    url = f"postgresql://app_owner:{desk.password('APP_PASSWORD')}@production/app"
    once = ("run", "--rm", "--no-deps", "-T", "server")
    assert 'CREATE ROLE "shadowdesk_reader"' in desk.compose(*once, "install", "--owner-url", url).stdout
    first = desk.compose(*once, "init", "--output", "/dev/stdout", "--force").stdout
    assert 'root = "customers"' in first


def every_service_is_shut_in_as_written_and_well(desk: Desk) -> None:
    host = {service: desk.inspect(service)["HostConfig"] for service in SERVICES}
    assert all("no-new-privileges:true" in one["SecurityOpt"] and one["Memory"] for one in host.values())
    assert host["server"]["ReadonlyRootfs"] and host["server"]["CapDrop"] == ["ALL"]
    assert desk.inside("server", "id", "-u").stdout.strip() == "10001"
    assert desk.inside("server", "touch", "/etc/shadowdesk/x", check=False).returncode != 0
    assert [
        line.split()[0] for line in desk.inside("sandbox", "df", "/var/lib/postgresql").stdout.splitlines()[1:]
    ] == ["tmpfs"]
    assert {service: desk.health(service) for service in SERVICES} == dict.fromkeys(SERVICES, "healthy")


async def a_fix_reaches_production_by_a_persons_yes_and_outlives_the_containers(desk: Desk) -> None:
    token = desk.token()
    before = monthly(desk)
    assert before == "50.00 60.00 70.00"
    proposal = await proposed(desk, token)
    assert monthly(desk) == before
    browser = desk.browser()
    browser.confirm(review(proposal), proposal["rows"])
    assert monthly(desk) == "50.00 61.00 70.00"
    browser.close()

    desk.compose("down")  # the volumes stay
    desk.compose("up", "--detach")
    assert monthly(desk) == "50.00 61.00 70.00"
    assert desk.sql("production", "SELECT count(*) FROM shadowdesk.receipts") == "1"
    again = desk.browser()
    assert "applied" in again.read(review(proposal))
    second = await proposed(desk, token)  # the token still opens, on a sandbox that is empty again
    again.confirm(review(second), second["rows"])
    again.close()
    assert monthly(desk) == "50.00 62.00 70.00"
    assert desk.inside("server", "shadowdesk", "audit", "verify").stdout.startswith("verified: ")


@pytest.mark.anyio
async def test_a_new_operator_gets_a_desk_that_works_and_lasts(desk: Desk) -> None:
    """One test, so that one worker of a run starts the composition, once."""
    the_server_finds_its_databases_and_the_sandbox_finds_no_one(desk)
    the_doctor_finds_all_in_order(desk)
    the_first_files_for_ones_own_production_come_out_of_the_image(desk)
    every_service_is_shut_in_as_written_and_well(desk)
    await a_fix_reaches_production_by_a_persons_yes_and_outlives_the_containers(desk)
