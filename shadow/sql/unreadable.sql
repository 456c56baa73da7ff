-- name: unreadable
-- Tables that the reader may not read, and everything that cannot be made without them: views, foreign keys, routines
-- and columns that use their rows' type. pg_dump locks every table it dumps, which needs SELECT on it and USAGE on its
-- schema (Postgres docs, LOCK, Notes). A partitioned table goes with any of its partitions: rows would be missing.
WITH RECURSIVE closed AS MATERIALIZED (
  SELECT c.oid, n.nspname || '.' || c.relname AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND c.oid >= 16384 AND n.nspname NOT IN ('information_schema', 'shadowdesk')
    AND n.nspname !~ '^(pg_|fence_)'
    AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')),
lost(classid, objid, because) AS (
  SELECT 'pg_class'::regclass::oid, oid, name FROM closed
  UNION
  SELECT further.classid, further.objid, l.because FROM lost l CROSS JOIN LATERAL (
    SELECT d.classid, d.objid FROM pg_depend d
      WHERE d.refclassid = l.classid AND d.refobjid = l.objid AND d.deptype IN ('n', 'a', 'i')
        -- a sequence is no table: it is made without the table that owns it, and others may draw from it
        AND NOT EXISTS (SELECT FROM pg_class s WHERE d.classid = 'pg_class'::regclass AND s.oid = d.objid AND s.relkind = 'S')
    UNION ALL SELECT 'pg_class'::regclass, w.ev_class FROM pg_rewrite w
      WHERE l.classid = 'pg_rewrite'::regclass AND w.oid = l.objid AND w.ev_type = '1'
    UNION ALL SELECT 'pg_class'::regclass, a.adrelid FROM pg_attrdef a
      WHERE l.classid = 'pg_attrdef'::regclass AND a.oid = l.objid
    UNION ALL SELECT CASE WHEN k.contypid = 0 THEN 'pg_class'::regclass ELSE 'pg_type'::regclass END,
        CASE WHEN k.contypid = 0 THEN k.conrelid ELSE k.contypid END FROM pg_constraint k
      WHERE l.classid = 'pg_constraint'::regclass AND k.oid = l.objid AND k.contype = 'c'
    UNION ALL SELECT 'pg_class'::regclass, i.inhparent FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhrelid
      WHERE l.classid = 'pg_class'::regclass AND i.inhrelid = l.objid AND p.relispartition AND p.relkind IN ('r', 'p')
  ) further)
SELECT l.classid::bigint AS classid, l.objid::bigint AS objid, min(l.because) AS because,
       CASE WHEN l.classid = 'pg_class'::regclass THEN c.relkind::text ELSE '' END AS kind, n.nspname AS schema, c.relname AS name,
       l.classid = 'pg_class'::regclass AND l.objid IN (SELECT oid FROM closed) AS unreadable,
       -- a trigger that cannot be made: its table would do something else than on production
       t.tgrelid::bigint AS trigger_of
FROM lost l
LEFT JOIN pg_class c ON l.classid = 'pg_class'::regclass AND c.oid = l.objid
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_trigger t ON l.classid = 'pg_trigger'::regclass AND t.oid = l.objid AND NOT t.tgisinternal
GROUP BY l.classid, l.objid, c.relkind, n.nspname, c.relname, t.tgrelid
ORDER BY l.classid, l.objid
