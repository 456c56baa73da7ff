"""The walls are several: with any one of them switched off, nothing still reaches another tenant's rows."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

import mcp_server.production
import mcp_server.shadows
import shadow.fence_views
import shadow.gate_writes
import shadow.replay
import shadow.sandbox
import shadow.shadow
from shadow.counters import difference
from shadow.embedded import EmbeddedServer
from shadow.needs import DELETE
from shadow.predicate import view_statements
from shadow.trace import read_trace
from tests.tampering.checks import CHECKS
from tests.tampering.corpus import STATEMENTS, Entry, read_entries
from tests.tampering.run import player_on

#: Entries that write towards other tenants; the gate lets the first kind through, the second kind only without it.
HOPS = [e for e in read_entries(STATEMENTS) if e.category == "tenant_hop" and e.expected == "contained"]
CONFLICTS = [e for e in read_entries(STATEMENTS) if e.category == "on_conflict" and not e.compared]


def _views_without(words: str) -> Callable[..., list[sql.SQL]]:
    """The generator of views, with these words cut out of what it makes."""

    def made(*given: Any, **named: Any) -> list[sql.SQL]:
        texts = [statement.as_string(None) for statement in view_statements(*given, **named)]
        cut = [text.replace(words, "") for text in texts]
        assert any(words in text for text in texts) or "line" not in str(given[2].table.name)
        return [sql.SQL(text) for text in cut]

    return made


def _nothing(*_: object, **__: object) -> list[Any]:
    return []


_ADD_ROLE, _PREPARE = shadow.sandbox.Sandbox._add_role, shadow.shadow.Shadow.prepare


def _add_superuser(self: shadow.sandbox.Sandbox, conn: psycopg.Connection[Any], shadow_id: str) -> str:
    """A shadow's role that may do everything everywhere on its server."""
    password = _ADD_ROLE(self, conn, shadow_id)
    conn.execute(sql.SQL("ALTER ROLE {} SUPERUSER CONNECTION LIMIT -1").format(sql.Identifier(f"shadow_{shadow_id}")))
    return password


def _prepare_whole(self: shadow.shadow.Shadow, snapshot: Any) -> None:
    """Everything is loaded at once: no missing right asks for it any more."""
    _PREPARE(self, snapshot)
    self.ensure({name: DELETE for name, table in self.fence.tables.items() if table.fence_class != "outside"})


class _Anything(dict[str, tuple[int, int, int]]):
    """Counters that are never found to differ."""

    def __ne__(self, other: object) -> bool:
        return False


#: Wall → (module, name, what stands there instead).
WALLS: Mapping[str, tuple[tuple[Any, str, Any], ...]] = {
    "check option": tuple(
        (module, "view_statements", _views_without(" WITH CASCADED CHECK OPTION"))
        for module in (shadow.fence_views, shadow.shadow)
    ),
    "security barrier": tuple(
        (module, "view_statements", _views_without(" WITH (security_barrier = true)"))
        for module in (shadow.fence_views, shadow.shadow)
    ),
    "drift comparison": ((shadow.replay, "drift", _nothing),),
    "row comparison": (
        (shadow.replay, "divergence", lambda *_: ([], {})),
        (shadow.replay, "unconfirmed", _nothing),
    ),
    "counters": ((shadow.replay, "difference", lambda *given: _Anything(difference(*given))),),
    "proof of who wrote": (
        (shadow.replay, "read_trace", lambda *given: replace(read_trace(*given), ours="true")),
        (shadow.replay, "unconfirmed", _nothing),
    ),
    "rights of the shadow's role": (
        (shadow.sandbox.Sandbox, "_add_role", _add_superuser),
        (shadow.shadow.Shadow, "prepare", _prepare_whole),
    ),
    "gate's rules for writing": (
        (shadow.gate_writes, "_check_conflict", lambda *_: None),
        (shadow.gate_writes, "_keeps_tenant", lambda *_: True),
    ),
}


#: Walls whose absence is found on the server before anything runs: see tests/integration/test_probe.py.
PROBED = ("check option", "security barrier", "rights of the shadow's role")


@pytest.mark.parametrize("wall", WALLS)
def test_without_one_wall_no_other_tenant_is_written(
    wall: str,
    monkeypatch: pytest.MonkeyPatch,
    production_server: EmbeddedServer,
    postgres_server: EmbeddedServer,
    tmp_path: Path,
) -> None:
    for module, name, instead in WALLS[wall]:
        assert hasattr(module, name)
        monkeypatch.setattr(module, name, instead)
    entries: list[Entry] = [*HOPS, *CONFLICTS] if wall.startswith("gate") else HOPS
    assert len(entries) >= 8
    ran = 0
    if wall in PROBED:
        (tmp_path / "probed").mkdir()
        with pytest.raises(ExceptionGroup) as told, player_on(production_server, postgres_server, tmp_path / "probed"):
            pytest.fail("a wall is missing and a dry run was started")
        assert "Not every wall holds" in "".join(traceback.format_exception(told.value))  # what start_dry_run said
        for module in (mcp_server.production, mcp_server.shadows):
            monkeypatch.setattr(module, "require", _nothing)
    with player_on(production_server, postgres_server, tmp_path) as player:
        for entry in entries:
            played = player.play(entry)
            ran += any(answer.ran for side in played.sides for answer in side.answers)
            assert CHECKS["other_tenants_unchanged"](played), entry.id
            assert CHECKS["no_cross_tenant_reference"](played), entry.id
    assert ran > (len(HOPS) if wall.startswith("gate") else 7)
