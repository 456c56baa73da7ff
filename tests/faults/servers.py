"""Production, sandbox and control as three servers of our own that recover when they are killed.

Production and control are reached by the victim through a `Wire` each; everybody else connects directly.
"""

import os
import shutil
import signal
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal, Self

import psycopg
from psycopg.conninfo import make_conninfo

from shadow.embedded import EmbeddedServer, open_control
from shadow.fence import FenceRules
from tests.faults.wire import Wire
from tests.lifecycle import installed

Server = Literal["production", "sandbox", "control"]
NAMES: tuple[Server, ...] = ("production", "sandbox", "control")
TENANT, OTHER_TENANT = "1", "2"

APP = """
CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE notes(
  id serial PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants(id), body text, times int NOT NULL DEFAULT 0
);
-- What acts on production leaves a line here for every time it acted.
CREATE TABLE history(id bigserial PRIMARY KEY, body text, at timestamptz NOT NULL DEFAULT now());
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN INSERT INTO history(body) VALUES (coalesce(NEW.body, OLD.body)); RETURN NULL; END$$;
CREATE TRIGGER keep AFTER UPDATE ON notes FOR EACH ROW WHEN (NEW.tenant_id = 1) EXECUTE FUNCTION keep();
INSERT INTO tenants VALUES (1,'Acme'),(2,'Globex');
INSERT INTO notes(tenant_id, body) SELECT 2, 'of another tenant ' || g FROM generate_series(1,50) g;
"""


class Servers:
    """The three servers, and the configuration of a replica on them."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sd-faults-", dir="/tmp"))  # short, for the sockets' paths
        self.folder.chmod(0o755)
        self._open: dict[Server, EmbeddedServer] = {name: self._start(name) for name in NAMES}
        for name, database in (("production", "app"), ("sandbox", None), ("control", "desk")):
            with psycopg.connect(self._open[name].owner_url, autocommit=True) as conn:
                # Processes die here, the machine does not: what was written is there, synced or not. Recovery is quick.
                conn.execute("ALTER SYSTEM SET fsync = off")
                conn.execute("SELECT pg_reload_conf()")
                if database:
                    conn.execute(f"CREATE DATABASE {database}")
        with psycopg.connect(self.url("production")) as conn:
            conn.execute(APP.encode())
        self._parts = installed(self.url("production"), FenceRules(root="tenants", label="name"))
        self.wires = {name: Wire(self._socket(name)) for name in ("production", "control")}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            for wire in self.wires.values():
                stack.callback(wire.close)
            for name in NAMES:
                stack.callback(self.stop, name)
                stack.callback(self._open[name].close)

    def _start(self, name: Server) -> EmbeddedServer:
        return open_control(self.folder / name)

    def _socket(self, name: Server) -> Path:
        return self._open[name].socket_dir / ".s.PGSQL.5432"

    def url(self, name: Server) -> str:
        """The owner's own way in, past every wire."""
        database = {"production": "app", "control": "desk", "sandbox": "postgres"}[name]
        return self._open[name].url(database)

    def rows(self, name: Server, query: str, *params: object) -> list[tuple[Any, ...]]:
        """Asks a server over a plain connection."""
        with psycopg.connect(self.url(name), autocommit=True) as conn:
            cursor = conn.execute(query.encode(), params or None)
            return cursor.fetchall() if cursor.description else []

    def stop(self, name: Server) -> None:
        """`pg_ctl stop -m immediate`: SIGQUIT; returns when the postmaster is gone."""
        postmaster = self._open[name].postmaster
        with suppress(ProcessLookupError):
            os.kill(postmaster, signal.SIGQUIT)
        while Path(f"/proc/{postmaster}/cwd").is_symlink():
            time.sleep(0.002)

    def start_again(self, name: Server) -> None:
        """Crash recovery; the same data at the same place."""
        self._open[name].close()
        self._open[name] = self._start(name)

    def configuration(self, name: str, *, wired: bool) -> Path:
        """The configuration of one replica; `wired` puts the wires before its applier, control and audit."""
        control, applier = self.url("control"), str(self._parts.applier_url)
        way: dict[str, dict[str, Any]] = {"production": {}, "control": {}}
        if wired:
            for server, wire in self.wires.items():
                way[server] = {
                    "host": "127.0.0.1", "port": wire.port, "sslmode": "disable", "gssencmode": "disable"
                }  # fmt: skip
        roles = [
            make_conninfo(control, user=f"shadowdesk_{role}", password=f"{role}-password", **way["control"])
            for role in ("control", "audit")
        ]
        path = self.folder / f"{name}.toml"
        path.write_text(f"""
data_dir = "{self.folder / "data" / name}"
[production]
reader_url = "{self._parts.reader_url}"
applier_url = "{make_conninfo(applier, **way["production"])}"
[fence]
root = "tenants"
label = "name"
[sandbox]
url = "{self.url("sandbox")}"
pool = 3
max_shadows = 100
[control]
url = "{control}"
control_url = "{roles[0]}"
audit_url = "{roles[1]}"
[people.rep]
role = "rep"
[people.engineer]
role = "engineer"
""")
        return path
