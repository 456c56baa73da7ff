"""Personal tokens from `shadowdesk token issue` to `/mcp`, through the real command, control database and client."""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mcp_server.demo.stage import Stage, staged
from tests.acceptance.identity_provider import ISSUER, IdentityProvider, identity_provider


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("tokens")) as stage:
        text = stage.config.read_text()
        stage.config.write_text(
            text.replace('"audit.read"]', '"audit.read", "token.*"]').replace(
                "[people.rep]", '[people.rep]\nsubject = "provider|rep"'
            )
        )
        yield stage


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def mcp_url(stage: Stage, provider: IdentityProvider) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    at = {"SHADOWDESK_PAGES__PORT": str(port), "SHADOWDESK_PAGES__BASE_URL": f"http://127.0.0.1:{port}"}
    at |= {"SHADOWDESK_OAUTH__ISSUER": ISSUER, "SHADOWDESK_OAUTH__JWKS_URL": provider.url}
    command = [sys.executable, "-m", "mcp_server", "serve", "--only", "mcp", "--config", str(stage.config)]
    process = subprocess.Popen(command, env={**os.environ, **at})
    url = f"http://127.0.0.1:{port}/mcp"
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(httpx2.TransportError):
                httpx2.get(url, timeout=2)
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def token_command(stage: Stage, person: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    config = ("--config", str(stage.config), "--person", person)
    return stage.command("token", *arguments, *config, person=person)


def issued(stage: Stage, person: str, *arguments: str) -> tuple[str, str]:
    done = token_command(stage, person, "issue", *arguments)
    assert done.returncode == 0, done.stderr
    found = re.search(r"Token (pt_\w+) of .*\n(sdp_\S+)\n", done.stdout)
    assert found, done.stdout
    return found[1], found[2]


def status(mcp_url: str, token: str) -> int:
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    headers = {"accept": "application/json, text/event-stream", "authorization": f"Bearer {token}"}
    return httpx2.post(mcp_url, json=request, headers=headers, timeout=30).status_code


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_token_opens_mcp_until_it_is_revoked(stage: Stage, mcp_url: str, mode: str) -> None:
    token_id, token = issued(stage, "intern", "--label", "laptop")
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=60) as http,
        Client(streamable_http_client(mcp_url, http_client=http), mode=mode) as client,  # type: ignore[arg-type]
    ):
        assert "start_dry_run" in {tool.name for tool in (await client.list_tools()).tools}
        await client.call_tool("list_dry_runs", {})
    assert token_command(stage, "intern", "revoke", token_id).returncode == 0
    assert status(mcp_url, token) == 401
    again = token_command(stage, "intern", "revoke", token_id)
    assert again.returncode == 1
    assert "no token" in again.stderr


def test_a_server_takes_both_kinds_of_token(stage: Stage, mcp_url: str, provider: IdentityProvider) -> None:
    assert status(mcp_url, provider.token(mcp_url, sub="provider|rep")) == 200
    assert status(mcp_url, provider.token(mcp_url, sub="provider|engineer")) == 401
    assert status(mcp_url, provider.token("http://127.0.0.1:1/mcp", sub="provider|rep")) == 401
    assert status(mcp_url, stage.tokens["rep"]) == 200


def test_nothing_of_the_token_is_kept_but_its_hash(stage: Stage, mcp_url: str) -> None:
    token_id, token = issued(stage, "rep")
    listed = json.loads(token_command(stage, "rep", "list", "--json").stdout)
    [mine] = [one for one in listed if one["id"] == token_id]
    assert (mine["person"], mine["role"], mine["state"]) == ("rep", "rep", "good")
    digest = hashlib.sha256(token.encode()).hexdigest()
    assert token not in json.dumps(listed) and digest not in json.dumps(listed)
    assert status(mcp_url, digest) == 401
    assert status(mcp_url, token[:-1]) == 401
    trail = stage.command("audit", "export", "-o", str(stage.folder / "trail"), "--config", str(stage.config),
                          "--person", "engineer")  # fmt: skip
    assert trail.returncode == 0, trail.stderr
    files = [stage.folder / "trail"] if (stage.folder / "trail").is_file() else list((stage.folder / "trail").iterdir())
    text = "".join(file.read_text() for file in files)
    assert "token_issue" in text and token not in text


def test_the_tokens_of_others_need_a_permission(stage: Stage, mcp_url: str) -> None:
    refused = token_command(stage, "rep", "issue", "--for", "engineer")
    assert refused.returncode == 1 and "sdp_" not in refused.stdout
    assert token_command(stage, "rep", "list", "--all").returncode == 1
    token_id, token = issued(stage, "engineer", "--for", "rep")
    assert status(mcp_url, token) == 200
    assert token_command(stage, "intern", "revoke", token_id).returncode == 1
    assert status(mcp_url, token) == 200
    assert token_command(stage, "engineer", "revoke", token_id).returncode == 0
    assert status(mcp_url, token) == 401
    stranger = token_command(stage, "engineer", "issue", "--for", "nobody")
    assert stranger.returncode == 1 and "no person" in stranger.stderr


def test_without_the_personal_key_no_token_is_issued(stage: Stage) -> None:
    arguments = ("token", "issue", "--config", str(stage.config), "--person", "engineer")
    wrong = stage.command(*arguments, person="rep")
    assert wrong.returncode == 1 and "sdp_" not in wrong.stdout


def test_a_token_ends_with_the_role_it_was_issued_for(stage: Stage) -> None:
    import anyio

    from mcp_server.assembly import open_desk
    from mcp_server.settings import load_settings
    from mcp_server.tokens import BearerTokens

    _, token = issued(stage, "rep")
    settings = load_settings(stage.config)
    promoted = settings.people["rep"].model_copy(update={"role": "engineer"})
    gone = {name: one for name, one in settings.people.items() if name != "rep"}
    with open_desk(settings, applier=False) as assembly:
        for people, good in ((settings.people, True), ({**gone, "rep": promoted}, False), (gone, False)):
            today = settings.model_copy(update={"people": people})
            verifier = BearerTokens(today, assembly.control)
            assert (anyio.run(verifier.verify_token, token) is not None) is good


def test_a_token_ends_in_time(stage: Stage) -> None:
    from datetime import timedelta

    from mcp_server.assembly import open_desk
    from mcp_server.settings import load_settings
    from mcp_server.tokens import token_digest

    with open_desk(load_settings(stage.config), applier=False) as assembly:
        made = assembly.control.issue_token(
            "pt_brief", token_digest("sdp_brief"), person="rep", role="rep", label="", issued_by="rep",
            lifetime=timedelta(milliseconds=200),
        )  # fmt: skip
        assert assembly.control.token(token_digest("sdp_brief")) == made
        deadline = time.monotonic() + 10
        while assembly.control.token(token_digest("sdp_brief")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert assembly.control.token(token_digest("sdp_brief")) is None
