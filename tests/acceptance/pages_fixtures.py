"""Starts the review pages behind a real HTTP server: control store and audit trail on Postgres, the desk in memory.

A pytest plugin, named by the test modules of the pages.
"""

import hashlib
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

from audit.store import AuditStore
from mcp_server.control.connections import audit_pool
from mcp_server.control.migrate import AUDIT_ROLE, CONTROL_ROLE
from mcp_server.control.store import ControlStore
from mcp_server.desk import Desk
from mcp_server.governed import Governor
from mcp_server.pages import pages_app
from mcp_server.permissions import Permissions
from mcp_server.settings import load_settings
from tests.acceptance.pages_desk import MemoryDesk
from tests.acceptance.pages_server import CONFIGURATION, KEY, PagesServer, serving
from tests.control import AUDIT_PASSWORD, CONTROL_PASSWORD, as_role
from tests.postgres import MakeDatabase


@pytest.fixture
def control_store(database: MakeDatabase, migrated_template: str) -> Iterator[tuple[ControlStore, AuditStore]]:
    """Control store and audit trail on a fresh database, as the two roles the server runs as."""
    owner_url = database(template=migrated_template)
    pool = audit_pool(as_role(owner_url, AUDIT_ROLE, AUDIT_PASSWORD))
    with ControlStore.open(as_role(owner_url, CONTROL_ROLE, CONTROL_PASSWORD)) as store:
        yield store, AuditStore(pool)
    pool.close()


@pytest.fixture
def pages_on(
    control_store: tuple[ControlStore, AuditStore], tmp_path: Path
) -> Iterator[Callable[[MemoryDesk], PagesServer]]:
    """Starts the pages on a desk; the server ends with the test."""
    running = ExitStack()

    def start(desk: MemoryDesk) -> PagesServer:
        control, audit = control_store
        listener = socket.create_server(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = tmp_path / "shadowdesk.toml"
        config.write_text(
            CONFIGURATION.format(base_url=base_url, key=hashlib.sha256(KEY.encode()).hexdigest()), encoding="utf-8"
        )
        settings = load_settings(config)
        governor = Governor(audit, Permissions.of(settings), lambda dry_run_id: None)
        app = pages_app(cast(Desk, desk), settings, governor, control)
        running.enter_context(serving(app, listener))
        return PagesServer(base_url=base_url, desk=desk, control=control, audit=audit, settings=settings)

    with running:
        yield start


@pytest.fixture
def pages(pages_on: Callable[[MemoryDesk], PagesServer]) -> PagesServer:
    """The pages on the sample proposal."""
    return pages_on(MemoryDesk())
