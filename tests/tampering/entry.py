"""One entry of a corpus file: what the model sends, and what must hold afterwards."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CHECKS = frozenset(
    """
    prod_unchanged_before_confirm other_tenants_unchanged other_shadow_unchanged catalog_unchanged roles_unchanged
    session_state_unchanged connection_usable no_other_tenant_value_in_output finished_within_4s
    bystander_dml_not_blocked victim_session_alive output_under_1MB gate_process_survives no_notification_delivered
    no_cross_tenant_reference succeeds_in_shadow succeeds_on_replay same_effect same_effect_or_rolled_back
    value_stored_verbatim recorded_text_equals_executed_text recorded_as_write replay_is_atomic
    indistinguishable_outcome no_non_finite_value_applied terminal_safe_output diff_reader_survives
    """.split()
)


class UnknownForm(ValueError):
    """The file is not of the corpus' form; the text names the line."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """`statements` are one dry run's steps, or the two sides of a comparison (`compare`)."""

    id: str
    category: str
    surface: str
    expected: str
    checks: tuple[str, ...]
    statements: tuple[str, ...]
    #: As a hostile client would send them: not only texts.
    params: tuple[Any, ...] = ()
    compare: bool = False
    exec_is_breach: bool = False
    canaries: tuple[str, ...] = ()
    known_limit: bool = False

    def filled(self, places: Mapping[str, str]) -> "Entry":
        """The entry with its placeholders replaced; other braces stay."""

        def fill(text: str) -> str:
            for name, value in places.items():
                text = text.replace("{" + name + "}", value)
            return text

        return replace(
            self,
            statements=tuple(map(fill, self.statements)),
            params=tuple(fill(p) if isinstance(p, str) else p for p in self.params),
            canaries=tuple(map(fill, self.canaries)),
        )


def read_entries(file: Path) -> list[Entry]:
    """Every entry of a file, in order. Raises UnknownForm."""
    found = []
    # no splitlines(): a statement may hold any other line separator of Unicode
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                found.append(_entry(json.loads(line)))
            except (KeyError, TypeError, ValueError) as error:
                raise UnknownForm(f"{file.name}, line {number}: {type(error).__name__} {error}") from error
    return found


def _entry(data: Mapping[str, Any]) -> Entry:
    compare = data.get("kind") == "compare"
    if compare:
        sent = [data["a"], data["b"]]
    else:
        sent = data["steps"] if "steps" in data else [data["sql"]]
    unknown = set(data["checks"]) - CHECKS
    if unknown or data["surface"] not in ("shadow", "flow", "replay"):
        raise ValueError(f"unknown: {sorted(unknown) or data['surface']}")
    if data["expected"] not in ("reject", "contained", "allowed"):
        raise ValueError(f"unknown expectation {data['expected']}")
    return Entry(
        id=data["id"], category=data["category"], surface=data["surface"], expected=data["expected"],
        checks=tuple(data["checks"]), statements=tuple(map(_written_out, sent)), compare=compare,
        params=tuple(str(p) if isinstance(p, int) else p for p in data.get("params") or ()),
        exec_is_breach=bool(data.get("exec_is_breach")), canaries=tuple(data.get("canary", ())),
        known_limit=bool(data.get("known_limit")),
    )  # fmt: skip


def _written_out(statement: Any) -> str:
    """A text, or one that is written as prefix, something repeated, and suffix."""
    if isinstance(statement, dict):
        return str(statement["prefix"] + statement["repeat"] * statement["times"] + statement.get("suffix", ""))
    if not isinstance(statement, str):
        raise TypeError("a statement is a text")
    return statement
