"""What a trigger would fill otherwise each time is refused when it is proposed, not after a person said yes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from shadow.embedded import EmbeddedServer
from shadow.errors import StatementFailed
from shadow.fence import FenceRules
from tests.control import Urls
from tests.fixes import REP, Fixes, fixes_on
from tests.postgres import MakeDatabase

ITEMS = """
CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL); INSERT INTO tenants VALUES (1,'Acme'),(2,'Globex');
CREATE TABLE items(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, v int, at timestamptz);
INSERT INTO items VALUES (1,1,1),(2,2,2);
CREATE TABLE history(id serial PRIMARY KEY, item_id int REFERENCES items, at timestamptz, data jsonb);
"""
TOUCH = """
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.at := now(); RETURN NEW; END$$;
CREATE TRIGGER touch BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION touch();
"""
NOTE = """
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  INSERT INTO history(item_id, at, data) VALUES (NEW.id, {at}, {data}); RETURN NULL; END$$;
CREATE TRIGGER note AFTER UPDATE ON items FOR EACH ROW EXECUTE FUNCTION note();
"""
EDIT = ("UPDATE items SET v = 5 WHERE id = 1",)


@pytest.fixture
def fixes(
    urls: Urls, production_database: MakeDatabase, postgres_server: EmbeddedServer
) -> Iterator[Callable[[str], Fixes]]:
    with ExitStack() as stack:
        yield lambda schema: stack.enter_context(
            fixes_on(production_database(schema), urls.control, postgres_server, FenceRules(root="tenants"))
        )


@pytest.mark.parametrize(
    ("before", "at", "data"),
    [
        ("", "clock_timestamp()", "NULL"),
        (TOUCH, "NULL", "to_jsonb(NEW)"),
        ("", "NULL", "jsonb_build_object('token', gen_random_uuid())"),
    ],
    ids=["the wall clock in a made row", "the transaction's time inside a document", "a uuid inside a document"],
)
def test_it_is_refused_when_it_is_proposed(fixes: Callable[[str], Fixes], before: str, at: str, data: str) -> None:
    made = fixes(ITEMS + before + NOTE.format(at=at, data=data))
    dry_run = made.rehearse(EDIT)
    with pytest.raises(StatementFailed, match="Nobody can say which rows of history production would get"):
        made.desk.propose(REP, dry_run)
    assert made.production("SELECT count(*) FROM history") == [(0,)]


def test_the_transactions_time_in_a_made_row_is_foreseen(fixes: Callable[[str], Fixes]) -> None:
    made = fixes(ITEMS + NOTE.format(at="now()", data="jsonb_build_object('v', NEW.v)"))
    made.applied(EDIT)
    assert made.production("SELECT item_id, at > now() - interval '1 minute', data FROM history") == [
        (1, True, {"v": 5})
    ]
