"""Statements that sense where or when they run, in every place of a statement: refused by a named rule, or proven equal.

What is refused is first shown to be SQL that production's server runs, so that no refusal is of a misspelling. What is
accepted runs in a shadow and is replayed on a production whose settings are all other than a server's own.
"""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from mcp_server.production import Production
from mcp_server.surface import gate_surface
from shadow.embedded import EmbeddedServer
from shadow.errors import Diverged, StatementRefused
from shadow.fence import FenceRules, TableRule
from shadow.gate import gate
from shadow.session import connect
from shadow.statement import Surface
from tests.lifecycle import Lifecycle, installed
from tests.postgres import MakeDatabase

APP = """
CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL);
CREATE TYPE mood AS ENUM ('calm', 'now', 'tense');
CREATE TABLE docs(
  id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants(id), slug text NOT NULL, note text, n int DEFAULT 0,
  on_day date, at timestamptz, meta jsonb, tags text[], price numeric(12,2), mood mood, UNIQUE (tenant_id, slug));
INSERT INTO tenants VALUES (1,'Acme'),(2,'Globex');
INSERT INTO docs SELECT g, 1 + g % 2, 's' || g, 'note ' || g, g, date '2026-01-01' + g, timestamptz '2026-07-01 12:00+02'
  + g * interval '1 day', jsonb_build_object('d', '2026-01-31', 'k', g), ARRAY['a', 'b'], g * 1.5, 'calm'
  FROM generate_series(1, 40) g;
CREATE FUNCTION app_note() RETURNS text LANGUAGE sql STABLE AS $$SELECT current_user::text$$;
"""
RULES = FenceRules(root="tenants", label="name", tables={"tenants": TableRule(surface=False)})
#: Settings of production's database that change what an expression gives or how it is written.
OTHERWISE = {
    "TimeZone": "Asia/Kolkata", "DateStyle": "German", "IntervalStyle": "iso_8601", "extra_float_digits": "-3",
    "bytea_output": "escape", "timezone_abbreviations": "India", "quote_all_identifiers": "on", "array_nulls": "off",
    "transform_null_equals": "on", "xmlbinary": "hex", "xmloption": "document", "gin_fuzzy_search_limit": "1",
}  # fmt: skip
STATE, LIST, TYPE, WORD = "server's own state", "not on the list", "The type “", "not the same on the shadow"
SYSTEM, CATALOG, MOMENT = "system column", "catalog", "another moment"
#: Form → words of the rule that refuses it.
SENSING = {
    # who and where
    "current_user": WORD, "session_user": WORD, "user": WORD, "current_role": WORD, "current_catalog": WORD,
    "current_schema": WORD, "current_schema()": STATE, "current_schemas(true)": STATE, "current_database()": STATE,
    "inet_server_addr()": STATE, "inet_server_port()": STATE, "inet_client_addr()": STATE, "inet_client_port()": STATE,
    "pg_backend_pid()": STATE, "pg_client_encoding()": STATE, "getdatabaseencoding()": STATE, "getpgusername()": STATE,
    "app_note()": LIST,
    # which server, since when
    "version()": STATE, "pg_postmaster_start_time()": STATE, "pg_conf_load_time()": STATE, "pg_jit_available()": STATE,
    "pg_is_in_recovery()": STATE, "current_setting('search_path')": STATE, "current_setting('server_version')": STATE,
    "set_config('a.b', 'c', true)": STATE, "current_query()": STATE, "pg_trigger_depth()": STATE,
    "pg_my_temp_schema()": STATE, "row_security_active('docs')": STATE,
    # transactions
    "txid_current()": STATE, "txid_current_if_assigned()": STATE, "pg_current_snapshot()": STATE,
    "pg_current_xact_id()": STATE, "txid_current_snapshot()": STATE, "pg_export_snapshot()": STATE,
    "pg_snapshot_xmin(pg_current_snapshot())": STATE, "'1'::xid": TYPE, "'1'::xid8": TYPE, "'0/0'::pg_lsn": TYPE,
    "'(0,1)'::tid": TYPE, "'10:20:'::pg_snapshot": TYPE,
    # the row's place
    "d.ctid": SYSTEM, "d.xmin": SYSTEM, "d.xmax": SYSTEM, "d.cmin": SYSTEM, "d.cmax": SYSTEM, "d.tableoid": SYSTEM,
    "ctid": SYSTEM, '"xmin"': SYSTEM, "tableoid::regclass": TYPE, "d.tableoid::regclass::text": TYPE,
    "(SELECT min(a.id) FROM docs a JOIN docs b ON a.ctid = b.ctid)": SYSTEM,
    # names looked up where it runs
    "'docs'::regclass": TYPE, "'docs'::regclass::oid": TYPE, "CAST('docs' AS regclass)": TYPE,
    "'{docs}'::regclass[]": TYPE, "'lower(text)'::regprocedure": TYPE, "'version'::regproc": TYPE, "'text'::regtype": TYPE,
    "'public'::regnamespace": TYPE, "'english'::regconfig": TYPE, "16384::oid": TYPE, "to_regclass('docs')": STATE,
    "to_regtype('text')": STATE, "to_regproc('now')": STATE, "to_regnamespace('public')": STATE,
    "pg_typeof(id)": STATE, "pg_typeof(d)": STATE, "pg_collation_for(note)": STATE, "collation for (note)": STATE,
    "pg_column_size(note)": STATE, "format_type(25, -1)": STATE, "quote_ident(note)": LIST,
    "format('%I', note)": "%I",
    # catalogs
    "(SELECT count(*) FROM pg_class)": CATALOG, "(SELECT count(*) FROM pg_catalog.pg_class)": "qualified",
    "(SELECT count(*) FROM information_schema.tables)": "qualified", "(SELECT count(*) FROM pg_settings)": CATALOG,
    "(SELECT setting FROM pg_settings WHERE name = 'TimeZone')": CATALOG,
    "(SELECT max(collversion) FROM pg_collation)": CATALOG, "(SELECT count(*) FROM pg_stat_activity)": CATALOG,
    "EXISTS (TABLE pg_settings)": CATALOG, "(SELECT c FROM current_user c)": WORD, "(SELECT v FROM version() v)": STATE,
    "(SELECT p FROM ROWS FROM (pg_backend_pid()) AS t(p))": STATE,
    # rights
    "has_table_privilege('docs', 'select')": STATE, "has_schema_privilege('public', 'usage')": STATE,
    "has_database_privilege(current_database(), 'connect')": STATE, "pg_has_role('pg_monitor', 'member')": STATE,
    "has_any_column_privilege('docs', 'select')": STATE,
    # definitions and sizes
    "pg_get_viewdef(1)": STATE, "pg_get_functiondef('app_note'::regproc)": STATE, "pg_get_constraintdef(1)": STATE,
    "pg_get_indexdef(1)": STATE, "pg_get_userbyid(10)": STATE, "pg_get_serial_sequence('docs', 'id')": STATE,
    "obj_description('docs'::regclass)": STATE, "col_description('docs'::regclass, 1)": STATE,
    "shobj_description(1, 'pg_database')": STATE, "pg_relation_size('docs')": STATE,
    "pg_total_relation_size('docs')": STATE, "pg_table_size('docs')": STATE,
    "pg_database_size(current_database())": STATE, "pg_table_is_visible('docs'::regclass)": STATE,
    "pg_relation_filenode('docs')": STATE, "pg_encoding_to_char(6)": STATE, "pg_size_pretty(1::bigint)": STATE,
    # large objects, texts of whole tables, other servers' functions
    "lo_create(0)": STATE, "lo_get(1)": STATE, "lo_from_bytea(0, 'x')": STATE, "loread(1, 1)": "answers differently",
    "query_to_xml('select 1', true, true, '')": STATE, "table_to_xml('docs', true, true, '')": STATE,
    "to_tsvector('x')": LIST, "get_current_ts_config()": LIST, "hashtext('x')": LIST,
    # sequences and locks
    "lastval()": "Leave the id column out", "pg_try_advisory_xact_lock(1)": STATE,
    # chance and the wall clock, once per row
    "random()": "anew for every row", "clock_timestamp()": "anew for every row", "timeofday()": "anew for every row",
    "gen_random_uuid()": "anew for every row", "setseed(0.1)": "answers differently",
    # the day on which it is asked
    "age(at)": "looks at the clock", "'now'::timestamptz": MOMENT, "'today'::text::date": MOMENT,
    "date 'tomorrow'": MOMENT, "CAST('yesterday' AS timestamp)": MOMENT, "date('today')": MOMENT,
    "greatest(on_day, 'today')": MOMENT, "coalesce(on_day, 'today')": MOMENT, "nullif(on_day, 'today')": MOMENT,
    "CASE WHEN n > 0 THEN on_day ELSE 'today' END": MOMENT, "CASE on_day WHEN 'today' THEN 1 END": MOMENT,
    "on_day IN ('today')": MOMENT, "on_day BETWEEN 'yesterday' AND 'tomorrow'": MOMENT, "on_day - 'today'": MOMENT,
    "on_day = ANY ('{today}')": MOMENT, "(on_day, n) = ('today', 1)": MOMENT, "'{today}'::date[]": MOMENT,
    "ARRAY[on_day, 'today']": MOMENT, "array_append(ARRAY[on_day], 'today')": MOMENT,
    "array_position(ARRAY[on_day], 'today')": MOMENT, "daterange('today', 'tomorrow')": MOMENT,
    "'[today,tomorrow)'::daterange": MOMENT,
    "tstzrange('now', NULL)": MOMENT, "timezone('UTC', 'now')": MOMENT, "'now' AT TIME ZONE 'UTC'": MOMENT,
    "age('now', '2026-01-01')": MOMENT, "date_bin('1 day', 'now', '2001-01-01')": MOMENT,
    "('today', 'tomorrow') OVERLAPS (on_day, on_day + 1)": MOMENT, "(SELECT on_day UNION SELECT 'today' LIMIT 1)": MOMENT,
    "(SELECT x FROM (VALUES (on_day), ('today')) v(x) LIMIT 1)": MOMENT,
    "(SELECT x::date FROM (SELECT 'today' AS x) q)": MOMENT, "coalesce('today', note)::date": MOMENT,
    "(SELECT 'today')::date": MOMENT, "(ARRAY['today'])[1]::date": MOMENT, "lower('TODAY')::date": MOMENT,
    "('to' || 'day')::date": "pieces of text", "concat('to', 'day')::date": "pieces of text",
    "(chr(116) || 'oday')::date": "pieces of text", "substr('xtoday', 2)::date": "pieces of text",
    "('{\"d\": \"today\"}'::json ->> 'd')::timestamptz": MOMENT, "date('to' || 'day')": "pieces of text",
    "time '12:00' AT TIME ZONE 'Europe/Berlin'": "day on which it is asked",
    "timezone('Europe/Berlin', timetz '12:00+00')": "day on which it is asked",
    "CURRENT_TIME AT TIME ZONE 'Europe/Berlin'": "day on which it is asked",
    # chance of rows
    "(SELECT n FROM docs TABLESAMPLE bernoulli (50) LIMIT 1)": "by chance",
}  # fmt: skip
#: Forms that newer servers alone know.
NEWER = {"system_user": (160000, STATE), "random(1, 10)": (170000, "without arguments"), "random_normal()": (160000, "acts"),
         "array_shuffle(ARRAY[1, 2])": (160000, "acts"), "pg_current_xact_id_if_assigned()": (140000, STATE),
         "date_add('now', '1 day')": (160000, MOMENT), "uuidv7()": (180000, "anew for every row"),
         "icu_unicode_version()": (170000, STATE), "unicode_version()": (170000, STATE)}  # fmt: skip
#: Where a form stands; {0} is the form. Every one has a table `d` in sight.
PLACES = {
    "SET": "UPDATE docs d SET note = ({0})::text WHERE slug = 's1'",
    "WHERE": "UPDATE docs d SET n = 1 WHERE ({0})::text <> 'x'",
    "DELETE WHERE": "DELETE FROM docs d WHERE ({0})::text = 'x'",
    "INSERT VALUES": "INSERT INTO docs (id, slug, note) VALUES (1000, 'new', (SELECT ({0})::text FROM docs d LIMIT 1))",
    "INSERT SELECT": "INSERT INTO docs (id, slug, note) SELECT id + 1000, slug || '!', ({0})::text FROM docs d ORDER BY id",
    "ON CONFLICT": "INSERT INTO docs AS d (id, tenant_id, slug) VALUES (2, 1, 's2') ON CONFLICT (tenant_id, slug)"
                   " DO UPDATE SET note = ({0})::text",
    "CTE": "WITH q AS (SELECT d.id AS k, ({0})::text AS v FROM docs d) UPDATE docs SET note = q.v FROM q WHERE id = q.k",
    "CTE that writes": "WITH q AS (UPDATE docs d SET note = ({0})::text RETURNING d.id) SELECT count(*) FROM q",
    "CASE": "UPDATE docs d SET note = CASE WHEN ({0})::text = 'x' THEN 'a' ELSE 'b' END",
    "RETURNING": "UPDATE docs d SET n = 1 RETURNING ({0})::text",
    "JOIN": "UPDATE docs SET n = 1 FROM docs a JOIN docs d ON ({0})::text <> 'x' WHERE docs.id = d.id",
    "HAVING": "UPDATE docs SET n = (SELECT count(*) FROM docs d GROUP BY d.id HAVING bool_or(({0})::text <> 'x') LIMIT 1)",
}  # fmt: skip
#: Read only: what draws or takes the clock is refused or read once, and nothing of it is replayed.
READ_ONLY = "SELECT ({0})::text FROM docs d WHERE id = 2"
CLOCKED = (MOMENT, "looks at the clock", "pieces of text", "day on which it is asked")


@pytest.fixture
def owner_url(production_database: MakeDatabase) -> str:
    url = production_database(APP)
    with psycopg.connect(url, autocommit=True) as conn:
        for name, value in OTHERWISE.items():
            conn.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(sql.Identifier(conn.info.dbname), sql.SQL(name), value)
            )
    return url


@pytest.fixture
def surface(owner_url: str) -> Iterator[Surface]:
    """The gate's view of production as it is: names and volatilities are this server's own."""
    production = Production(installed(owner_url, RULES))
    yield gate_surface(production.fence(), "1", frozenset())
    production.close()


def known(surface: Surface) -> dict[str, str]:
    """The forms this server knows, with the rule that refuses each."""
    newer = {form: rule for form, (since, rule) in NEWER.items() if surface.server_version >= since}
    return SENSING | newer


def told(text: str, surface: Surface, *, query: bool = False) -> str:
    """The refusal's words; '' when the gate lets the statement pass."""
    try:
        gate(text, (), surface, query=query)
    except StatementRefused as refusal:
        return str(refusal)
    return ""


def test_every_form_is_sql_that_production_reads(owner_url: str, surface: Surface) -> None:
    unread = {}
    with psycopg.connect(owner_url, autocommit=True) as conn:
        conn.execute("SET statement_timeout = '5s'")
        for form in known(surface):
            try:
                conn.execute(f"EXPLAIN {READ_ONLY.format(form)}".encode())
            except psycopg.Error as error:
                unread[form] = error.sqlstate
    assert unread == {}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_what_senses_its_surroundings_is_refused_in_every_place(surface: Surface, place: str) -> None:
    passed = {
        form: words for form, rule in known(surface).items() if rule not in (words := told(place.format(form), surface))
    }
    assert passed == {}


def test_what_senses_its_surroundings_is_not_read_either(surface: Surface) -> None:
    asked = {form: rule for form, rule in known(surface).items() if rule not in CLOCKED}
    passed = [form for form in asked if not told(READ_ONLY.format(form), surface, query=True)]
    assert passed == []
    assert told("SHOW search_path", surface, query=True) and told("TABLE pg_settings", surface, query=True)


#: Accepted forms: recorded once, or the same under the settings that every session is given.
EQUAL = (
    "now()", "CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP(0)", "CURRENT_DATE", "CURRENT_TIME", "LOCALTIME", "LOCALTIMESTAMP(3)",
    "transaction_timestamp()", "statement_timestamp()", "age(now(), at)", "extract(epoch FROM now() - at)",
    "at", "at::date", "at::time", "at::timetz", "at AT TIME ZONE 'Europe/Berlin'", "timezone('Asia/Kolkata', at)",
    "date_trunc('day', at)", "date_trunc('week', at, 'America/New_York')", "extract(timezone FROM at)", "date_part('hour', at)",
    "to_char(at, 'Day DD TMMonth YYYY HH24:MI TZ OF')", "to_char(price, 'L9G999D99')", "to_char(price, 'FM99D0')",
    "to_date('03/04/2026', 'DD/MM/YYYY')", "to_timestamp('2026-03-04 10:00', 'YYYY-MM-DD HH24:MI')", "to_timestamp(n)",
    "'03/04/2026'::date", "'04.03.2026'::date", "'2026-07-01 10:00'::timestamptz", "'2026-07-01 10:00 IST'::timestamptz",
    "'2026-07-01 10:00 Europe/Berlin'::timestamptz", "'10:00 EST'::timetz", "on_day::timestamptz", "(meta ->> 'd')::date",
    "at - timestamptz '2026-01-01'", "interval '1 year 2 months 3 days 04:05'", "make_timestamptz(2026, 7, 1, 10, 0, 0)",
    "0.1::float8 + 0.2::float8", "1e300::float8", "1::float4 / 3", "price * 1.10", "price::money::text = ''", "'\\x00ff'::bytea",
    "sha256('x')", "convert_to(note, 'UTF8')", "encode('\\x00ff', 'escape')", "'{a,NULL,b}'::text[]", "array_to_json(tags)",
    "note = NULL", "NULL = NULL", "quote_literal(note)", "format('%s %L', note, note)", "d", "row_to_json(d)", "to_jsonb(d)",
    "enum_range(mood)", "enum_first(mood)", "mood < 'tense'", "upper(note)", "note COLLATE \"C\" < 'o'", "initcap(note)",
    "(SELECT array_agg(x.id ORDER BY x.id) FROM docs x)", "(SELECT string_agg(x.slug, ',' ORDER BY x.id) FROM docs x)",
    "(SELECT sum(x.price) FROM docs x)", "(SELECT count(*) FROM docs)", "(SELECT r FROM (SELECT x.id AS k, row_number()"
    " OVER (ORDER BY x.id) AS r FROM docs x) q WHERE q.k = d.id)", "jsonb_build_object('at', at, 'n', n)", "md5(note)",
)  # fmt: skip
#: Where the accepted forms run for real, each on a row of its own: {0} the form, {1} the row's slug, {2} a new id.
RUN = {
    "SET": "UPDATE docs d SET note = ({0})::text WHERE slug = '{1}'",
    "WHERE": "UPDATE docs d SET n = n + 1 WHERE slug = '{1}' AND (({0})::text IS NULL OR length(({0})::text) % 2 = 0)",
    "CASE": "UPDATE docs d SET note = CASE WHEN length(({0})::text) > 12 THEN ({0})::text ELSE 'short' END WHERE slug = '{1}'",
    "CTE": "WITH q AS (SELECT d.id AS k, ({0})::text AS v FROM docs d WHERE slug = '{1}')"
           " UPDATE docs SET note = q.v FROM q WHERE id = q.k",
    "INSERT VALUES": "INSERT INTO docs (id, slug, note) VALUES ({2}, 'new{2}', (SELECT ({0})::text FROM docs d WHERE slug = '{1}'))",
    "INSERT SELECT": "INSERT INTO docs (id, slug, note) SELECT {2}, 'new{2}', ({0})::text FROM docs d WHERE slug = '{1}' ORDER BY id",
}  # fmt: skip


@pytest.fixture
def life(owner_url: str, postgres_server: EmbeddedServer) -> Iterator[Lifecycle]:
    life = Lifecycle(settings=installed(owner_url, RULES), sandbox_server=postgres_server, tenant="1")
    yield life
    life.close()


@pytest.mark.parametrize("place", RUN.values(), ids=RUN.keys())
def test_what_is_accepted_is_the_same_in_the_shadow_and_on_production(
    life: Lifecycle, owner_url: str, place: str
) -> None:
    for at, form in enumerate(forms()):
        life.run(place.format(form, f"s{2 + at % 20 * 2}", 1000 + at))
    frozen, diff = life.freeze()
    life.replay(frozen)
    shown = {row.key[0][1]: {c.column: c.after for c in row.cells} for row in diff.rows if row.table == "docs"}
    assert len(shown) >= 15
    with psycopg.connect(owner_url) as conn:
        stored = {str(key): (n, note) for key, n, note in conn.execute("SELECT id, n::text, note FROM docs").fetchall()}
    for key, cells in shown.items():
        now = dict(zip(("n", "note"), stored[key], strict=True))
        assert {column: now[column] for column in cells.keys() & now.keys()} == {
            column: text for column, text in cells.items() if column in now
        }


def forms() -> list[str]:
    """The accepted forms; price::money is of a type that only a column may have."""
    return [form for form in EQUAL if "money" not in form]


def test_what_is_read_is_the_same_in_the_shadow_and_on_production(life: Lifecycle) -> None:
    settings = life.settings
    assert settings.applier_url is not None
    clocks = ("now()", "CURRENT_", "LOCALTIME", "_timestamp()")
    differ = {}
    with connect(settings.applier_url, settings.search_path, application="test") as production:
        for form in (one for one in forms() if not any(clock in one for clock in clocks)):
            text = READ_ONLY.format(form)
            own = f"WITH docs AS (SELECT * FROM public.docs WHERE tenant_id = 1) {text}"
            there = production.execute(own.encode())
            read = life.query(text).rows
            assert read is not None
            if [tuple(row) for row in read.rows] != there.fetchall():
                differ[form] = read.rows
    assert differ == {}


#: Left to the order of rows: accepted with a warning, and told apart by the replay.
BY_CHANCE = {
    "UPDATE docs SET note = (SELECT string_agg(slug, ',') FROM docs) WHERE slug = 's2'": "string_agg without ORDER BY",
    "UPDATE docs SET tags = (SELECT array_agg(slug) FROM docs) WHERE slug = 's2'": "array_agg without ORDER BY",
    "UPDATE docs SET meta = (SELECT jsonb_agg(slug) FROM docs) WHERE slug = 's2'": "jsonb_agg without ORDER BY",
    "UPDATE docs SET n = q.r FROM (SELECT id AS k, row_number() OVER () AS r FROM docs) q WHERE id = q.k": "row_number over",
    "UPDATE docs SET note = q.r FROM (SELECT id AS k, lag(slug) OVER () AS r FROM docs) q WHERE id = q.k": "lag over",
    "UPDATE docs SET note = q.r FROM (SELECT id AS k, first_value(slug) OVER () AS r FROM docs) q WHERE id = q.k":
        "first_value over",
    "UPDATE docs SET note = q.slug FROM (SELECT DISTINCT ON (tenant_id) tenant_id AS k, slug FROM docs) q WHERE id = 2":
        "DISTINCT ON without ORDER BY",
    "INSERT INTO docs (id, slug, n) SELECT 1000 + row_number() OVER (), slug || '!', n FROM docs": "without ORDER BY",
}  # fmt: skip


@pytest.mark.parametrize("statement", BY_CHANCE.keys(), ids=BY_CHANCE.values())
def test_the_order_of_rows_is_warned_of_and_told_apart(life: Lifecycle, owner_url: str, statement: str) -> None:
    life.run(statement)
    assert any(BY_CHANCE[statement] in warning for warning in life.steps[-1].gated.warnings)
    frozen, _ = life.freeze()
    with psycopg.connect(owner_url) as conn:  # the same rows, in another order on disk
        conn.execute("CREATE TEMP TABLE kept AS SELECT * FROM docs ORDER BY id DESC")
        conn.execute("ALTER TABLE docs DISABLE TRIGGER ALL; DELETE FROM docs; INSERT INTO docs SELECT * FROM kept")
        conn.execute("ALTER TABLE docs ENABLE TRIGGER ALL")
        before = conn.execute("SELECT to_jsonb(d)::text FROM docs d ORDER BY id").fetchall()
    with pytest.raises(Diverged):
        life.replay(frozen)
    with psycopg.connect(owner_url) as conn:
        assert conn.execute("SELECT to_jsonb(d)::text FROM docs d ORDER BY id").fetchall() == before


def test_the_same_statements_in_a_written_order_are_not_warned_of(surface: Surface) -> None:
    for text in (
        "UPDATE docs SET note = (SELECT string_agg(slug, ',' ORDER BY id) FROM docs)",
        "UPDATE docs SET n = q.r FROM (SELECT id AS k, row_number() OVER (ORDER BY id) AS r FROM docs) q WHERE id = q.k",
        "UPDATE docs SET n = q.r FROM (SELECT id AS k, rank() OVER () AS r FROM docs) q WHERE id = q.k",
        "UPDATE docs SET n = q.r FROM (SELECT id AS k, lag(n) OVER w AS r FROM docs WINDOW w AS (ORDER BY id)) q WHERE id = q.k",
        "UPDATE docs SET note = 'x' WHERE id = (SELECT DISTINCT ON (tenant_id) id FROM docs ORDER BY tenant_id, id)",
        "UPDATE docs SET n = (SELECT count(DISTINCT slug) FROM docs WHERE n > 1) WHERE id = 2",
    ):
        assert [warning for warning in gate(text, (), surface).warnings if "chance" in warning] == []
