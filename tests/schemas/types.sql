-- Every kind of type that a column can have: each cell must survive COPY, comparison as text, pins and the replay.
CREATE EXTENSION citext;
CREATE EXTENSION hstore;
CREATE TYPE mood AS ENUM ('low', 'it''s fine', 'Hoch "oben"');
CREATE DOMAIN cents AS numeric(12,2) CHECK (VALUE >= 0);
CREATE DOMAIN email AS citext CHECK (VALUE ~ '^[^@]+@[^@]+$');
CREATE DOMAIN sealed AS bytea CHECK (length(VALUE) < 100);
CREATE TYPE address AS (street text, "House No" int, geo point);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE things(
  id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants,
  mood mood, moods mood[], price cents, prices cents[], mail email, seal sealed, home address, homes address[],
  during tstzrange, slots int4range[], many datemultirange, own span, doc jsonb, raw json, bytes bytea, folded citext,
  pairs hstore, uid uuid, gap interval, amount numeric, ratio float8, small real, at timestamptz, plain timestamp, day date,
  clock time, zoned timetz, cash money, addr inet, net cidr, mac macaddr, words tsvector, q tsquery, bits bit(5), vbits varbit,
  fixed char(6), code varchar(8), "char" "char", letter char, grid int[][], texts text[], flag bool, place point, shape polygon,
  doc_xml text, tail text);
INSERT INTO tenants VALUES (1, 'Acme'), (2, 'Globex');
INSERT INTO things
SELECT g, 1 + g % 2, 'it''s fine', ARRAY['low','Hoch "oben"',NULL]::mood[], 10.5, ARRAY[1.1,NULL]::cents[], 'Me@Example.org', '\x00ff',
  ROW('Main "St"', 5, point(1,2))::address, ARRAY[ROW('a, b', NULL, NULL)::address, NULL],
  '[2024-01-01 00:00+00,2024-06-01 12:00+00)', ARRAY['[1,5)','empty']::int4range[], '{[2024-01-01,2024-02-01),[2024-03-01,)}', '[1.5,2.5]',
  '{"a": {"b": [1, 1.0, null]}, "z": "\u00e4"}', '{"b":1,  "a":2, "b":3}', '\xdeadbeef', 'MiXed', 'k=>v, "a b"=>NULL',
  ('00000000-0000-0000-0000-00000000000' || g % 10)::uuid, '1 year 2 mons 3 days 04:05:06.789', 'NaN', 'Infinity', 1.5, 'infinity', '-infinity',
  '2024-02-29', '24:00', '12:00:00+05:30', '$1,234.50', '10.0.0.1/24', '10.1.0.0/16', '08:00:2b:01:02:03',
  to_tsvector('simple', 'fat cats ate'), 'fat & !rat', B'10101', B'1', 'ab', 'x', 'c', 'l', '{{1,2},{3,NULL}}', '{"NULL",NULL,"{a,\"b\"}"}',
  true, point(0.1, 1e-300), '((0,0),(1,1),(1,0))', '<a/>', 'p' FROM generate_series(1, 6) g;
