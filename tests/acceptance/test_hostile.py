"""A short form of `make hostile`: hostile arguments, pages and messages, and clients that leave, change nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile import attack
from tests.hostile.serving import served

#: Calls of each tool, visits of pages and lines of each command that the suite sends; `make hostile` sends many more.
CALLS, VISITS, LINES = 25, 20, 4


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[attack.Scene]:
    with attack.scene(Path(tmp_path_factory.mktemp("hostile"))) as scene:
        yield scene


def test_hostile_arguments_are_refused_in_words_and_audited(scene: attack.Scene) -> None:
    attack.tools(scene, CALLS)
    assert scene.counts["tools refused"] > 200
    assert scene.broken() == []


def test_hostile_pages_and_messages_are_refused(scene: attack.Scene) -> None:
    attack.pages(scene, VISITS)
    with served(scene) as address:
        attack.wire(scene, address, scene.stage.tokens["rep"])
    assert scene.counts["wire 413"] > 0
    assert scene.broken() == []


def test_hostile_command_lines_end_in_words(scene: attack.Scene) -> None:
    attack.commands(scene, LINES)
    assert scene.counts["command 2"] > 30
    assert scene.broken() == []


@pytest.mark.anyio
async def test_clients_that_leave_orphan_nothing(scene: attack.Scene) -> None:
    await attack.leaving(scene, 60)
    await attack.starting_and_leaving(scene, 5)
    assert scene.counts["parallel answered"] > 0
    assert scene.broken() == []


def test_broken_sees_a_changed_production(scene: attack.Scene) -> None:
    scene.stage.change_production("UPDATE accounts SET name = name || '!'")
    assert "production changed" in scene.broken()
