"""Access tokens of an identity provider: signature, issuer, audience, times and scopes; used by `tokens.py`.

ShadowDesk is an OAuth 2.1 resource server (MCP authorization, RFC 9068, RFC 8707): it never issues such tokens and
never passes one on. Keys are fetched in a thread of their own: no request ever waits for the provider.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import jwt

from mcp_server.settings_sections import OAuthSection

logger = logging.getLogger(__name__)

#: Clock difference between the provider and this machine that is borne, in seconds.
LEEWAY_S = 30
#: Most bytes of a key set that are read.
KEY_SET_BYTES = 1 << 20
#: Shortest time between two fetches: tokens with made-up key ids must not make us hammer the provider.
FETCH_PAUSE_S = 10.0

Fetch = Callable[[str], dict[str, Any]]


def fetch_keys(url: str) -> dict[str, Any]:
    """The JSON document at `url`. Raises httpx2.HTTPError or ValueError; redirects are not followed."""
    with httpx2.stream("GET", url, timeout=10, follow_redirects=False) as answer:
        answer.raise_for_status()
        body = b""
        for part in answer.iter_bytes():
            body += part
            if len(body) > KEY_SET_BYTES:
                raise ValueError("the key set is too large")
    found = httpx2.Response(200, content=body).json()
    if not isinstance(found, dict):
        raise ValueError("the key set is no JSON object")
    return found


class SigningKeys:
    """The provider's public keys by id, refreshed in a thread; while that fails, the last ones for `keys_max_age_s`."""

    def __init__(
        self, oauth: OAuthSection, fetch: Fetch = fetch_keys, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._oauth = oauth
        self._fetch = fetch
        self._now = now
        self._keys: Mapping[str | None, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._rounds, name="signing keys", daemon=True)

    def __enter__(self) -> "SigningKeys":
        self.refresh()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._wanted.set()
        self._thread.join(timeout=15)

    def get(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key, from memory. An unknown id asks for a fetch, which a later request finds done."""
        if self._fetched_at is None or self._now() - self._fetched_at > self._oauth.keys_max_age_s:
            self._wanted.set()
            return None
        found = self._keys.get(key_id)
        if found is None:
            self._wanted.set()
        return found

    def refresh(self) -> bool:
        """Fetches the keys now; False, with the old keys kept, when that failed."""
        try:
            document = self._fetch(self._oauth.jwks_url)
            keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(document).keys if _signs(key)}
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, AttributeError, jwt.PyJWTError) as error:
            logger.warning("the identity provider's keys could not be fetched: %s", type(error).__name__)
            return False
        self._keys, self._fetched_at = keys, self._now()
        return True

    def _rounds(self) -> None:
        while not self._stopping.is_set():
            self._wanted.wait(self._oauth.refresh_s)
            self._wanted.clear()
            if self._stopping.is_set():
                return
            self.refresh()
            self._stopping.wait(FETCH_PAUSE_S)


def _signs(key: jwt.PyJWK) -> bool:
    """Whether the key is public, asymmetric and not set aside for encryption."""
    return key.key_type in ("RSA", "EC", "OKP") and key.public_key_use in (None, "sig")


class JwtTokens:
    """Verifies access tokens of the configured issuer for this resource."""

    def __init__(self, oauth: OAuthSection, resource: str, keys: SigningKeys) -> None:
        self._oauth = oauth
        self._audience = oauth.audience or resource
        self._resource = resource
        self._keys = keys

    def claims(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that is good here and now; None for every other, without saying why."""
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.get(header.get("kid"))
            if key is None or header.get("alg") not in self._oauth.algorithms:
                return None
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(self._oauth.algorithms),
                audience=self._audience,
                issuer=self._oauth.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        return claims if self._is_for_us(claims) else None

    def _is_for_us(self, claims: Mapping[str, Any]) -> bool:
        """Scopes are complete, and a resource indicator that the token carries (RFC 8707) names this server."""
        granted = claims.get("scope", "")
        scopes = granted.split() if isinstance(granted, str) else []
        named = claims.get("resource", self._resource)
        resources = named if isinstance(named, list) else [named]
        return set(self._oauth.scopes) <= set(scopes) and self._resource in resources
