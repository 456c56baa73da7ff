"""The limits of [limits]: how often, how deep, how large and how many; asked by the governor, the server and the desk.

Each has its own error text, which names its key, and the refused call is in the audit trail like any other.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from mcp_server.errors import DeskError
from mcp_server.settings_sections import Seconds, Section
from shadow.errors import QuotaExceeded


class LimitReached(DeskError):
    """A limit of [limits] stands in the way: nothing ran."""


class LimitsSection(Section):
    """What one person's calls may use; kilobytes are 1024 bytes, times are seconds."""

    calls_per_minute: int = Field(default=1200, gt=0)
    open_dry_runs: int = Field(default=20, gt=0)
    request_kb: int = Field(default=4096, gt=0)
    nesting: int = Field(default=32, gt=0)
    returned_kb: int = Field(default=1024, gt=0)
    lock_timeout_s: Seconds = 5
    idle_timeout_s: Seconds = 60
    replay_lock_timeout_s: Seconds = 5
    replay_statement_timeout_s: Seconds = 60


class CallRate:
    """How often one person may call within a minute, wherever each call arrives."""

    def __init__(self, per_minute: int, take: Callable[[str, int], bool]) -> None:
        """`take` counts a call of a person unless the last minute holds so many; `ControlStore.take_call` is one."""
        self._per_minute = per_minute
        self._take = take

    def take(self, person: str) -> None:
        """Counts one call. Raises LimitReached when the person has made as many as a minute allows."""
        if not self._take(person, self._per_minute):
            raise LimitReached(
                f"{self._per_minute} calls were made within a minute, which is the limit for one person.",
                "Nothing ran.",
                "Wait a minute; a model that calls this often is going in circles (limits.calls_per_minute).",
            )


def check_arguments(arguments: Mapping[str, Any], limits: LimitsSection) -> None:
    """Raises LimitReached for arguments that are nested too deeply or are too large."""
    level, depth = [value for value in arguments.values() if isinstance(value, dict | list)], 1
    while level:
        depth += 1
        if depth > limits.nesting:
            raise LimitReached(
                f"The arguments are nested more than {limits.nesting} deep.",
                "Nothing ran.",
                "Send values as plain texts, numbers and short lists (limits.nesting).",
            )
        inner = (value.values() if isinstance(value, dict) else value for value in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
    if len(json.dumps(arguments, default=str)) > limits.request_kb << 10:
        raise LimitReached(
            f"The arguments are larger than {limits.request_kb} KiB.",
            "Nothing ran.",
            "Send less at once (limits.request_kb).",
        )


def check_open(held: int, limit: int) -> None:
    """Raises LimitReached when a rep already holds as many open dry runs as one may."""
    if held >= limit:
        raise LimitReached(
            f"You have {held} open dry runs, and {limit} are allowed.",
            "No dry run was started.",
            "Discard those you no longer need with discard_dry_run (limits.open_dry_runs).",
        )


def shadow_too_large(size: int, most: int) -> QuotaExceeded:
    """The error of a step that left a larger shadow than one may be (bytes), after it was taken back."""
    return QuotaExceeded(
        f"The statement made the shadow {size >> 20} MiB large; it may hold {most >> 20} MiB.",
        "It was taken back: the shadow's rows are as before.",
        "Start a new dry run with a smaller change, or ask the operator to raise sandbox.max_shadow_mb.",
    )
