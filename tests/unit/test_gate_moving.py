"""Words that mean another moment at the replay: refused where they may be read as a date, accepted where they are text."""

from dataclasses import replace

import pytest

from shadow.errors import StatementRefused
from shadow.gate import gate
from tests.tampering.surface import surface

SURFACE = surface()
TEXT = [
    "UPDATE contracts SET note = 'today'",
    "UPDATE contracts SET note = $1, code = 'now'",
    "UPDATE contracts SET meta = '\"today\"', tags = '{today,now}'",
    "UPDATE contracts SET tags = ARRAY['today', note]",
    "UPDATE contracts SET tags = tags || 'today'",
    "UPDATE contracts SET note = CASE WHEN id = 1 THEN 'today' ELSE note END",
    "UPDATE contracts SET note = coalesce(note, 'today')",
    "UPDATE contracts SET note = CASE note WHEN 'now' THEN 'today' ELSE 'x' END",
    "UPDATE contracts SET (note, code) = ('today', 'now')",
    "UPDATE contracts SET note = note || ' now' WHERE note LIKE 'today' OR note ILIKE 'now' OR note ~ 'now'",
    "UPDATE contracts SET note = 'x' WHERE code IN ('now', 'today') AND note = 'today' AND meta ->> 'x' = 'now'",
    "UPDATE contracts SET note = 'x' WHERE meta ? 'today' AND meta ->> 'now' = code",
    "UPDATE contracts SET note = replace(note, 'today', 'tomorrow')",
    "UPDATE contracts SET meta = jsonb_set(meta, '{today}', '\"now\"')",
    "UPDATE contracts SET note = 'Please call them back today, not tomorrow'",
    "UPDATE contracts SET note = x.v FROM (VALUES ('a', 'today'::text)) x(k, v) WHERE x.k = code",
    "UPDATE contracts SET note = x.v FROM (VALUES ('a', 'ask them again now or later today')) x(k, v) WHERE x.k = code",
    "INSERT INTO contracts (code, note) VALUES ('now', 'today'), ('b', 'c')",
    "INSERT INTO contracts (code, note) SELECT code, 'today' FROM contracts ORDER BY id",
    "INSERT INTO contracts (code, note) SELECT 'a', 'today' UNION ALL SELECT 'b', note FROM contracts ORDER BY 1",
    "INSERT INTO line_items (contract_id, sku) VALUES (1, 'now') ON CONFLICT (contract_id, sku) DO UPDATE SET note = 'today'",
    "MERGE INTO line_items l USING (SELECT 1 AS a) s ON true WHEN MATCHED THEN UPDATE SET note = 'today'"
    " WHEN NOT MATCHED THEN INSERT (contract_id, sku) VALUES (1, 'now')",
    "DELETE FROM contracts WHERE lower(note) = 'today' OR note IS DISTINCT FROM 'now' OR code = ANY ('{today}')",
    # dates that are the row's, the recorded clock's, or whole literals
    "UPDATE contracts SET ends_on = (meta ->> 'd')::date, starts_on = note::date",
    "UPDATE contracts SET ends_on = (now() + interval '1 day')::date, starts_on = (CURRENT_DATE - 1)::timestamp::date",
    "UPDATE contracts SET ends_on = (to_char(now(), 'YYYY') || '-01-01')::date",
    "UPDATE contracts SET ends_on = date_trunc('month', '2026-01-31'::date)::date, starts_on = date('2026-01-31')",
    "UPDATE contracts SET ends_on = to_date('31.01.2026', 'DD.MM.YYYY')::timestamp, updated_at = '2026-01-31 10:00'",
    "UPDATE contracts SET updated_at = updated_at AT TIME ZONE 'Europe/Berlin'",
]  # fmt: skip
MOMENT, PIECES = "another moment", "pieces of text"
DATES = [
    ("UPDATE contracts SET ends_on = $1", MOMENT),
    ("UPDATE contracts SET ends_on = $1::date", MOMENT),
    ("UPDATE contracts SET ends_on = ($1 || '')::date", MOMENT),
    ("UPDATE contracts SET ends_on = 'today'::text::date", MOMENT),
    ("UPDATE contracts SET note = CASE WHEN id = 1 THEN 'today' ELSE ends_on END", MOMENT),
    ("UPDATE contracts SET note = coalesce('today', ends_on)", MOMENT),
    ("UPDATE contracts SET note = coalesce('today', note)::date::text", MOMENT),
    ("UPDATE contracts SET status = 'now'", MOMENT),  # a domain or an enum: the gate does not know
    ("INSERT INTO contracts (code, note) SELECT 'a', 'today' UNION ALL SELECT 'b', ends_on FROM contracts", MOMENT),
    ("UPDATE contracts SET note = 'x' WHERE (ends_on, id) = ('today', 1)", MOMENT),
    ("UPDATE contracts SET note = 'x' WHERE ends_on IN (VALUES ('today'))", MOMENT),
    ("UPDATE contracts SET note = 'x' WHERE ends_on = ANY ('{today}')", MOMENT),
    ("UPDATE contracts SET note = 'x' WHERE ARRAY[ends_on] || '{today}' IS NOT NULL", MOMENT),
    ("UPDATE contracts SET note = 'x' WHERE daterange(starts_on, ends_on) @> 'today'", MOMENT),
    ("UPDATE contracts SET note = 'x' WHERE ('today', 'tomorrow') OVERLAPS (starts_on, ends_on)", MOMENT),
    ("UPDATE contracts SET note = 'x' WHERE CASE ends_on WHEN 'today' THEN true END", MOMENT),
    ("UPDATE contracts SET note = x.d::date::text FROM (SELECT 'today' AS d) x", MOMENT),
    ("UPDATE contracts SET ends_on = lower('TODAY')::date", MOMENT),
    ("UPDATE contracts SET ends_on = ('today' || '')::date", MOMENT),
    ("UPDATE contracts SET starts_on = 'tomorrow 10:00 America/New_York'", MOMENT),
    ("WITH q AS (SELECT CURRENT_DATE AS d UNION SELECT 'tomorrow') UPDATE contracts SET note = 'x' FROM q", MOMENT),
    ("UPDATE contracts SET ends_on = ('to' || 'day')::date", PIECES),
    ("UPDATE contracts SET ends_on = (chr(116) || chr(111))::date", PIECES),
    ("UPDATE contracts SET ends_on = ($2 || 'day')::date", PIECES),
    ("UPDATE contracts SET ends_on = date(concat('to', 'day'))", PIECES),
    ("UPDATE contracts SET ends_on = (CASE WHEN true THEN 'to' || 'day' END)::date", PIECES),
    ("UPDATE contracts SET ends_on = ('to' || 'day'::text)::date", PIECES),
    ("UPDATE contracts SET note = (time '12:00' AT TIME ZONE 'Europe/Berlin')::text", "day on which it is asked"),
    ("UPDATE contracts SET note = (LOCALTIME AT TIME ZONE 'Europe/Berlin')::text", "day on which it is asked"),
    ("UPDATE contracts SET note = timezone('UTC', make_time(1, 2, 3))::text", "day on which it is asked"),
    ("UPDATE contracts SET note = quote_ident(note)", "not on the list"),
    ("UPDATE contracts SET note = format('%I', note)", "%I"),
    ("UPDATE contracts SET note = format('%1$I', note)", "%I"),
    ("UPDATE contracts SET note = u FROM current_user AS u", "CURRENT_USER"),
]


def params(text: str) -> tuple[str, ...]:
    return ("today", "to") if "$2" in text else ("today",) if "$1" in text else ()


@pytest.mark.parametrize("text", TEXT, ids=lambda text: text[:70])
def test_words_that_are_text_and_dates_that_stand_still_pass(text: str) -> None:
    assert gate(text, params(text), SURFACE).writes


@pytest.mark.parametrize(("text", "rule"), DATES, ids=lambda value: value[:70])
def test_words_that_may_be_dates_are_refused_in_a_change(text: str, rule: str) -> None:
    with pytest.raises(StatementRefused) as refusal:
        gate(text.replace("$2", "$1"), params(text)[-1:], SURFACE)
    assert rule in str(refusal.value)


def test_a_function_of_the_app_may_take_a_word_as_a_date() -> None:
    allowing = replace(SURFACE, allow_functions=frozenset({"due"}))
    with pytest.raises(StatementRefused, match=MOMENT):
        gate("UPDATE contracts SET ends_on = due('tomorrow')", (), allowing)
    assert gate("UPDATE contracts SET ends_on = due('tomorrow'::text)", (), allowing).writes


def test_a_query_may_ask_for_today() -> None:
    for text in ("SELECT id FROM contracts WHERE ends_on < 'today'", "SELECT ('to' || 'day')::date"):
        assert gate(text, (), SURFACE, query=True).kind == "select"
