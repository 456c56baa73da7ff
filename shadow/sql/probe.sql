-- name: probe_tables
-- Two tenants, a row and a child each; the views are made for the first. `tells` is cheaper than any predicate, so a
-- planner that may choose asks it first (Postgres docs 41.5), and it fails on the second tenant's value.
CREATE SCHEMA {tables};
CREATE TABLE {tables}.tenants (id integer PRIMARY KEY);
CREATE TABLE {tables}.records (id integer PRIMARY KEY, tenant_id integer NOT NULL REFERENCES {tables}.tenants, secret text NOT NULL);
CREATE TABLE {tables}.parts (id integer PRIMARY KEY, record_id integer NOT NULL REFERENCES {tables}.records);
INSERT INTO {tables}.tenants VALUES (1), (2);
INSERT INTO {tables}.records VALUES (1, 1, '1'), (2, 2, {hidden});
INSERT INTO {tables}.parts VALUES (1, 1), (2, 2);
CREATE FUNCTION {tables}.tells(text) RETURNS boolean LANGUAGE sql SECURITY DEFINER COST 0.0000001
  AS $tells$ SELECT $1::integer > 0 $tells$

-- name: probe_written
-- Tables of the app that the connected role has a right to write.
SELECT array_agg(c.oid::regclass::text ORDER BY 1) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY(%(schemas)s)
  AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
