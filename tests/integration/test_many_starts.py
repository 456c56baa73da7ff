"""Many dry runs started at once: all of them stand, or are told that there is no room; nothing is left over."""

import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

import mcp_server.production as production_module
import mcp_server.shadows as shadows_module
from mcp_server.assembly import Assembly, open_desk
from mcp_server.production import Production
from mcp_server.settings import Settings, load_settings
from shadow.catalog import read_fingerprint
from shadow.embedded import EmbeddedServer, open_sandbox
from shadow.errors import QuotaExceeded
from shadow.fence import FenceRules
from shadow.probe import Wall, probe_role
from shadow.shadow import Shadow
from tests.control import execute
from tests.integration.test_assembly import APP, REP, settings_for
from tests.lifecycle import installed
from tests.postgres import MakeDatabase
from tests.processes import until

STARTS = 24


def settings_with(tmp_path: Path, app: str, servers: EmbeddedServer, lines: str) -> Settings:
    settings_for(tmp_path, app, servers.owner_url)
    text = (tmp_path / "shadowdesk.toml").read_text()
    changed = tmp_path / "changed.toml"
    changed.write_text(text.replace("pool = 1", lines))
    return load_settings(changed)


def start_all(assembly: Assembly) -> tuple[list[str], list[Exception]]:
    def start(number: int) -> str | Exception:
        try:
            return assembly.desk.start_dry_run(REP, str(1 + number % 2), f"request {number}", "test").id
        except Exception as error:
            return error

    with ThreadPoolExecutor(STARTS) as threads:
        found = list(threads.map(start, range(STARTS)))
    return [one for one in found if isinstance(one, str)], [one for one in found if isinstance(one, Exception)]


def left(servers: EmbeddedServer) -> tuple[Counter[str], set[str], set[str], set[str]]:
    """Shadows by state, and the ids that the registry, the databases and the roles speak of."""
    rows = execute(servers.owner_url, "SELECT id, state FROM shadowdesk.shadows")
    databases = execute(servers.owner_url, "SELECT substr(datname, 8) FROM pg_database WHERE datname ~ '^shadow_'")
    roles = execute(servers.owner_url, "SELECT substr(rolname, 8) FROM pg_roles WHERE rolname ~ '^shadow_'")
    return (
        Counter(state for _, state in rows),
        {ident for ident, _ in rows},
        {ident for (ident,) in databases},
        {ident for (ident,) in roles},
    )


def test_all_stand_and_each_is_its_own(tmp_path: Path, production_database: MakeDatabase) -> None:
    with open_sandbox(tmp_path / "servers") as servers:
        settings = settings_with(tmp_path, production_database(APP), servers, "pool = 2")
        with open_desk(settings, applier=False) as assembly:
            started, refused = start_all(assembly)
            assert not refused and len(set(started)) == STARTS

            def note(dry_run_id: str) -> int:
                return assembly.desk.run(REP, dry_run_id, "UPDATE notes SET body = 'seen'", "as asked").row_count

            with ThreadPoolExecutor(4) as threads:
                assert set(threads.map(note, started)) == {5}
        states, known, databases, roles = left(servers)
        assert states["taken"] == STARTS and known == databases == roles


def test_a_full_sandbox_refuses_the_rest_in_words_and_keeps_no_orphan(
    tmp_path: Path, production_database: MakeDatabase
) -> None:
    with open_sandbox(tmp_path / "servers") as servers:
        settings = settings_with(tmp_path, production_database(APP), servers, "pool = 0\nmax_shadows = 10")
        with open_desk(settings, applier=False) as assembly:
            started, refused = start_all(assembly)
            assert refused and {type(error) for error in refused} == {QuotaExceeded}
            states, known, databases, roles = left(servers)
            assert states == {"taken": len(started)} and known == databases == roles
            assert 0 < len(started) <= 10
            for dry_run_id in started:
                assembly.desk.discard(REP, dry_run_id)
            assert left(servers) == (Counter(), set(), set(), set())
            assert assembly.desk.start_dry_run(REP, "1", "again", "test").state == "open"


def test_a_turn_that_does_not_come_is_refused_in_words(
    tmp_path: Path, production_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_sandbox(tmp_path / "servers") as servers:
        settings = settings_with(tmp_path, production_database(APP), servers, "pool = 0")
        with open_desk(settings, applier=False) as assembly:
            turns = assembly.shadows._starting
            while turns.acquire(blocking=False):
                pass
            monkeypatch.setattr(assembly.shadows, "_settings", type(assembly.shadows._settings)(start_wait_s=0.01))
            with pytest.raises(QuotaExceeded, match="at once"):
                assembly.desk.start_dry_run(REP, "1", "x", "test")


def test_ready_shadows_count_and_give_way_to_those_that_are_needed(
    tmp_path: Path, production_database: MakeDatabase
) -> None:
    with open_sandbox(tmp_path / "servers") as servers:
        url = production_database(APP)
        settings = settings_with(tmp_path, url, servers, "pool = 3\nmax_shadows = 4")
        with open_desk(settings, applier=False) as assembly:
            most = 0
            for _ in range(4):
                assembly.desk.start_dry_run(REP, "1", "x", "test")
                filling = assembly.shadows._filling
                assert filling is not None
                filling.join()
                most = max(most, len(left(servers)[2]))
            assert most == 4 and left(servers)[0] == Counter(taken=4)
            with pytest.raises(QuotaExceeded, match="holds 4 shadows"):
                assembly.desk.start_dry_run(REP, "1", "x", "test")
            assembly.sandbox.drop(assembly.control.list_dry_runs()[0].shadow_id or "")
            assembly.sandbox.fill(str(assembly.control.list_dry_runs()[0].mirror_version), 3)
            assert left(servers)[0] == Counter(taken=3, ready=1)
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute("ALTER TABLE notes ADD more int")
            assembly.desk.start_dry_run(REP, "1", "x", "on a new schema version")
            assert left(servers)[0] == Counter(taken=4)


def test_replicas_take_each_others_ready_shadows_and_keep_no_connection_to_them(
    tmp_path: Path, production_database: MakeDatabase
) -> None:
    with open_sandbox(tmp_path / "servers") as servers:
        settings = settings_with(tmp_path, production_database(APP), servers, "pool = 2")
        with open_desk(settings, applier=False) as maker, open_desk(settings, applier=False) as taker:
            maker.shadows.warm()
            prepared = maker.shadows._ready.ids
            assert len(prepared) == 2 and taker.shadows._ready.ids == []
            taker.shadows._settings = type(taker.shadows._settings)(pool=0)
            for number in range(2):
                made = taker.desk.start_dry_run(REP, "1", f"request {number}", "test")
                assert taker.control.dry_run(made.id).shadow_id in prepared
                assert taker.desk.run(REP, made.id, "UPDATE notes SET body = 'seen'", "as asked").row_count == 5
            maker.shadows.reap()
            assert maker.shadows._ready.ids == []
            maker.shadows.warm()
            [first, _] = maker.shadows._ready.ids
            execute(
                servers.owner_url,
                f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'shadow_{first}'",
            )
            made = maker.desk.start_dry_run(REP, "1", "on one whose connections were lost", "test")
            assert maker.control.dry_run(made.id).shadow_id == first
            assert maker.desk.run(REP, made.id, "UPDATE notes SET body = 'seen'", "as asked").row_count == 5


def test_what_the_pool_prepared_is_not_made_again_when_dry_runs_start(
    tmp_path: Path, production_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def trying(shadow: Shadow, closed_urls: Iterable[str]) -> list[Wall]:
        tried.append(shadow.id)
        return probe_role(shadow, closed_urls)

    monkeypatch.setattr(shadows_module, "probe_role", trying)
    with open_sandbox(tmp_path / "servers") as servers:
        settings = settings_with(tmp_path, production_database(APP), servers, "pool = 3")
        with open_desk(settings, applier=False) as assembly:
            assembly.shadows.warm()
            assert len(tried) == 1  # the walls around the first shadow of a mirror
            monkeypatch.setattr(Production, "reader", None)  # a new connection to production would fail
            fence = assembly.production.fence()
            for _ in range(3):
                shadow, _ = assembly.shadows.start("1", fence=fence)
                shadows_module.let_go(shadow)
            assert len(tried) == 1


def test_those_who_ask_for_the_schema_version_at_once_share_a_look_that_began_after_they_asked(
    tmp_path: Path, production_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = production_database(APP)
    production = Production(installed(url, FenceRules(root="tenants", label="name")))
    before = production.fence()
    looks, clock, entered, go_on = [], [], threading.Event(), threading.Event()

    def now() -> float:
        clock.append(time.monotonic())
        return clock[-1]

    def looking(conn: psycopg.Connection[tuple[object, ...]], schemas: tuple[str, ...]) -> str:
        looks.append(read_fingerprint(conn, schemas))
        entered.set()
        go_on.wait(30)
        return looks[-1]

    monkeypatch.setattr(production_module, "read_fingerprint", looking)
    monkeypatch.setattr(production_module, "time", SimpleNamespace(monotonic=now))
    with ThreadPoolExecutor(9) as threads:
        first = threads.submit(production.fence)
        assert entered.wait(30)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("ALTER TABLE notes ADD more int")
        later = [threads.submit(production.fence) for _ in range(8)]
        until(lambda: len(clock) == 2 + len(later))  # the first one's question and look, and all the others' questions
        go_on.set()
        assert first.result() is before
        assert {found.result().catalog.fingerprint for found in later} == {looks[-1]} != {looks[0]}
    assert len(looks) == 2  # the first one's, and one for those that came during it
    production.close()
