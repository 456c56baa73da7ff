"""A migrated control database and records to put into it, for the tests of the control store and the audit trail."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from audit.event import AuditEvent
from differ.model import FrozenRow
from mcp_server.control.migrate import AUDIT_ROLE, CONTROL_ROLE, migrate
from mcp_server.control.records import Confirmation, DryRun, Proposal, Statement
from shadow.embedded import EmbeddedServer
from tests.postgres import MakeDatabase

#: Roles belong to the whole test server: every test gives them the same passwords.
CONTROL_PASSWORD = "control password of the tests"
AUDIT_PASSWORD = "audit password of the tests"

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=1)
DIGEST = "ab" * 32


@dataclass(frozen=True, kw_only=True)
class Urls:
    """The control database as its owner and as its two roles."""

    owner: str
    control: str
    audit: str


def migrated(owner_url: str) -> Urls:
    """Migrates the database and returns its three URLs."""
    migrate(owner_url, CONTROL_PASSWORD, AUDIT_PASSWORD)
    return roles_of(owner_url)


def roles_of(owner_url: str) -> Urls:
    """The three URLs of a migrated database."""
    return Urls(
        owner=owner_url,
        control=as_role(owner_url, CONTROL_ROLE, CONTROL_PASSWORD),
        audit=as_role(owner_url, AUDIT_ROLE, AUDIT_PASSWORD),
    )


@contextmanager
def control_template(server: EmbeddedServer) -> Iterator[str]:
    """The name of a migrated database to copy: much cheaper than to migrate one per test."""
    name = f"control_template_{secrets.token_hex(6)}"
    execute(server.owner_url, f"CREATE DATABASE {name}")
    try:
        migrated(server.url(name))
        yield name
    finally:
        execute(server.owner_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def migrated_template(postgres_server: EmbeddedServer) -> Iterator[str]:
    """A migrated control database that tests copy."""
    with control_template(postgres_server) as name:
        yield name


@pytest.fixture
def urls(database: MakeDatabase, migrated_template: str) -> Urls:
    """A control database of the test's own."""
    return roles_of(database(template=migrated_template))


def as_role(url: str, role: str, password: str) -> str:
    """The same database as somebody else."""
    values: dict[str, Any] = {**conninfo_to_dict(url), "user": role, "password": password}
    return make_conninfo("", **values)


def execute(url: str, statement: str, *params: object) -> list[tuple[Any, ...]]:
    """Runs one statement, committed; its rows if it has any."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), params or None)
        return cursor.fetchall() if cursor.description else []


def event(call_id: str = "call", kind: Any = "intent", **values: Any) -> AuditEvent:
    """An audit event; an outcome is 'ok' unless said otherwise."""
    outcome = "ok" if kind == "outcome" else None
    plain: dict[str, Any] = {
        "at": NOW, "person": "rep", "role": "rep", "channel": "stdio", "client": "test 1.0", "tool": "run_statement",
        "outcome": outcome,
    }  # fmt: skip
    return AuditEvent(call_id=call_id, kind=kind, **{**plain, **values})


def dry_run(name: str = "dr_1", **values: Any) -> DryRun:
    """An open dry run."""
    plain: dict[str, Any] = {
        "tenant_key": "7", "tenant_label": "Seven", "purpose": "correct a contract", "request": "please correct it",
        "rep": "rep", "role": "rep", "client": "test 1.0", "state": "open", "shadow_id": "s1", "mirror_version": "m1",
        "fence_hash": "f1", "snapshot_id": None, "base_at": NOW, "created_at": NOW, "expires_at": LATER,
    }  # fmt: skip
    return DryRun(id=name, **{**plain, **values})


def statement(step: int = 1, dry_run_id: str = "dr_1", **values: Any) -> Statement:
    """A kept statement."""
    plain: dict[str, Any] = {
        "text": "UPDATE t SET a = 1", "params": (), "pins": (), "defaults": {}, "kind": "update", "reason": "asked for",
        "tool": None, "arguments": None, "row_count": 1, "warnings": (), "ran_at": NOW,
    }  # fmt: skip
    return Statement(dry_run_id=dry_run_id, step=step, **{**plain, **values})


def proposal(name: str = "pr_1", dry_run_id: str = "dr_1", **values: Any) -> Proposal:
    """A pending proposal of one row."""
    plain: dict[str, Any] = {
        "digest": DIGEST, "header": {"tenant": "7"}, "frozen": {}, "diff": {"tables_root": "00"}, "decision": "self",
        "reasons": (), "rows": 1, "state": "pending", "note": "", "created_at": NOW, "expires_at": LATER,
    }  # fmt: skip
    return Proposal(id=name, dry_run_id=dry_run_id, **{**plain, **values})


def row(key: str = "1", before: str | None = "a", after: str | None = "b") -> FrozenRow:
    """A row of one cell."""
    return FrozenRow(table="t", key=(key,), before=(before,), after=(after,), kinds=("value",))


def confirmation(proposal_id: str = "pr_1", **values: Any) -> Confirmation:
    """A yes to that proposal."""
    plain: dict[str, Any] = {
        "digest": DIGEST, "tenant_key": "7", "person": "rep", "role": "rep", "channel": "page", "typed_rows": 1,
        "created_at": NOW, "expires_at": LATER,
    }  # fmt: skip
    return Confirmation(proposal_id=proposal_id, **{**plain, **values})
