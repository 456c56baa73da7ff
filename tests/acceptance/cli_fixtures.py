"""Sets up the business that the command line is tried on; a pytest plugin, named by those test modules."""

import hashlib
from pathlib import Path

import pytest

from mcp_server.demo.business import business_sql
from shadow.embedded import EmbeddedServer
from shadow.fence import FenceRules
from tests.acceptance.cli_business import CONFIGURATION, KEYS, Business
from tests.control import Urls
from tests.lifecycle import installed
from tests.postgres import MakeDatabase


@pytest.fixture
def business(database: MakeDatabase, postgres_server: EmbeddedServer, urls: Urls, tmp_path: Path) -> Business:
    """Three tenants on contracts, and everything installed."""
    owner_url = database(business_sql())
    production = installed(owner_url, FenceRules(root="tenants"))
    values = {
        "reader": production.reader_url, "applier": production.applier_url, "sandbox": postgres_server.owner_url,
        "control_owner": urls.owner, "control": urls.control, "audit": urls.audit,
        **{f"{person}_key": hashlib.sha256(key.encode()).hexdigest() for person, key in KEYS.items()},
    }  # fmt: skip
    escaped = {name: str(value).replace("\\", "\\\\").replace('"', '\\"') for name, value in values.items()}
    made = Business(folder=tmp_path, owner_url=owner_url)
    made.config.write_text(CONFIGURATION.format(**escaped), encoding="utf-8")
    return made
