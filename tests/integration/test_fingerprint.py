"""The schema version: maintenance leaves it as it is, every definition that a fix could meet gives another one."""

import psycopg
import pytest

from shadow.catalog import read_fingerprint
from tests.postgres import MakeDatabase

SCHEMA = """
CREATE TABLE items(id serial PRIMARY KEY, tenant_id int NOT NULL, v int);
CREATE TABLE staging(id int PRIMARY KEY, t text) PARTITION BY RANGE (id);
CREATE TABLE staging_1 PARTITION OF staging FOR VALUES FROM (0) TO (100);
CREATE TABLE staging_2(id int PRIMARY KEY, t text);
CREATE TABLE plain(id int PRIMARY KEY, t text); INSERT INTO plain VALUES (1,'a');
CREATE SEQUENCE s;
CREATE VIEW seen AS SELECT id FROM items;
CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS n FROM items; CREATE UNIQUE INDEX ON mv(n);
CREATE SCHEMA lib;
CREATE TYPE lib.mood AS ENUM ('a');
CREATE FUNCTION lib.bump() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.v := 1; RETURN NEW; END$$;
CREATE TRIGGER bump BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION lib.bump();
"""
MAINTENANCE = (
    "REFRESH MATERIALIZED VIEW mv", "REFRESH MATERIALIZED VIEW CONCURRENTLY mv", "TRUNCATE plain",
    "TRUNCATE items RESTART IDENTITY", "REINDEX TABLE plain", "CLUSTER plain USING plain_pkey", "VACUUM FULL plain",
    "VACUUM (FREEZE, ANALYZE) plain", "ANALYZE", "ALTER SEQUENCE s RESTART", "SELECT nextval('s')",
    "ALTER TABLE plain SET (autovacuum_enabled = false)", "COMMENT ON TABLE items IS 'x'",
    "CREATE TEMP TABLE items2(id int); CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql RETURN 1",
    "CREATE TABLE lib.scratch(id int)", "INSERT INTO plain VALUES (2, 'b')",
)  # fmt: skip
DEFINITIONS = (
    "ALTER TABLE items ADD COLUMN w int", "ALTER TABLE items ALTER COLUMN v SET DEFAULT 3", "ALTER TABLE items RENAME TO things",
    "ALTER TABLE items ENABLE ROW LEVEL SECURITY", "ALTER TABLE items FORCE ROW LEVEL SECURITY",
    "ALTER TABLE items ADD CHECK (v < 9)", "CREATE INDEX ON items(v)", "DROP INDEX mv_n_idx",
    "ALTER TABLE items DISABLE TRIGGER bump", "DROP TRIGGER bump ON items",
    "CREATE RULE r AS ON DELETE TO items DO INSTEAD NOTHING", "GRANT SELECT ON items TO PUBLIC",
    "ALTER TABLE staging DETACH PARTITION staging_1", "ALTER TABLE staging ATTACH PARTITION staging_2 FOR VALUES FROM (100) TO (200)",
    "CREATE OR REPLACE VIEW seen AS SELECT id FROM items WHERE id > 0", "ALTER SEQUENCE s INCREMENT 5",
    "CREATE TABLE another(id int)", "DROP TABLE plain", "ALTER TYPE lib.mood ADD VALUE 'z'",
    "CREATE OR REPLACE FUNCTION lib.bump() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.v := 2; RETURN NEW; END$$",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1",
    "CREATE SCHEMA fence_lib; CREATE FUNCTION fence_lib.f() RETURNS int LANGUAGE sql RETURN 1", "GRANT USAGE ON SCHEMA public TO CURRENT_USER",
)  # fmt: skip


def changed(url: str, statement: str) -> bool:
    """Whether somebody's statement gives the schema another version."""
    with psycopg.connect(url, autocommit=True) as reader, psycopg.connect(url, autocommit=True) as somebody:
        before = read_fingerprint(reader, ("public",))
        assert read_fingerprint(reader, ("public",)) == before
        somebody.execute(statement.encode())
        return read_fingerprint(reader, ("public",)) != before


@pytest.mark.parametrize("statement", MAINTENANCE)
def test_maintenance_leaves_the_version(production_database: MakeDatabase, statement: str) -> None:
    assert not changed(production_database(SCHEMA), statement)


@pytest.mark.parametrize("statement", DEFINITIONS)
def test_a_definition_gives_another_version(production_database: MakeDatabase, statement: str) -> None:
    assert changed(production_database(SCHEMA), statement)
