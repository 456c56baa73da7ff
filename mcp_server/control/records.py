"""What the control store keeps, as frozen values; made by the desk, stored and read by `store.py`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """A rep's session on one shadow. `state` is a `DryRunState`; `base_at` is when its rows were read."""

    id: str
    tenant_key: str
    tenant_label: str
    purpose: str
    request: str
    rep: str
    role: str
    client: str
    state: str
    shadow_id: str | None
    mirror_version: str | None
    fence_hash: str | None
    snapshot_id: str | None
    base_at: datetime | None
    created_at: datetime
    expires_at: datetime
    discarded_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One recorded statement: the author's text as it came, what was pinned and drawn, and what it did.

    `defaults` are values drawn for omitted columns by slot, in order of evaluation. `undone_at` is set by undo.
    """

    dry_run_id: str
    step: int
    text: str
    params: tuple[str | None, ...]
    pins: tuple[dict[str, Any], ...]
    defaults: Mapping[str, list[str]]
    kind: str
    reason: str
    tool: str | None
    arguments: dict[str, Any] | None
    row_count: int
    warnings: tuple[str, ...]
    ran_at: datetime
    undone_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A frozen recording put before a person. `state` is a `ProposalState`, `digest` 64 hexadecimal digits.

    `header` goes into the digest and is kept as RFC 8785 text: texts, whole numbers, booleans, None, lists and
    mappings. `rows` is what the person types. `receipt` is there when, and only when, it is applied.
    """

    id: str
    dry_run_id: str
    digest: str
    header: dict[str, Any]
    frozen: dict[str, Any]
    diff: dict[str, Any]
    decision: str
    reasons: tuple[str, ...]
    rows: int
    state: str
    note: str
    created_at: datetime
    expires_at: datetime
    outcome_message: str | None = None
    receipt: dict[str, Any] | None = None
    policy_version: str | None = None


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """A person's yes to one digest of one tenant, with the number of rows they typed."""

    proposal_id: str
    digest: str
    tenant_key: str
    person: str
    role: str
    channel: str
    typed_rows: int
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    withdrawn_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Escalation:
    """A question to an engineer and its answer; without question where somebody answered unasked.

    `verdict` is 'approved' or 'rejected', None while the question is open.
    """

    dry_run_id: str
    proposal_id: str
    question: str | None
    asked_by: str | None
    asked_at: datetime | None
    answered_by: str | None = None
    verdict: str | None = None
    comment: str | None = None
    answered_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class PersonalToken:
    """A bearer token of one person as it is kept: without the token. It ends with its role, in time, or revoked."""

    id: str
    person: str
    role: str
    label: str
    issued_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    revoked_by: str | None = None
