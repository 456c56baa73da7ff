-- name: key_equality
-- How a table's key compares, by column: the equality operator of its unique index with its schema, and the collation
-- where it is another than the type's. `hidden` is the schema of an operator that production's search_path does not find.
SELECT array_agg(format('OPERATOR(%%I.%%s)', coalesce(n.nspname, 'pg_catalog'), coalesce(o.oprname, '=')) ORDER BY k.ord) AS equality,
       array_agg(CASE WHEN a.attcollation <> t.typcollation THEN format(' COLLATE %%I.%%I', cn.nspname, c.collname) ELSE '' END
                 ORDER BY k.ord) AS collations,
       min(n.nspname) FILTER (WHERE NOT pg_operator_is_visible(o.oid)) AS hidden
FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS k(attnum, class, ord)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_opclass p ON p.oid = k.class
JOIN pg_am m ON m.oid = p.opcmethod
-- a key WITHOUT OVERLAPS has a GiST index: its columns compare as they do by default
LEFT JOIN pg_opclass b ON (b.oid = p.oid OR (m.amname <> 'btree' AND b.opcdefault AND b.opcintype = p.opcintype))
  AND b.opcmethod = (SELECT oid FROM pg_am WHERE amname = 'btree')
-- 3 is equality in every btree operator family (Postgres docs 36.16.2)
LEFT JOIN pg_amop e ON e.amopfamily = b.opcfamily AND e.amopstrategy = 3 AND e.amoplefttype = b.opcintype AND e.amoprighttype = b.opcintype
LEFT JOIN pg_operator o ON o.oid = e.amopopr
LEFT JOIN pg_namespace n ON n.oid = o.oprnamespace
LEFT JOIN pg_collation c ON c.oid = a.attcollation
LEFT JOIN pg_namespace cn ON cn.oid = c.collnamespace
WHERE i.indrelid = %(rel)s::regclass AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY i.indexrelid, i.indisprimary
HAVING array_agg(a.attname::text ORDER BY k.ord) = %(key)s
ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1
