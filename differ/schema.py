"""The documented JSON Schema of `Diff`; read by the MCP tools' output schemas, recordings and tests."""

import json
from importlib.resources import files
from typing import Any


def diff_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) every `Diff.to_json()` is valid under."""
    text = files(__package__).joinpath("diff.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
