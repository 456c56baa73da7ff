"""An identity provider for tests: real keys behind a real address, and tokens signed with them, good and bad."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

ISSUER = "https://login.example"


class IdentityProvider:
    """Signs tokens; `published` are the keys its address gives, `fetches` counts how often it was asked."""

    def __init__(self) -> None:
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.published: list[str] = []
        self.fetches = 0
        self.up = True
        self.url = ""
        self.rotate("first")

    def rotate(self, key_id: str) -> None:
        """A new key, published beside the old ones."""
        self.keys[key_id] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.published.append(key_id)

    def key_set(self) -> dict[str, Any]:
        """The published keys as a JWK set (RFC 7517)."""
        return {"keys": [self._public(key_id) for key_id in self.published]}

    def _public(self, key_id: str) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.keys[key_id].public_key()))
        return {**public, "kid": key_id, "use": "sig", "alg": "RS256"}

    def token(self, audience: str, key_id: str = "first", algorithm: str = "RS256", **claims: Any) -> str:
        """A signed token; a claim that is None is left out."""
        now = int(time.time())
        usual: dict[str, Any] = {
            "iss": ISSUER, "aud": audience, "sub": "provider|rita", "iat": now, "exp": now + 600, "scope": "desk",
        }  # fmt: skip
        given = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        return jwt.encode(given, self.keys[key_id], algorithm=algorithm, headers={"kid": key_id})


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    """A provider whose keys are served on this machine until the block ends."""
    provider = IdentityProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.fetches += 1
            body = json.dumps(provider.key_set()).encode()
            self.send_response(200 if provider.up else 503)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="identity provider")
    thread.start()
    provider.url = f"http://127.0.0.1:{server.server_address[1]}/keys"
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
