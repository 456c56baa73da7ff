-- name: catalog_tables
-- Every ordinary or partitioned table of the app's schemas, with what the fence and the clone need to know.
-- Inheritance without partitions ('i') counts a parent's rows in several tables: such a parent is read-only, its children
-- are not tables of their own here.
SELECT c.oid, n.nspname AS schema, c.relname AS name,
       CASE WHEN c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) THEN 'i' ELSE c.relkind::text END AS kind,
       greatest(c.reltuples, 0)::bigint AS estimated_rows,
       -- what a rule does instead of a statement, or beside it, is not seen by triggers
       EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type <> '1') AS rules,
       -- every table below a partitioned one that holds rows: triggers may name them
       CASE WHEN c.relkind = 'p' THEN (SELECT array_agg(ARRAY[pn.nspname, pc.relname]::text[] ORDER BY pn.nspname, pc.relname)
         FROM pg_partition_tree(c.oid) pt JOIN pg_class pc ON pc.oid = pt.relid JOIN pg_namespace pn ON pn.oid = pc.relnamespace
         WHERE pt.level > 0) END AS partitions,
       -- tables that inherit from an ordinary one: their rows are read as the parent's, by its name only
       CASE WHEN c.relkind = 'r' THEN (WITH RECURSIVE below AS (
           SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = c.oid
           UNION SELECT i.inhrelid FROM pg_inherits i JOIN below b ON b.inhrelid = i.inhparent)
         SELECT array_agg(h.relname::text ORDER BY h.relname) FROM below b JOIN pg_class h ON h.oid = b.inhrelid) END AS heirs
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY(%(schemas)s)
  AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
  -- a partition on another server would be reached from the shadow: such a table is left out as a whole
  AND NOT (c.relkind = 'p' AND EXISTS (SELECT FROM pg_partition_tree(c.oid) pt JOIN pg_class pc ON pc.oid = pt.relid WHERE pc.relkind = 'f'))
ORDER BY n.nspname, c.relname

-- name: catalog_columns
-- Columns in attribute order, with their default's text and the sequence that a serial or identity column draws from.
SELECT a.attrelid AS oid, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
       coalesce(pg_get_expr(d.adbin, d.adrelid), CASE WHEN t.typtype = 'd' THEN pg_get_expr(t.typdefaultbin, 0) END) AS default_text, a.attidentity::text AS identity, a.attgenerated::text AS generated,
       (t.typcategory IN ('A', 'C') OR b.typname IN ('json', 'jsonb', 'hstore')) AS nested,
       -- the date/time type itself, also below a domain: what the transaction's clock looks like in such a column
       CASE WHEN b.typcategory = 'D' THEN format_type(b.oid, coalesce(d0.mod, a.atttypmod)) ELSE '' END AS clock,
       s.schema AS sequence_schema, s.name AS sequence_name, coalesce(s.seen, true) AS sequence_seen
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN LATERAL (
  WITH RECURSIVE below AS (
    SELECT t.typbasetype AS oid, t.typtypmod AS mod WHERE t.typtype = 'd'
    UNION ALL SELECT n.typbasetype, n.typtypmod FROM below w JOIN pg_type n ON n.oid = w.oid WHERE n.typtype = 'd')
  SELECT w.oid, w.mod FROM below w JOIN pg_type n ON n.oid = w.oid WHERE n.typtype <> 'd') d0 ON true
JOIN pg_type b ON b.oid = coalesce(d0.oid, t.oid)
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN LATERAL (
  SELECT sn.nspname AS schema, sc.relname AS name,
         has_schema_privilege(sn.oid, 'USAGE') AND has_sequence_privilege(sc.oid, 'SELECT') AS seen
  FROM pg_depend dep JOIN pg_class sc ON sc.relkind = 'S' JOIN pg_namespace sn ON sn.oid = sc.relnamespace
  WHERE (dep.classid = 'pg_attrdef'::regclass AND dep.objid = d.oid AND dep.refclassid = 'pg_class'::regclass AND dep.refobjid = sc.oid)
     OR (d.oid IS NULL AND t.typdefaultbin IS NOT NULL AND dep.classid = 'pg_type'::regclass AND dep.objid = t.oid
         AND dep.refclassid = 'pg_class'::regclass AND dep.refobjid = sc.oid)
     OR (a.attidentity <> '' AND dep.deptype = 'i' AND dep.classid = 'pg_class'::regclass AND dep.objid = sc.oid
         AND dep.refclassid = 'pg_class'::regclass AND dep.refobjid = a.attrelid AND dep.refobjsubid = a.attnum)
  LIMIT 1) s ON d.oid IS NOT NULL OR a.attidentity <> '' OR t.typdefaultbin IS NOT NULL
WHERE a.attrelid = ANY(%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum

-- name: catalog_keys
-- Unique indexes over plain columns, whole table, primary key first: the candidates for a row's key.
SELECT i.indrelid AS oid, i.indisprimary AS is_primary,
       array_agg(a.attname::text ORDER BY k.ord) AS columns, bool_and(a.attnotnull) AS not_null
FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, ord)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = ANY(%(oids)s) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND k.ord <= i.indnkeyatts
GROUP BY i.indexrelid, i.indrelid, i.indisprimary
ORDER BY i.indrelid, i.indisprimary DESC, i.indexrelid

-- name: catalog_foreign_keys
-- Foreign keys with both column lists in key order.
SELECT k.conname AS name, k.conrelid AS oid, k.confrelid AS parent_oid, k.confdeltype::text AS on_delete,
       k.confupdtype::text AS on_update, k.condeferred AS deferred,
       (SELECT array_agg(a.attname::text ORDER BY x.ord) FROM unnest(k.conkey) WITH ORDINALITY x(attnum, ord)
         JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = x.attnum) AS columns,
       (SELECT array_agg(a.attname::text ORDER BY x.ord) FROM unnest(k.confkey) WITH ORDINALITY x(attnum, ord)
         JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = x.attnum) AS parent_columns
FROM pg_constraint k
WHERE k.contype = 'f' AND k.conrelid = ANY(%(oids)s) AND k.conparentid = 0
ORDER BY k.conrelid, k.conname

-- name: catalog_triggers
-- The app's triggers with their functions' sources: which tables they name is read from there.
SELECT t.tgrelid AS oid, t.tgname AS name, p.proname AS function, p.prosrc AS source, t.tgenabled::text AS enabled
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal AND t.tgrelid = ANY(%(oids)s)
ORDER BY t.tgrelid, t.tgname

-- name: catalog_functions
-- Worst volatility of each function name of pg_catalog: the gate's allow-list reads it.
SELECT proname AS name, CASE WHEN bool_or(provolatile = 'v') THEN 'v' WHEN bool_or(provolatile = 's') THEN 's' ELSE 'i' END AS volatility
FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace GROUP BY proname

-- name: catalog_routines
-- The app's own functions, whose names may stand in trigger sources and defaults.
SELECT p.proname AS name, p.prosrc AS source, p.provolatile::text AS volatility
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = ANY(%(schemas)s)

-- name: catalog_fingerprint
-- One hash of every definition row of the app's schemas: DDL gives some row a new xmin (system columns, Postgres docs 5.6).
-- Relations are hashed by what defines them, since TRUNCATE, REFRESH, REINDEX, CLUSTER and storage options change their
-- row of pg_class and nothing that a fix could see. Functions and types also of other schemas: triggers and columns use them.
-- A sum of 64-bit hashes needs no order, which halves its cost on a thousand tables; each catalog has a seed.
-- Numbers from 16384 on are not Postgres' own objects: what makes this a look at a few index entries.
WITH app AS MATERIALIZED (SELECT array_agg(oid) AS oids FROM pg_namespace WHERE nspname = ANY(%(schemas)s)),
others AS MATERIALIZED (SELECT array_agg(oid) AS oids FROM pg_namespace
  WHERE nspname <> ALL(%(schemas)s) AND nspname !~ '^(pg_|shadowdesk$|information_schema$)'),
classes AS MATERIALIZED (SELECT c.* FROM (SELECT oid, xmin, relname, relkind, relowner, relrowsecurity, relforcerowsecurity,
    relispartition, relpartbound, relacl, relnamespace FROM pg_class WHERE oid >= 16384) c
  WHERE c.relnamespace = ANY((SELECT oids FROM app)::oid[])),
types AS MATERIALIZED (SELECT y.oid, y.xmin FROM pg_type y WHERE y.oid >= 16384
  AND (y.typnamespace = ANY((SELECT oids FROM app)::oid[])
       OR (y.typtype IN ('e', 'd', 'r', 'm') AND y.typnamespace = ANY((SELECT oids FROM others)::oid[]))))
SELECT md5(count(*) || ':' || sum(part)) AS fingerprint FROM (
  SELECT hash_record_extended(ROW(oid, relname, relkind, relowner, relrowsecurity, relforcerowsecurity, relispartition,
      relpartbound::text, relacl), 1) AS part FROM classes WHERE relkind IN ('r', 'p', 'm', 'S')
  UNION ALL SELECT hash_record_extended(ROW(oid, relname), 1) FROM classes WHERE relkind = 'i'
  UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 1) FROM classes WHERE relkind = 'v'
  UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 10) FROM pg_rewrite
    WHERE ev_class = ANY(ARRAY(SELECT oid FROM classes WHERE relkind IN ('r', 'p')))
  UNION ALL SELECT hash_record_extended(ROW(seqrelid, seqtypid, seqincrement, seqmax, seqmin, seqcycle), 11) FROM pg_sequence
    WHERE seqrelid = ANY(ARRAY(SELECT oid FROM classes WHERE relkind = 'S'))
  UNION ALL SELECT hash_record_extended(ROW(a.attrelid, a.attnum, a.xmin), 2) FROM pg_attribute a
    WHERE a.attrelid = ANY(ARRAY(SELECT oid FROM classes WHERE relkind IN ('r', 'p'))) AND a.attnum > 0
  UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 3) FROM pg_constraint
    WHERE oid >= 16384 AND connamespace = ANY((SELECT oids FROM app)::oid[])
  UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 4) FROM pg_proc
    WHERE oid >= 16384 AND pronamespace = ANY((SELECT app.oids || others.oids FROM app, others)::oid[])
  UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 5) FROM pg_trigger
    WHERE tgrelid = ANY(ARRAY(SELECT oid FROM classes)) AND NOT tgisinternal
  UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 6) FROM pg_attrdef WHERE adrelid = ANY(ARRAY(SELECT oid FROM classes))
  UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 7) FROM types
  UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 8) FROM pg_enum WHERE enumtypid = ANY(ARRAY(SELECT oid FROM types))
  -- who may look into a schema decides which of its tables a shadow can hold
  UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 9) FROM pg_namespace WHERE oid = ANY((SELECT oids FROM app)::oid[])
) parts
