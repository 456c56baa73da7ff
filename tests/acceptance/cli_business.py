"""The command line on a real business: production, sandbox and control on the test server, each command a process."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEYS = {"rep": "the rep's own key", "engineer": "the engineer's own key"}
CONFIGURATION = """
data_dir = "data"
[production]
reader_url = "{reader}"
applier_url = "{applier}"
[sandbox]
url = "{sandbox}"
pool = 0
[control]
url = "{control_owner}"
control_url = "{control}"
audit_url = "{audit}"
[fence]
root = "tenants"
label = "name"
[fence.tables."contract_history"]
class = "sink"
actor_columns = ["who"]
[fence.tables."invoices"]
via = "contract_id -> contracts.id"
[measures.billing_total]
table = "line_items"
sum = "qty * unit_price"
unit = "USD"
[roles.rep]
permissions = ["dry_run.*"]
confirm = ["self"]
[roles.engineer]
permissions = ["*"]
confirm = ["self", "second", "engineer"]
[people.rep]
role = "rep"
confirm_key_sha256 = "{rep_key}"
[people.engineer]
role = "engineer"
confirm_key_sha256 = "{engineer_key}"
[stdio]
person = "rep"
"""


@dataclass(frozen=True, kw_only=True)
class Business:
    """A configured production and the commands a person runs against it."""

    folder: Path
    owner_url: str

    @property
    def command(self) -> list[str]:
        """The console script of this environment."""
        return [sys.executable, "-m", "mcp_server"]

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "shadowdesk.toml"

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """One command without a terminal."""
        return subprocess.run(
            [*self.command, *arguments, "--config", str(self.config)],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120,
            env={**os.environ, "COLUMNS": "200", **environment},
        )  # fmt: skip

    def done(self, *arguments: str, **environment: str) -> str:
        """The output of a command that has to succeed."""
        ended = self.run(*arguments, **environment)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def read(self, *arguments: str) -> Any:
        """The JSON of a command that has to succeed."""
        return json.loads(self.done(*arguments, "--json"))

    def steps(self, text: str) -> str:
        """A file of statements."""
        file = self.folder / "steps.sql"
        file.write_text(text, encoding="utf-8")
        return str(file)
