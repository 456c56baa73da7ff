"""docker/: the composition says what docs/deploy.md promises, and its SQL makes what the server needs, on Postgres."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mcp_server.doctor import check_production
from mcp_server.install import APPLIER, READER, install_sql
from mcp_server.production import Production, ProductionSettings
from mcp_server.settings import load_settings
from shadow.embedded import bin_dir
from tests.lifecycle import PASSWORDS
from tests.postgres import MakeDatabase

FOLDER = Path(__file__).parents[2] / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
HEADER = """-- What `shadowdesk install` runs on production: two roles, their rights, the receipts. Passwords come from the
-- environment of psql (version 15 or newer). Made from mcp_server/install.py; a test compares the two.
\\getenv reader_password READER_PASSWORD
\\getenv applier_password APPLIER_PASSWORD
"""


def generated(url: str) -> str:
    """The roles' script as `shadowdesk install` makes it, its passwords and its database as psql variables."""
    words = {READER: "reader_password", APPLIER: "applier_password"}
    with psycopg.connect(url) as conn:
        script = install_sql(conn, ["public"], words)
    for word in words.values():
        script = script.replace(f"'{word}'", f":'{word}'")
    name = str(conninfo_to_dict(url)["dbname"])
    return HEADER + script.replace(f'DATABASE "{name}"', 'DATABASE :"DBNAME"')


def test_the_roles_script_is_what_install_runs(production_database: MakeDatabase) -> None:
    assert (FOLDER / "init" / "production" / "20-shadowdesk.sql").read_text() == generated(production_database())


def test_the_init_scripts_make_a_production_that_the_doctor_finds_in_order(
    production_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = production_database()
    parts = conninfo_to_dict(url)
    named = {f"PG{'DATABASE' if k == 'dbname' else k.upper()}": str(v) for k, v in parts.items()}
    secret = {"READER_PASSWORD": PASSWORDS[READER], "APPLIER_PASSWORD": PASSWORDS[APPLIER]}
    with psycopg.connect(make_conninfo(url, dbname="postgres"), autocommit=True) as guard:
        guard.execute("SELECT pg_advisory_lock(20)")  # roles belong to the whole server
        for script in sorted((FOLDER / "init" / "production").glob("*.sql")):
            subprocess.run(
                [str(bin_dir() / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script)],
                env={**os.environ, **named, **secret}, check=True, capture_output=True,
            )  # fmt: skip
    roles = {role: make_conninfo(url, user=role, password=PASSWORDS[role]) for role in (READER, APPLIER)}
    monkeypatch.setenv("SHADOWDESK_PRODUCTION__READER_URL", roles[READER])
    monkeypatch.setenv("SHADOWDESK_PRODUCTION__APPLIER_URL", roles[APPLIER])
    settings = load_settings(FOLDER / "shadowdesk.toml")
    production = Production(
        ProductionSettings(reader_url=roles[READER], applier_url=roles[APPLIER], rules=settings.fence_rules())
    )
    checks = list(check_production(production))
    assert len(checks) > 10 and all(check.ok for check in checks), [c for c in checks if not c.ok]
    assert [hit.label for hit in production.find_tenants("cycles", 5)] == ["Birch Cycles"]
    assert {n: t.fence_class for n, t in production.fence().tables.items()} == {
        "customers": "root", "contracts": "direct", "invoices": "reached",
    }  # fmt: skip
    production.close()


def test_the_sandboxes_script_closes_its_databases_to_the_shadows_roles(database: MakeDatabase) -> None:
    script = (FOLDER / "init" / "sandbox" / "10-closed.sql").read_text()
    with psycopg.connect(database()) as conn:
        conn.execute(script.encode())
        conn.execute("CREATE ROLE shadow_of_nobody")
        may = "SELECT has_database_privilege('shadow_of_nobody', d, 'CONNECT') FROM unnest(ARRAY['postgres', 'template1']) d"
        assert conn.execute(may).fetchall() == [(False,), (False,)]
        conn.rollback()


def test_every_service_is_shut_in_and_watched() -> None:
    assert set(SERVICES) == {"production", "sandbox", "control", "server"}
    for name, service in SERVICES.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["restart"] == "unless-stopped" and "mem_limit" in service, name
        assert not service.get("privileged") and "docker.sock" not in str(service.get("volumes")), name
        if name != "server":
            assert "healthcheck" in service and "ports" not in service, name
            assert SERVICES["server"]["depends_on"][name] == {"condition": "service_healthy"}
    server = SERVICES["server"]
    assert server["read_only"] is True and server["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])


def test_the_sandbox_meets_production_nowhere_and_only_the_server_meets_all() -> None:
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    others = [networks[name] for name in ("production", "sandbox", "control")]
    assert all(a.isdisjoint(b) for a in others for b in others if a is not b)
    assert networks["server"] >= set().union(*others)
    assert all(COMPOSE["networks"][name]["internal"] for one in others for name in one)


def test_no_password_is_written_down_and_a_missing_one_stops_the_start() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{(\w+_PASSWORD)[^}]*\}", text))
    assert set(re.findall(r"\$\{(\w+_PASSWORD):\?[^}]+\}", text)) == asked
    example = dict(line.split("=", 1) for line in (FOLDER / "env.example").read_text().splitlines() if "=" in line)
    assert set(example) == asked and not any(example.values())


def test_the_image_runs_as_an_ordinary_user_and_says_whether_it_is_well() -> None:
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    users = [line for line in lines if line.startswith("USER ")]
    assert users and not re.match(r"USER (root|0)\b", users[-1])
    assert any(line.startswith("HEALTHCHECK ") for line in lines)
    assert lines.index(users[-1]) < next(n for n, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (FOLDER.parent / source).exists(), line
