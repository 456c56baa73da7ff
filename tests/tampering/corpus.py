"""The corpus' form as values: one entry per line, with placeholders filled in when it is sent; see README.md."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
STATEMENTS = FOLDER / "statements.jsonl"
SCENARIOS = FOLDER / "scenarios.jsonl"
APP = (FOLDER / "app.sql").read_text(encoding="utf-8")
_PLACEHOLDER = re.compile(r"\{(own_shadow|other_shadow|own_role|other_role|applier_role|owner_role|control_role)\}")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the model sends and what must hold afterwards; `sides` has two members for kind compare."""

    id: str
    category: str
    surface: str
    expected: str
    sides: tuple[tuple[Any, ...], ...]
    params: tuple[Any, ...] = ()
    checks: tuple[str, ...] = ()
    exec_is_breach: bool = False
    canaries: tuple[str, ...] = field(default=())
    known_limit: bool = False

    @property
    def compared(self) -> bool:
        """Whether the outcomes of two statements are held against each other."""
        return len(self.sides) == 2


def read_entries(path: Path) -> list[Entry]:
    """Every entry of a file of the corpus' form. Raises ValueError naming the line that is none."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(_entry(json.loads(line)))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} line {number} is no entry: {type(error).__name__} {error}") from error
    return found


def _entry(raw: dict[str, Any]) -> Entry:
    if raw.get("kind") == "compare" or ("a" in raw and "b" in raw):
        sides: tuple[tuple[Any, ...], ...] = ((raw["a"],), (raw["b"],))
    else:
        sides = (tuple(raw["steps"]) if "steps" in raw else (raw["sql"],),)
    canary = raw.get("canary") or ()
    return Entry(
        id=str(raw["id"]),
        category=str(raw.get("category", "")),
        surface=str(raw.get("surface", "shadow")),
        expected=str(raw["expected"]),
        sides=sides,
        params=tuple(raw.get("params") or ()),
        checks=tuple(raw.get("checks") or ()),
        exec_is_breach=bool(raw.get("exec_is_breach")),
        canaries=(canary,) if isinstance(canary, str) else tuple(canary),
        known_limit=bool(raw.get("known_limit")),
    )


def written_out(statement: Any, places: Mapping[str, str]) -> str:
    """The statement's text: placeholders filled, a repetition written out."""
    if isinstance(statement, dict):
        prefix, suffix = statement.get("prefix", ""), statement.get("suffix", "")
        statement = prefix + statement["repeat"] * int(statement["times"]) + suffix
    return _PLACEHOLDER.sub(lambda found: places[found[1]], str(statement))
