"""Arguments that no honest client sends: each is a refusal in words, and each is in the audit trail."""

from typing import Any

import pytest

from mcp_server.errors import WrongState
from mcp_server.governed import Governor
from mcp_server.identity import Caller
from mcp_server.permissions import Permissions
from mcp_server.tools.changing import RunStatement
from mcp_server.tools.looking import TOOLS, FindTenant
from tests.acceptance.mcp_desk import settings_in

REP = Caller(name="rita", role="rep", channel="stdio", client="test")


class Trail:
    """The audit trail in memory."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def append(self, event: Any) -> int:
        self.events.append(event)
        return len(self.events)


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "ok\udfff"])
def test_texts_that_no_database_holds_are_refused_as_arguments(text: str) -> None:
    for arguments in (
        {"dry_run_id": text, "sql": "SELECT 1", "reason": "x"},
        {"dry_run_id": "dr_x", "sql": "SELECT 1", "reason": text},
        {"dry_run_id": "dr_x", "sql": "SELECT 1", "reason": "x", "params": ["a", text]},
    ):
        with pytest.raises(ValueError, match=r"NUL character|unicode"):
            RunStatement.model_validate(arguments)
    with pytest.raises(ValueError, match=r"NUL character|unicode"):
        FindTenant.model_validate({"text": text})
    assert TOOLS[0].parse({"text": "Zürich 🚚 \u202e"})


def test_a_call_about_an_impossible_id_is_in_the_trail(tmp_path: Any) -> None:
    def words(about: str) -> str:
        raise WrongState("A text holds a character that PostgreSQL cannot store.", "Nothing was changed.", "Send text.")

    trail = Trail()
    governor = Governor(trail, Permissions.of(settings_in(tmp_path)), words)
    governor.record(REP, "show_diff", {"dry_run_id": "dr_\0"}, "invalid_arguments")
    assert [(event.kind, event.tool, event.outcome) for event in trail.events] == [
        ("intent", "show_diff", None), ("outcome", "show_diff", "invalid_arguments"),
    ]  # fmt: skip
