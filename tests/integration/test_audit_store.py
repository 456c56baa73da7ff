"""The trail in the database: linear under concurrency, append-only for everybody, and tampering is found."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.errors import CheckViolation, InsufficientPrivilege

from audit.chain import GENESIS, Head, link_hash
from audit.checkpoint import Checkpoints
from audit.closing import Closing
from audit.errors import AuditBroken, AuditUnavailable
from audit.export import export
from audit.presence import Presence
from audit.store import AuditStore
from audit.verify import verify_export, verify_store
from mcp_server.control.connections import audit_pool, audit_session
from mcp_server.trail import SealedTrail
from tests.control import Urls, event, execute
from tests.processes import until


@pytest.fixture
def store(urls: Urls) -> Iterator[AuditStore]:
    with audit_pool(urls.audit, size=8) as pool:
        yield AuditStore(pool)


@pytest.fixture
def trail(store: AuditStore) -> AuditStore:
    """Intent and outcome of three calls."""
    for call in ("a", "b", "c"):
        store.append(event(call))
        store.append(event(call, "outcome"))
    return store


def as_owner(urls: Urls, statement: str) -> None:
    """What an owner can do who first takes every trigger off."""
    execute(
        urls.owner,
        f"ALTER TABLE audit.events DISABLE TRIGGER ALL; {statement}; ALTER TABLE audit.events ENABLE TRIGGER ALL",
    )


def test_events_are_numbered_linked_and_read_back(store: AuditStore) -> None:
    assert store.head() == Head(seq=0, hash=GENESIS)
    intent = event("a", request="please", arguments={"id": "1"}, dry_run_id="dr_1")
    outcome = event("a", "outcome", dry_run_id="dr_1", diff={"rows": 1}, duration_ms=3.25)
    assert [store.append(intent), store.append(outcome), store.append(event("b"))] == [1, 2, 3]
    assert [found.seq for found in store.tail(2)] == [3, 2]
    assert [found.seq for found in store.tail(2, before=3)] == [2, 1]
    assert [found.to_bytes() for found in store.of_dry_run("dr_1")] == [intent.to_bytes(), outcome.to_bytes()]
    assert verify_store(store).unfinished == 1


def test_the_database_links_with_the_hash_that_verification_computes(trail: AuditStore) -> None:
    head = GENESIS
    for link in trail.links():
        assert (link.prev_hash, link.hash) == (head, link_hash(head, link.seq, link.data))
        head = link.hash
    assert trail.head() == Head(seq=6, hash=head)


@pytest.mark.parametrize("argument", ["a\0b", "\ud800", float("nan"), 2**100, {"$int": ["\0"]}], ids=range(5))
def test_arguments_that_postgres_has_no_form_for_are_kept(store: AuditStore, argument: object) -> None:
    store.append(event(arguments=[argument], request=str(argument), dry_run_id=str(argument)))
    assert repr(store.tail()[0].arguments) == repr([argument])
    assert verify_store(store).events == 1


def test_eight_writers_at_once_make_one_chain(store: AuditStore) -> None:
    def calls(writer: int) -> None:
        for number in range(25):
            store.append(event(f"{writer} {number}"))
            store.append(event(f"{writer} {number}", "outcome"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(calls, range(8)))
    report = verify_store(store)
    assert (report.events, report.unfinished) == (400, 0)


def test_an_outcome_needs_its_intent_and_a_call_has_one_of_each(store: AuditStore) -> None:
    with pytest.raises(AuditUnavailable, match="SD201"):
        store.append(event("a", "outcome"))
    store.append(event("a"))
    store.append(event("a", "outcome"))
    for again in (event("a"), event("a", "outcome")):
        with pytest.raises(AuditUnavailable, match="UniqueViolation"):
            store.append(again)
    assert verify_store(store).events == 2


ROLE_MAY_NOT = [
    "UPDATE audit.events SET call_id = 'x'",
    "DELETE FROM audit.events",
    "TRUNCATE audit.events",
    "INSERT INTO audit.events (seq, data, call_id, kind) VALUES (9, '', 'x', 'intent')",
    "INSERT INTO audit.events (hash, data, call_id, kind) VALUES ('', '', 'x', 'intent')",
    "ALTER TABLE audit.events DISABLE TRIGGER ALL",
    "SET session_replication_role = replica",
    "DROP TABLE audit.events",
    "CREATE TABLE audit.other ()",
    "SELECT FROM control.dry_runs",
]


def test_the_servers_role_can_append_and_read_only(trail: AuditStore, urls: Urls) -> None:
    for statement in ROLE_MAY_NOT:
        with pytest.raises(InsufficientPrivilege):
            execute(urls.audit, statement)
    assert verify_store(trail).events == 6


OWNER_MAY_NOT = [
    "UPDATE audit.events SET call_id = 'x' WHERE seq = 2",
    "DELETE FROM audit.events WHERE seq = 6",
    "TRUNCATE audit.events",
    "SET session_replication_role = replica; DELETE FROM audit.events",
    "SET session_replication_role = replica; TRUNCATE audit.events",
]


def test_triggers_refuse_the_owner_too(trail: AuditStore, urls: Urls) -> None:
    for statement in OWNER_MAY_NOT:
        with pytest.raises(psycopg.Error, match="append-only") as refused:
            execute(urls.owner, statement)
        assert refused.value.sqlstate == "SD202"
    assert verify_store(trail).events == 6


def test_numbers_and_hashes_given_by_the_owner_are_not_taken(trail: AuditStore, urls: Urls) -> None:
    execute(
        urls.owner,
        "INSERT INTO audit.events (seq, prev_hash, hash, data, call_id, kind) SELECT 99, hash, hash, %s, 'z', 'intent'"
        " FROM audit.events WHERE seq = 1",
        event("z").to_bytes(),
    )
    assert verify_store(trail).head.seq == 7


@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        ("UPDATE audit.events SET dry_run_id = 'dr_other' WHERE seq = 3", 3),
        ("DELETE FROM audit.events WHERE seq = 3", 3),
        ("DELETE FROM audit.events WHERE seq = 1", 1),
        ("DELETE FROM audit.events WHERE seq IN (2, 3)", 2),
    ],
)
def test_an_owner_who_takes_the_triggers_off_is_found(trail: AuditStore, urls: Urls, statement: str, seq: int) -> None:
    as_owner(urls, statement)
    with pytest.raises(AuditBroken) as broken:
        verify_store(trail)
    assert broken.value.seq == seq


def test_changed_content_needs_a_changed_hash_and_then_the_next_event_does_not_follow(
    trail: AuditStore, urls: Urls
) -> None:
    change = "UPDATE audit.events SET data = decode('7b7d', 'hex') WHERE seq = 3"
    with pytest.raises(CheckViolation, match="own_hash"):
        as_owner(urls, change)
    as_owner(urls, f"ALTER TABLE audit.events DROP CONSTRAINT own_hash; {change}")
    with pytest.raises(AuditBroken) as broken:
        verify_store(trail)
    assert broken.value.seq == 3


def test_a_cut_tail_is_found_by_a_checkpoint(trail: AuditStore, urls: Urls, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.sign(trail.head())
    assert verify_store(trail, checkpoints.all()).covered_to == 6
    as_owner(urls, "DELETE FROM audit.events WHERE seq > 4")
    verify_store(trail)
    with pytest.raises(AuditBroken) as broken:
        verify_store(trail, checkpoints.all())
    assert broken.value.seq == 5
    trail.append(event("later"))
    trail.append(event("later", "outcome"))
    with pytest.raises(AuditBroken) as broken:
        verify_store(trail, checkpoints.all())
    assert broken.value.seq == 6


def test_an_export_of_the_store_verifies_alone(trail: AuditStore, tmp_path: Path) -> None:
    out = io.BytesIO()
    checkpoint = export(trail, Checkpoints(tmp_path), out)
    report = verify_export(out.getvalue().splitlines(keepends=True), trusted=frozenset({checkpoint.public_key}))
    assert report.head == trail.head() == checkpoint.head


def test_a_long_trail_is_read_page_by_page(store: AuditStore, urls: Urls, tmp_path: Path) -> None:
    with psycopg.connect(urls.audit) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO audit.events (data, call_id, kind) VALUES (%s, %s, 'intent')",
            [(event(str(number)).to_bytes(), str(number)) for number in range(1001)],
        )
    out = io.BytesIO()
    export(store, Checkpoints(tmp_path), out)
    assert verify_export(io.BytesIO(out.getvalue())).events == 1001


def test_without_the_right_to_insert_the_call_is_refused_and_no_value_is_repeated(
    store: AuditStore, urls: Urls
) -> None:
    execute(urls.owner, "REVOKE INSERT (data) ON audit.events FROM shadowdesk_audit")
    with pytest.raises(AuditUnavailable, match="refused before it did anything") as refused:
        store.append(event(request="secret words"))
    assert "secret words" not in str(refused.value)
    assert store.head().seq == 0


def test_arguments_without_a_form_are_refused_and_nothing_is_written(store: AuditStore) -> None:
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    for arguments in (object(), deep):
        with pytest.raises(AuditUnavailable, match="no form"):
            store.append(event(arguments=arguments))
    assert store.head().seq == 0


def test_a_lost_connection_is_replaced_before_it_is_used(trail: AuditStore, urls: Urls) -> None:
    execute(
        urls.owner,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE application_name = 'shadowdesk audit' AND datname = current_database()",
    )
    assert trail.append(event("after")) == 7


def test_a_closed_store_refuses(urls: Urls) -> None:
    with audit_pool(urls.audit) as pool:
        store = AuditStore(pool)
    for use in (lambda: store.append(event()), store.head, store.tail):
        with pytest.raises(AuditUnavailable):
            use()


@pytest.fixture
def presence(urls: Urls) -> Iterator[Presence]:
    presence = Presence(lambda: audit_session(urls.audit))
    yield presence
    presence.close()


def test_a_call_is_closed_as_lost_only_when_its_process_is_gone(
    store: AuditStore, urls: Urls, presence: Presence
) -> None:
    with audit_pool(urls.audit) as pool:
        theirs = AuditStore(pool, presence)
        theirs.append(event("done"))
        theirs.append(event("done", "outcome"))
        theirs.append(event("cut off", dry_run_id="dr_1", person="Ada"))
    closing = Closing(store, grace=timedelta(0))
    assert closing.close_lost() == []  # it may still run
    presence.close()
    until(lambda: store.is_gone(presence.name))
    assert Closing(store, grace=timedelta(days=1)).close_lost() == []  # it may only have lost its session
    with ThreadPoolExecutor(4) as threads:
        closed = list(threads.map(lambda _: Closing(store, grace=timedelta(0)).close_lost(), range(8)))
    assert sorted(closed, key=len)[-1] == ["cut off"]
    assert sum(map(len, closed)) == 1
    assert closing.close_lost() == []
    [last] = store.tail(1)
    assert (last.call_id, last.outcome, last.person, last.dry_run_id) == ("cut off", "lost", "Ada", "dr_1")
    assert (verify_store(store).events, verify_store(store).unfinished) == (4, 0)


def test_a_process_whose_session_was_lost_takes_its_presence_again(
    store: AuditStore, urls: Urls, presence: Presence
) -> None:
    presence.hold()
    half_dead, presence._session = presence._session, None  # the server has not noticed yet
    presence.hold()
    assert half_dead is not None and not half_dead.closed
    half_dead.close()
    execute(
        urls.owner,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'shadowdesk presence'"
        " AND datname = current_database()",
    )
    presence.renew()
    assert not store.is_gone(presence.name)
    presence.close()
    until(lambda: store.is_gone(presence.name))  # the server ends a session after its client did


def test_an_outcome_that_could_not_be_written_is_written_later(
    store: AuditStore, urls: Urls, presence: Presence, tmp_path: Path
) -> None:
    trail = SealedTrail(store, Checkpoints(tmp_path))
    trail.append(event("a"))
    execute(urls.owner, "REVOKE INSERT (data, call_id, kind, dry_run_id) ON audit.events FROM shadowdesk_audit")
    with pytest.raises(AuditUnavailable):
        trail.append(event("a", "outcome"))
    execute(urls.owner, "GRANT INSERT (data, call_id, kind, dry_run_id) ON audit.events TO shadowdesk_audit")
    trail.tidy(presence)
    assert [(found.call_id, found.outcome) for found in store.tail(1)] == [("a", "ok")]
    trail.tidy(presence)
    assert (verify_store(store).events, verify_store(store).unfinished) == (2, 0)


def test_an_outcome_without_a_form_is_not_tried_for_ever(store: AuditStore, presence: Presence, tmp_path: Path) -> None:
    trail = SealedTrail(store, Checkpoints(tmp_path))
    trail.append(event("a"))
    with pytest.raises(AuditUnavailable, match="no form"):
        trail.append(event("a", "outcome", arguments={"given": object()}))
    trail.tidy(presence)
    assert verify_store(store).unfinished == 1
