"""`/mcp` as an OAuth 2.1 resource server: which access tokens open it, and for whom; through the real client."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mcp_server.control.records import PersonalToken
from mcp_server.http import http_app
from mcp_server.identity import mcp_resource, token_caller
from mcp_server.oauth import SigningKeys
from mcp_server.server import build_server
from mcp_server.settings import Settings, load_settings
from mcp_server.tokens import BearerTokens
from tests.acceptance.identity_provider import ISSUER, IdentityProvider, identity_provider
from tests.acceptance.mcp_desk import TOKENS, MemoryDesk, governor_for, settings_in
from tests.acceptance.test_mcp_http import post, serving

AUDIENCE = "https://desk.example/mcp"
LIST = {"method": "tools/list", "params": {}}


class NoTokens:
    """A control store in which nobody issued a personal token."""

    def token(self, digest: str) -> PersonalToken | None:
        return None


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as provider:
        yield provider


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()


@pytest.fixture
def settings(tmp_path: Path, provider: IdentityProvider) -> Settings:
    settings_in(tmp_path)
    path = tmp_path / "shadowdesk.toml"
    text = path.read_text().replace("[people.rita]", '[people.rita]\nsubject = "provider|rita"')
    path.write_text(f'{text}\n[oauth]\nissuer = "{ISSUER}"\njwks_url = "{provider.url}"\nscopes = ["desk"]\n')
    return load_settings(path)


@pytest.fixture
def keys(settings: Settings) -> Iterator[SigningKeys]:
    assert settings.oauth is not None
    with SigningKeys(settings.oauth) as keys:
        yield keys


@pytest.fixture
def address(desk: MemoryDesk, settings: Settings, keys: SigningKeys) -> Iterator[str]:
    server = build_server(
        desk, settings, governor_for(desk, settings), token_caller(settings),  # type: ignore[arg-type]
        tokens=BearerTokens(settings, NoTokens(), keys),
    )  # fmt: skip
    with serving(http_app(settings, server=server, pages=None)) as address:
        yield address


def status(address: str, token: str) -> int:
    return post(address, LIST, authorization=f"Bearer {token}").status_code


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_good_token_is_its_person_with_the_role_of_the_configuration(
    address: str, desk: MemoryDesk, provider: IdentityProvider, mode: Any
) -> None:
    header = {"authorization": f"Bearer {provider.token(AUDIENCE, roles=['operator'], role='engineer')}"}
    async with (
        httpx2.AsyncClient(headers=header, timeout=30) as http,
        Client(streamable_http_client(f"{address}/mcp", http_client=http), mode=mode) as client,
    ):
        assert "rename_contract" in {tool.name for tool in (await client.list_tools()).tools}
        await client.call_tool("start_dry_run", {"tenant": "1", "request": "please", "purpose": "test"})
    assert {(event.person, event.role, event.channel) for event in desk.audit.events} == {("rita", "rep", "http")}


BAD: dict[str, dict[str, Any]] = {
    "over": {"exp": int(time.time()) - 3600},
    "not yet": {"nbf": int(time.time()) + 3600},
    "another audience": {"audience": "https://other.example/mcp"},
    "another issuer": {"iss": "https://evil.example"},
    "issuer with a slash": {"iss": ISSUER + "/"},
    "no audience": {"aud": None},
    "no expiry": {"exp": None},
    "no subject": {"sub": None},
    "no time of issue": {"iat": None},
    "another resource": {"resource": "https://other.example/mcp"},
    "no scope": {"scope": None},
    "another scope": {"scope": "desk2"},
    "a stranger": {"sub": "provider|mallory"},
    "a person's name is no subject": {"sub": "rita"},
    "another algorithm of the same key": {"algorithm": "RS512"},
}


@pytest.mark.parametrize("why", BAD)
def test_every_other_token_gets_401(address: str, desk: MemoryDesk, provider: IdentityProvider, why: str) -> None:
    assert status(address, provider.token(AUDIENCE)) == 200
    given = {"audience": AUDIENCE, **BAD[why]}
    assert status(address, provider.token(**given)) == 401
    assert desk.audit.events == []


def test_configured_tokens_still_open_it(address: str) -> None:
    assert status(address, TOKENS["rita"]) == 200
    assert status(address, "rita-tokem") == 401


def test_forged_signatures_get_401(address: str, provider: IdentityProvider) -> None:
    good = provider.token(AUDIENCE)
    head, body, signature = good.split(".")
    claims = jwt.decode(good, options={"verify_signature": False})
    public = provider.key_set()["keys"][0]["n"]
    other = IdentityProvider().token(AUDIENCE)  # the same key id, another key
    forged = [
        jwt.encode(claims, None, algorithm="none", headers={"kid": "first"}),
        jwt.encode(claims, public, algorithm="HS256", headers={"kid": "first"}),
        f"{head}.{body}.", f"{head}.{body}.{signature[:-4]}AAAA", other, "..", "a.b.c", "é.é.é",
    ]  # fmt: skip
    header = [status(address, token) for token in forged if token.isascii()]
    assert header == [401] * len(header)


def test_the_metadata_names_the_issuer_and_the_resource_exactly(address: str, settings: Settings) -> None:
    refused = post(address, LIST)
    assert refused.status_code == 401
    assert "resource_metadata=" in refused.headers["www-authenticate"]
    told = httpx2.get(f"{address}/.well-known/oauth-protected-resource/mcp").json()
    assert told["resource"] == mcp_resource(settings) == AUDIENCE
    assert told["authorization_servers"] == [ISSUER]
    assert told["scopes_supported"] == ["desk"]


def test_keys_are_refreshed_off_the_request_path(address: str, provider: IdentityProvider, keys: SigningKeys) -> None:
    before = provider.fetches
    for _ in range(5):
        assert status(address, provider.token(AUDIENCE)) == 200
    assert provider.fetches == before, "a request asked the provider"
    provider.rotate("second")
    token = provider.token(AUDIENCE, "second")
    assert keys.refresh()
    assert status(address, token) == 200
    provider.published.remove("first")
    assert keys.refresh()
    assert status(address, provider.token(AUDIENCE)) == 401, "a key that was withdrawn still opens"


def test_a_provider_that_is_away_changes_nothing_until_its_keys_are_too_old(provider: IdentityProvider) -> None:
    from mcp_server.settings_sections import OAuthSection

    clock = [0.0]
    oauth = OAuthSection(issuer=ISSUER, jwks_url=provider.url, keys_max_age_s=100)
    keys = SigningKeys(oauth, now=lambda: clock[0])
    assert keys.get("first") is None
    assert keys.refresh()
    provider.up = False
    assert not keys.refresh()
    clock[0] = 100.0
    assert keys.get("first") is not None
    clock[0] = 101.0
    assert keys.get("first") is None


@pytest.mark.parametrize("document", [[], {}, {"keys": 7}, {"keys": [7]}, {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}])
def test_a_key_set_that_is_none_is_not_used(document: Any) -> None:
    from mcp_server.settings_sections import OAuthSection

    keys = SigningKeys(OAuthSection(issuer=ISSUER, jwks_url="https://x.example/k"), fetch=lambda url: document)
    keys.refresh()
    assert keys.get(None) is None
