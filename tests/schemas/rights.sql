-- What the reader may not read: a schema of another team, a table with secrets, and what hangs on them. The tests revoke
-- the rights after the installation, which grants them on `public`.

-- name: another_teams
CREATE SCHEMA hidden;
CREATE TYPE hidden.mood AS ENUM ('calm', 'angry');
CREATE SEQUENCE hidden.numbers START 100;
CREATE TABLE hidden."odd ""names"" *"(id int PRIMARY KEY, mood hidden.mood);
CREATE TABLE contracts(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, mood hidden.mood DEFAULT 'calm',
  origin int CONSTRAINT from_there REFERENCES hidden."odd ""names"" *", number int DEFAULT nextval('hidden.numbers'));
COMMENT ON CONSTRAINT from_there ON contracts IS 'it''s of another team';
CREATE TABLE secrets(id serial PRIMARY KEY, contract int NOT NULL REFERENCES contracts ON DELETE CASCADE, pin text);
CREATE INDEX ON secrets(pin);
CREATE VIEW seen AS SELECT * FROM hidden."odd ""names"" *";
CREATE VIEW seen_again AS SELECT s.id FROM seen s JOIN contracts USING (id);
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM secrets;
CREATE UNIQUE INDEX ON counted(n);
CREATE FUNCTION rows_of(hidden."odd ""names"" *") RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION pins() RETURNS SETOF text LANGUAGE sql BEGIN ATOMIC SELECT pin FROM secrets; END;
COMMENT ON FUNCTION pins() IS 'all of them';
GRANT USAGE ON SEQUENCE hidden.numbers TO PUBLIC;
INSERT INTO hidden."odd ""names"" *" VALUES (1, 'calm');
INSERT INTO contracts(id, tenant_id, origin) SELECT g, 1 + g % 2, 1 FROM generate_series(1, 4) g;
INSERT INTO secrets(contract, pin) VALUES (2, '1234'), (3, '9999');

-- name: resting
CREATE TABLE kinds(id int PRIMARY KEY, label text);
CREATE FUNCTION known(int) RETURNS bool LANGUAGE sql BEGIN ATOMIC SELECT EXISTS (SELECT FROM kinds WHERE id = $1); END;
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE TABLE deals(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int);
INSERT INTO kinds VALUES (1, 'a');
INSERT INTO deals SELECT g, 1 + g % 2, 0 FROM generate_series(1, 4) g;
