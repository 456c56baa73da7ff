"""The control store's tables for SQLAlchemy; `sql/schema.sql` defines and guards them, a test compares both."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY

METADATA = MetaData(schema="control")


def _text(name: str, *, null: bool = False, key: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null, primary_key=key)


def _json(name: str, *, null: bool = False) -> Column[Any]:
    return Column(name, JSON(none_as_null=True), nullable=null)


def _time(name: str, *, null: bool = False) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=null)


def _number(name: str, *, small: bool = False) -> Column[int]:
    return Column(name, SmallInteger if small else Integer, nullable=False)


def _identity(name: str, *, key: bool = True) -> Column[int]:
    return Column(name, BigInteger, Identity(always=True), primary_key=key, nullable=False)


DRY_RUNS = Table(
    "dry_runs", METADATA,
    _text("id", key=True), _text("tenant_key"), _text("tenant_label"), _text("purpose"), _text("request"),
    _text("rep"), _text("role"), _text("client"), _text("state"), _text("shadow_id", null=True),
    _text("mirror_version", null=True), _text("fence_hash", null=True), _text("snapshot_id", null=True),
    _time("base_at", null=True), _time("created_at"), _time("expires_at"), _text("discarded_reason", null=True),
)  # fmt: skip

STATEMENTS = Table(
    "statements", METADATA,
    _identity("id"), _text("dry_run_id"), _number("step", small=True), _text("text"), _json("params"), _json("pins"),
    _json("defaults"), _text("kind"), _text("reason"), _text("tool", null=True), _json("arguments", null=True),
    _number("row_count"), _json("warnings"), _time("ran_at"), _time("undone_at", null=True),
)  # fmt: skip

PROPOSALS = Table(
    "proposals", METADATA,
    _text("id", key=True), _identity("number", key=False), _text("dry_run_id"), _text("tenant_key"), _text("digest"),
    _text("header"), _json("frozen"), _json("diff"), _text("decision"), _json("reasons"), _number("rows"),
    _text("state"), _text("note"), _text("outcome_message", null=True), _json("receipt", null=True),
    _time("created_at"), _time("expires_at"), _text("policy_version", null=True),
)  # fmt: skip

PROPOSAL_STATEMENTS = Table(
    "proposal_statements", METADATA,
    _text("proposal_id", key=True), Column("statement_id", BigInteger, primary_key=True), _text("dry_run_id"),
)  # fmt: skip

PROPOSAL_ROWS = Table(
    "proposal_rows", METADATA,
    _text("proposal_id", key=True), Column("ordinal", Integer, primary_key=True), _text("table_name"),
    Column("key", ARRAY(Text), nullable=False), Column("before", ARRAY(Text)), Column("after", ARRAY(Text)),
    Column("kinds", ARRAY(Text), nullable=False),
)  # fmt: skip

CONFIRMATIONS = Table(
    "confirmations", METADATA,
    _identity("id"), _text("proposal_id"), _text("digest"), _text("tenant_key"), _text("person"), _text("role"),
    _text("channel"), _number("typed_rows"), _time("created_at"), _time("expires_at"), _time("used_at", null=True),
    _time("withdrawn_at", null=True),
)  # fmt: skip

ESCALATIONS = Table(
    "escalations", METADATA,
    _identity("id"), _text("dry_run_id"), _text("proposal_id"), _text("question", null=True),
    _text("asked_by", null=True), _time("asked_at", null=True), _text("answered_by", null=True),
    _text("verdict", null=True), _text("comment", null=True), _time("answered_at", null=True),
)  # fmt: skip

LOGIN_LINKS = Table(
    "login_links", METADATA,
    _text("token_sha256", key=True), _text("person"), _time("created_at"), _time("expires_at"),
    _time("used_at", null=True),
)  # fmt: skip

PAGE_SESSIONS = Table(
    "page_sessions", METADATA,
    _text("id_sha256", key=True), _text("person"), _time("created_at"), _time("expires_at"),
)  # fmt: skip

PERSONAL_TOKENS = Table(
    "personal_tokens", METADATA,
    _text("id", key=True), _text("token_sha256"), _text("person"), _text("role"), _text("label"), _text("issued_by"),
    _time("created_at"), _time("expires_at"), _time("revoked_at", null=True), _text("revoked_by", null=True),
)  # fmt: skip

CALLS = Table(
    "calls", METADATA,
    _text("person", key=True), Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("second", BigInteger, nullable=False), Column("calls", Integer, nullable=False),
)  # fmt: skip

MASK_SECRET = Table(
    "mask_secret", METADATA,
    Column("one", Boolean, primary_key=True), Column("secret", LargeBinary, nullable=False),
)  # fmt: skip
