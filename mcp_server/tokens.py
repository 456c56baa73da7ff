"""Bearer tokens of `/mcp`: hashes in the configuration, personal tokens, access tokens of an identity provider.

Made by the CLI for `serve`. Each kind only finds a person of [people]; what they may do is their role's, as it is
configured today. The SDK answers 401 for every token that finds nobody.
"""

import hashlib
import hmac
import logging
import secrets
from typing import Any, Protocol

import anyio.to_thread
from mcp.server.auth.provider import AccessToken, TokenVerifier

from mcp_server.control.records import PersonalToken
from mcp_server.errors import EXPLAINED
from mcp_server.identity import mcp_resource
from mcp_server.oauth import JwtTokens, SigningKeys
from mcp_server.settings import Settings

logger = logging.getLogger(__name__)

#: What every personal token begins with, so that secret scanners and people recognise one.
PREFIX = "sdp_"
#: Longest token that is looked at.
TOKEN_CHARACTERS = 8192


class TokenStore(Protocol):
    """Where personal tokens are looked up; `ControlStore` is one."""

    def token(self, digest: str) -> PersonalToken | None: ...


def new_token() -> str:
    """256 random bits; shown once, to the person it is for."""
    return PREFIX + secrets.token_urlsafe(32)


def token_digest(token: str) -> str:
    """SHA-256 in hex: what is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class PeopleTokens(TokenVerifier):
    """Verifies bearer tokens against the SHA-256 hashes in [people]; the SDK answers 401 for all others."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._resource = mcp_resource(settings)

    async def verify_token(self, token: str) -> AccessToken | None:
        """The person's access token without the secret in it, or None."""
        given = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest().encode()
        found = None
        # Every hash is compared, in constant time, whether or not one matched already.
        for name, person in self._settings.people.items():
            if hmac.compare_digest(given, (person.token_sha256 or "").encode()):
                found = name
        if found is None:
            return None
        scopes = list(self._settings.oauth.scopes) if self._settings.oauth else []
        return AccessToken(token="", client_id=found, subject=found, scopes=scopes, resource=self._resource)


class BearerTokens(TokenVerifier):
    """Finds the person of a bearer token, whichever of the three kinds it is."""

    def __init__(self, settings: Settings, store: TokenStore, keys: SigningKeys | None = None) -> None:
        """`keys` are the identity provider's; None where [oauth] is not configured."""
        self._settings = settings
        self._store = store
        self._configured = PeopleTokens(settings)
        self._resource = mcp_resource(settings)
        self._jwt = JwtTokens(settings.oauth, self._resource, keys) if settings.oauth and keys else None
        self._by_subject = {person.subject: name for name, person in settings.people.items() if person.subject}

    async def verify_token(self, token: str) -> AccessToken | None:
        """The person's access token without the secret in it, or None. Never raises: what fails, finds nobody."""
        if len(token) > TOKEN_CHARACTERS:
            return None
        if token.startswith(PREFIX):
            return await anyio.to_thread.run_sync(self._personal, token)
        if self._jwt is not None and token.count(".") == 2:
            return self._of_provider(self._jwt, token)
        return await self._configured.verify_token(token)

    def _personal(self, token: str) -> AccessToken | None:
        try:
            found = self._store.token(token_digest(token))
        except EXPLAINED as error:
            logger.warning("a personal token could not be looked up: %s", type(error).__name__)
            return None
        known = self._settings.people.get(found.person) if found else None
        if found is None or known is None or known.role != found.role:
            return None
        return self._access(found.person, int(found.expires_at.timestamp()), {"token_id": found.id})

    def _of_provider(self, tokens: JwtTokens, token: str) -> AccessToken | None:
        claims = tokens.claims(token)
        name = self._by_subject.get(str(claims["sub"])) if claims else None
        if claims is None or name is None:
            return None
        return self._access(name, int(claims["exp"]), {"iss": claims["iss"]})

    def _access(self, name: str, expires_at: int, claims: dict[str, Any]) -> AccessToken:
        scopes = list(self._settings.oauth.scopes) if self._settings.oauth else []
        return AccessToken(
            token="", client_id=name, subject=name, scopes=scopes, resource=self._resource,
            expires_at=expires_at, claims=claims,
        )  # fmt: skip
