"""Every scenario has a test that exists or a reason; those that no other test shows are shown here."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server.errors import ConfirmationRefused
from shadow.embedded import EmbeddedServer
from tests.tampering.checks import CONTROLS
from tests.tampering.corpus import SCENARIOS
from tests.tampering.playing import Player
from tests.tampering.run import player_on
from tests.tampering.scenario_tests import REASONS, TESTS
from tests.tampering.stack import REP, path_of

ROOT = Path(__file__).parents[2]
LINES = [json.loads(line) for line in SCENARIOS.read_text(encoding="utf-8").split("\n") if line]
POISON = {line["id"]: line["steps"][1] for line in LINES if line["category"] == "poisoned_row"}


def test_every_scenario_has_a_test_or_a_reason() -> None:
    assert {line["id"] for line in LINES} == TESTS.keys() | REASONS.keys()
    assert not TESTS.keys() & REASONS.keys()


@pytest.mark.parametrize("node", sorted({node for nodes in TESTS.values() for node in nodes}))
def test_the_tests_that_are_named_exist(node: str) -> None:
    path, name = node.split("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.fixture
def player(production_server: EmbeddedServer, postgres_server: EmbeddedServer, tmp_path: Path) -> Iterator[Player]:
    with player_on(production_server, postgres_server, tmp_path) as player:
        yield player


def test_a_poisoned_value_is_only_ever_shown(player: Player) -> None:
    """poisoned_row-01 … 16: seeded, read, changed, diffed, proposed and looked at on the page."""
    stack, watched = player.stack, player.watched
    for number, (name, value) in enumerate(POISON.items()):
        text = value.replace("\x00", "")
        watched.conn.execute("UPDATE contracts SET note = %s WHERE id = %s", (text, 17 * (number + 1)))
        assert name in TESTS
    own = stack.started()
    calls = len(stack.assembly.desk.list_dry_runs(REP, None, 100))
    told = [
        stack.call("query_shadow", dry_run_id=own, sql="SELECT id, note FROM contracts ORDER BY id"),
        stack.call(
            "run_statement", dry_run_id=own, sql="UPDATE contracts SET tags = '{seen}', note = note || '.'", reason="x"
        ),
        stack.call("show_diff", dry_run_id=own),
        stack.call("propose", dry_run_id=own),
    ]
    assert all(answer.ok for answer in told)
    page = stack._browser._client.get(path_of(told[3].value["review_url"])).text
    assert "<script>fetch" not in page and "<img src=x" not in page and "<svg/onload" not in page
    for output in (*(answer.text for answer in told), page):
        assert not CONTROLS.search(output)
    assert len(stack.assembly.desk.list_dry_runs(REP, None, 100)) == calls


def test_a_digest_with_one_sign_changed_confirms_nothing(player: Player) -> None:
    """confirm-12: at every position."""
    stack = player.stack
    own = stack.started()
    assert stack.call(
        "run_statement", dry_run_id=own, sql="UPDATE contracts SET note = 'z' WHERE id = 17", reason="x"
    ).ok
    made = stack.call("propose", dry_run_id=own).value
    before, digest = player.watched.picture(), made["digest"]
    for at, sign in enumerate(digest):
        forged = digest[:at] + ("0" if sign != "0" else "1") + digest[at + 1 :]
        with pytest.raises(ConfirmationRefused):
            stack.assembly.desk.confirm(REP, made["id"], forged, int(made["rows"]))
    assert player.watched.picture() == before
    assert stack.confirm(path_of(made["review_url"]), int(made["rows"])).ok
