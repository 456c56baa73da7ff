"""What every page needs: the desk, who is asking, and the templates; made once by `app.py`, read by the handlers."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse

from mcp_server.control.store import ControlStore
from mcp_server.desk import Desk
from mcp_server.governed import Governor
from mcp_server.identity import Caller
from mcp_server.settings import Settings

Answer = TypeVar("Answer")


class NotLoggedIn(Exception):
    """The request carries no live session: it gets the 401 page."""


class RefusedRequest(Exception):
    """A request the pages refuse before anything runs; the three sentences are shown with `status`."""

    def __init__(self, status: int, happened: str, not_happened: str, next_step: str) -> None:
        super().__init__(happened, not_happened, next_step)
        self.status = status
        self.sentences = (happened, not_happened, next_step)


@dataclass(frozen=True, kw_only=True)
class Person:
    """The person behind a session; `csrf` is the token each of their forms carries."""

    caller: Caller
    csrf: str

    @property
    def name(self) -> str:
        return self.caller.name

    @property
    def role(self) -> str:
        return self.caller.role


@dataclass(frozen=True, kw_only=True)
class Site:
    """The parts the handlers work with; no state of its own."""

    desk: Desk
    settings: Settings
    governor: Governor
    control: ControlStore
    templates: Environment

    @property
    def base_url(self) -> str:
        """Where people reach the pages; its host is the only one whose forms are taken."""
        return self.settings.pages.base_url

    @property
    def root(self) -> str:
        """The path before every address of ours, as a proxy in front may want it; mostly empty."""
        return urlsplit(self.base_url).path.rstrip("/")

    def now(self) -> datetime:
        """The time that ages and validities are measured against."""
        return datetime.now(UTC)

    def confirm_rights(self, caller: Caller) -> frozenset[str]:
        """As whom the caller's role may confirm."""
        return self.governor.permissions.confirm_rights(caller.role)

    def govern(self, caller: Caller, verb: str, arguments: dict[str, Any], work: Callable[[], Answer]) -> Answer:
        """`work` between its two audit events, if the caller's role may do it."""
        return self.governor.run(caller, verb, arguments, work)

    def page(self, template: str, person: Person | None, status: int = 200, **values: Any) -> HTMLResponse:
        """One rendered page; every value is escaped by the template environment."""
        html = self.templates.get_template(template).render(root=self.root, person=person, **values)
        return HTMLResponse(html, status_code=status)


def page_templates() -> Environment:
    """The templates: autoescape for every one of them, and an undefined name is an error, not an empty place."""
    return Environment(
        loader=PackageLoader("mcp_server.pages"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
