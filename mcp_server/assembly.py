"""Puts a process together from its settings: servers, stores, desk and governor; every command starts here."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from audit.checkpoint import Checkpoints
from audit.presence import Presence
from audit.store import AuditStore
from mcp_server.control.connections import audit_pool, audit_session
from mcp_server.control.migrate import AUDIT_ROLE, CONTROL_ROLE, migrate
from mcp_server.control.store import ControlStore
from mcp_server.desk import Desk
from mcp_server.dry_runs import DryRunSettings
from mcp_server.errors import ConfigurationInvalid
from mcp_server.governed import Governor
from mcp_server.limits import CallRate
from mcp_server.permissions import Permissions
from mcp_server.policy import Policy
from mcp_server.production import Production, ProductionSettings
from mcp_server.settings import Settings
from mcp_server.shadows import Shadows, ShadowSettings, reaching
from mcp_server.trail import SealedTrail
from shadow.embedded import open_control
from shadow.replay import ReplayLimits
from shadow.sandbox import Sandbox, SandboxLimits
from shadow.sandbox_server import SandboxServer, open_server
from shadow.statement import GateLimits

_DATABASE = "shadowdesk"
#: Connections of the sandbox's owner that a process keeps between calls.
_IDLE = 4


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """What a process works with."""

    settings: Settings
    desk: Desk
    governor: Governor
    control: ControlStore
    audit: AuditStore
    trail: SealedTrail
    presence: Presence
    checkpoints: Checkpoints
    production: Production
    shadows: Shadows
    sandbox: Sandbox
    sandbox_server: SandboxServer

    def reap(self) -> list[str]:
        """Drops strays, then the sandbox's container when nobody uses it; returns the names of what went."""
        dropped = self.shadows.reap()
        return [*dropped, *self.sandbox_server.remove_unused(self.sandbox.held())]


@contextmanager
def open_desk(settings: Settings, *, applier: bool) -> Iterator[Assembly]:
    """Opens everything the settings name and closes it again.

    Only a process that serves pages or confirms asks for the `applier`; the others never learn its URL. Raises
    ConfigurationInvalid or SandboxUnavailable.
    """
    with ExitStack() as stack:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        control_url, audit_url = control_urls(settings, stack)
        control = stack.enter_context(ControlStore.open(control_url))
        pool = audit_pool(audit_url)
        stack.callback(pool.close)
        presence = Presence(lambda: audit_session(audit_url))
        stack.callback(presence.close)
        audit = AuditStore(pool, presence)
        checkpoints = Checkpoints(settings.data_dir / "audit")
        server = sandbox_server(settings, stack)
        production = Production(production_settings(settings, applier=applier))
        with reaching():
            sandbox = open_on(server, sandbox_limits(settings), idle=_IDLE)
        shadows = Shadows(production, sandbox, server.bin_dir, _shadows(settings))
        stack.callback(shadows.close)
        permissions = Permissions.of(settings)
        desk = Desk(
            settings=_dry_runs(settings),
            production=production,
            shadows=shadows,
            control=control,
            permissions=permissions,
            policy=Policy.of(settings),
            confirmation_ttl_s=settings.pages.confirmation_ttl_s,
            replay_limits=replay_limits(settings),
        )
        stack.callback(desk.close)
        trail = SealedTrail(audit, checkpoints)
        yield Assembly(
            settings=settings,
            desk=desk,
            governor=Governor(
                trail,
                permissions,
                desk.request_of,
                rate=CallRate(settings.limits.calls_per_minute, control.take_call),
            ),
            control=control,
            audit=audit,
            trail=trail,
            presence=presence,
            checkpoints=checkpoints,
            production=production,
            shadows=shadows,
            sandbox=sandbox,
            sandbox_server=server,
        )


def production_settings(settings: Settings, *, applier: bool) -> ProductionSettings:
    """Production's part of the settings, without the applier unless asked for."""
    url = settings.production.applier_url
    return ProductionSettings(
        reader_url=settings.production.reader_url.get_secret_value(),
        applier_url=url.get_secret_value() if applier and url is not None else None,
        rules=settings.fence_rules(),
        search_path=settings.production.search_path,
    )


def sandbox_limits(settings: Settings) -> SandboxLimits:
    """What shadows may use."""
    return SandboxLimits(
        ttl_s=settings.sandbox.ttl_s,
        max_shadows=settings.sandbox.max_shadows,
        statement_timeout_s=settings.sandbox.statement_timeout_s,
        lock_timeout_s=settings.limits.lock_timeout_s,
        idle_timeout_s=settings.limits.idle_timeout_s,
    )


def replay_limits(settings: Settings) -> ReplayLimits:
    """How long a replay may wait on production."""
    limits = settings.limits
    return ReplayLimits(
        lock_timeout_s=limits.replay_lock_timeout_s, statement_timeout_s=limits.replay_statement_timeout_s
    )


def _shadows(settings: Settings) -> ShadowSettings:
    return ShadowSettings(
        pool=settings.sandbox.pool,
        snapshot_max_s=settings.sandbox.snapshot_max_s,
        max_bytes=settings.sandbox.max_shadow_mb << 20,
    )


def _dry_runs(settings: Settings) -> DryRunSettings:
    return DryRunSettings(
        measures=settings.measure_list(),
        allow_functions=frozenset(settings.gate.allow_functions),
        gate_limits=GateLimits(max_bytes=settings.gate.max_bytes),
        max_rows_changed=settings.gate.max_rows_changed,
        ttl_s=settings.sandbox.ttl_s,
        open_dry_runs=settings.limits.open_dry_runs,
        returned_bytes=settings.limits.returned_kb << 10,
        max_shadow_bytes=settings.sandbox.max_shadow_mb << 20,
    )


def sandbox_server(settings: Settings, stack: ExitStack) -> SandboxServer:
    """The server that sandbox.url names, started where it is ours; closed with `stack`."""
    server = open_server(settings.sandbox.url.get_secret_value(), settings.data_dir)
    stack.callback(server.close)
    return server


def open_on(server: SandboxServer, limits: SandboxLimits, *, idle: int = 0) -> Sandbox:
    """The sandbox on that server; one of ours that goes away is started again. `idle`: see `Sandbox`."""
    return Sandbox(server.url, limits, private=server.private, again=server.again, idle=idle)


def control_urls(settings: Settings, stack: ExitStack) -> tuple[str, str]:
    """URLs of the roles shadowdesk_control and shadowdesk_audit; the schema is brought up to date first."""
    url = settings.control.url.get_secret_value()
    if url != "embedded":
        given = (settings.control.control_url.get_secret_value(), settings.control.audit_url.get_secret_value())
        if not all(given):
            raise ConfigurationInvalid(
                "[control] names a server but not control_url and audit_url.",
                "Nothing was started.",
                "Give the URLs of the roles shadowdesk_control and shadowdesk_audit.",
            )
        passwords = [str(psycopg.conninfo.conninfo_to_dict(one).get("password") or "") for one in given]
        migrate(url, *passwords)
        return given
    server = stack.enter_context(open_control(settings.data_dir / "control"))
    with psycopg.connect(server.owner_url, autocommit=True) as conn:
        conn.execute("SELECT pg_advisory_lock(1)")  # two processes may start at once
        if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_DATABASE,)).fetchone():
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
        passwords = _kept_passwords(settings.data_dir / "control-passwords.json")
        owner_url = make_conninfo(server.owner_url, dbname=_DATABASE)
        migrate(owner_url, *passwords)
    control, audit = (
        make_conninfo(owner_url, user=role, password=password)
        for role, password in zip((CONTROL_ROLE, AUDIT_ROLE), passwords, strict=True)
    )
    return control, audit


def _kept_passwords(path: Path) -> list[str]:
    """The two roles' passwords of the embedded control server, in a file only this user can read."""
    if not path.exists():
        fresh = path.with_suffix(f".{secrets.token_hex(4)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump([secrets.token_urlsafe(24), secrets.token_urlsafe(24)], file)
        fresh.rename(path)
    passwords: list[str] = json.loads(path.read_text())
    return passwords
