"""What tests of the pages work with: a running server, browsers without JavaScript, forms sent as a person does."""

import hashlib
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx2
import uvicorn

from audit.store import AuditStore
from mcp_server.control.store import ControlStore
from mcp_server.settings import Settings
from tests.acceptance.pages_desk import PROPOSAL_ID, MemoryDesk

REVIEW = f"/review/{PROPOSAL_ID}"
KEY = "a personal key of the tests"

CONFIGURATION = """
data_dir = "data"
[production]
reader_url = "postgresql://nowhere.invalid/production"
[fence]
root = "tenants"
[people.rita]
role = "rep"
confirm_key_sha256 = "{key}"
[people.erik]
role = "engineer"
[people.ines]
role = "intern"
[people.quentin]
role = "qa"
[pages]
base_url = "{base_url}"
"""


@dataclass(frozen=True, kw_only=True)
class PagesServer:
    """One running server and what stands behind it."""

    base_url: str
    desk: MemoryDesk
    control: ControlStore
    audit: AuditStore
    settings: Settings

    def login_path(self, person: str, lifetime: timedelta = timedelta(minutes=5)) -> str:
        """A fresh one-time link, made as `shadowdesk login` makes it."""
        token = secrets.token_urlsafe(32)
        self.control.create_login_link(hashlib.sha256(token.encode()).hexdigest(), person, lifetime)
        return f"/login?token={token}"

    def browser(self) -> httpx2.Client:
        """A client that sends the Origin a browser sends, keeps cookies and follows nothing by itself."""
        return httpx2.Client(base_url=self.base_url, headers={"Origin": self.base_url}, timeout=30)

    @contextmanager
    def logged_in(self, person: str) -> Iterator[httpx2.Client]:
        """A client with a session of that person."""
        with self.browser() as client:
            assert client.get(self.login_path(person)).status_code == 303
            yield client


def fields(page: str, action: str) -> dict[str, str]:
    """The hidden fields of the form with that action."""
    form = re.search(rf'<form method="post" action="{re.escape(action)}".*?</form>', page, re.DOTALL)
    assert form, f"the page has no form for {action}"
    return dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', form[0]))


def send(client: httpx2.Client, verb: str, **typed: str) -> httpx2.Response:
    """Opens the review and sends one of its forms as a person does, with what they typed."""
    hidden = fields(client.get(REVIEW).text, f"{REVIEW}/{verb}")
    return client.post(f"{REVIEW}/{verb}", data=hidden | typed)


@contextmanager
def serving(app: Any, listener: socket.socket) -> Iterator[None]:
    """Runs an ASGI app on a bound socket until the block ends."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="pages under test")
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive()
