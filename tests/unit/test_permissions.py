"""Roles: default deny, patterns, and the confirm list that alone opens a confirmation."""

from pathlib import Path

import pytest

from mcp_server.permissions import PERMISSION_OF, Permissions, Role, matches
from mcp_server.settings import DEFAULT_ROLES


@pytest.fixture
def shipped() -> Permissions:
    return Permissions(
        {
            name: Role(name=name, permissions=role.permissions, confirm=frozenset(role.confirm))
            for name, role in DEFAULT_ROLES.items()
        }
    )


@pytest.mark.parametrize(
    ("pattern", "permission", "held"),
    [
        ("*", "contracts.edit", True),
        ("dry_run.*", "dry_run.run", True),
        ("dry_run.*", "dry_runs.run", False),
        ("dry_run.*", "dry_run", False),
        ("dry_run.run", "dry_run.run", True),
        ("dry_run.run", "dry_run.run.more", False),
        ("dry.run", "dry_run", False),
    ],
)
def test_a_pattern_holds_itself_or_what_is_under_it(pattern: str, permission: str, held: bool) -> None:
    assert matches(pattern, permission) is held


def test_what_nobody_granted_is_denied(shipped: Permissions) -> None:
    assert not shipped.decide("rep", "contracts.edit").allowed
    assert not shipped.decide("nobody", "dry_run.run").allowed
    assert not shipped.decide("nobody", "").allowed
    assert "contracts.edit" in shipped.decide("rep", "contracts.edit").reason


def test_an_intern_rehearses_everything_and_confirms_nothing(shipped: Permissions) -> None:
    rehearsing = {p for p in PERMISSION_OF.values() if p.startswith("dry_run.")} | {"tenants.find", "tables.describe"}
    assert all(shipped.decide("intern", permission).allowed for permission in rehearsing)
    assert not shipped.decide("intern", "proposal.confirm").allowed
    assert not shipped.decide("intern", "proposal.answer").allowed
    assert shipped.confirm_rights("intern") == frozenset()


def test_no_pattern_opens_the_confirmation() -> None:
    permissions = Permissions({"root": Role(name="root", permissions=("*", "proposal.*", "proposal.confirm"))})
    assert not permissions.decide("root", "proposal.confirm").allowed


def test_who_may_not_start_a_dry_run_does_not_look_up_tenants(shipped: Permissions) -> None:
    assert not shipped.decide("qa", "tenants.find").allowed
    assert shipped.decide("rep", "tenants.find").allowed


def test_no_verb_of_the_surface_that_a_model_sees_confirms() -> None:
    from mcp_server.tools.registry import BUILT_IN

    assert not {tool.permission for tool in BUILT_IN} & {"proposal.confirm", "proposal.answer"}
    assert not any("confirm" in Path(tool.name).name for tool in BUILT_IN)
