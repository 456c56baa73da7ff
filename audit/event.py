"""One entry of the audit trail: what a caller was about to do, or how it ended.

Made by the hub around every call, stored by `store.py`, read back by everything that shows the trail.
"""

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal, cast

from audit.canonical import canonical, parse

Kind = Literal["intent", "outcome"]
#: Characters of an id that the index columns hold.
INDEXED_CHARACTERS = 600


@dataclass(frozen=True, kw_only=True)
class AuditEvent:
    """An intent (committed before acting) or an outcome (after it) of one call.

    `call_id` links the two. `arguments` and `diff` are JSON values; `at` is an aware time, kept in UTC.
    `seq` is given by the store and is None until then: it is not among the canonical bytes, the hash adds it.
    """

    at: datetime
    kind: Kind
    call_id: str
    person: str
    role: str
    channel: str
    client: str
    tool: str
    request: str | None = None
    reason: str | None = None
    arguments: Any = None
    dry_run_id: str | None = None
    proposal_id: str | None = None
    digest: str | None = None
    diff: Any = None
    #: 'ok', 'refused:StatementRefused', 'invalid_arguments', 'denied', 'aborted', 'crash:TypeError', 'lost' (see
    #: `closing.py`); outcomes only.
    outcome: str | None = None
    message: str | None = None
    duration_ms: float | None = None
    #: Which process wrote it, see `presence.py`; None in events older than that.
    process: str | None = None
    seq: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for an event that would say less than its kind promises."""
        if self.at.tzinfo is None:
            raise ValueError("the time of an audit event carries its zone")
        if self.kind not in ("intent", "outcome") or (self.kind == "outcome") != (self.outcome is not None):
            raise ValueError("an outcome event says its outcome, an intent event has none")

    def to_bytes(self) -> bytes:
        """Canonical bytes: every field but `seq`. TypeError where a value is not JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "seq"}
        values["at"] = self.at.astimezone(UTC).isoformat(timespec="microseconds")
        return canonical(values)

    @classmethod
    def from_bytes(cls, data: bytes, *, seq: int | None = None) -> "AuditEvent":
        """The event that `to_bytes` wrote. ValueError or TypeError where the bytes are not one of ours."""
        values = cast("dict[str, Any]", parse(data))
        values["at"] = datetime.fromisoformat(values["at"])
        if not isinstance(values["call_id"], str):
            raise TypeError("the call id of an audit event is a text")
        return cls(**values, seq=seq)


def indexable(text: str | None) -> str | None:
    """The text as an index column can hold it; None where Postgres has no form for it (NUL, surrogates) or no room.

    A B-tree takes at most 2,704 bytes (Postgres docs 67.1.4.1), and no id of ours is nearly as long.

    The canonical bytes hold the text itself either way.
    """
    if text is None or len(text) > INDEXED_CHARACTERS:
        return None
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        return None
    return text
