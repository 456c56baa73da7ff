-- name: net_sources
-- CTEs of a net diff: the keys noted as touched; before is the pristine copy, after the base table.
keys AS MATERIALIZED (
  SELECT {keys}, bool_or(origin = 'statement') AS own, count(*) AS noted FROM {touched} WHERE {picked} GROUP BY {keys}
)

-- name: step_sources
-- CTEs of one step's diff: before is the latest earlier image, else the pristine row; after is the step's own image.
keys AS MATERIALIZED (
  SELECT {keys}, bool_or(origin = 'statement') AS own FROM {touched} WHERE {picked} GROUP BY {keys}
),
earlier AS MATERIALIZED (
  SELECT DISTINCT ON ({keys}) i.* FROM {image} i JOIN keys USING ({keys}) WHERE i.step < {step}
  ORDER BY {keys}, i.step DESC
),
before_rows AS MATERIALIZED (
  SELECT {image_columns} FROM earlier i WHERE i.present
  UNION ALL
  SELECT r.* FROM keys k CROSS JOIN LATERAL (SELECT {columns} FROM {pristine} r WHERE {same_key} {per_key}) r
  WHERE NOT EXISTS (SELECT FROM earlier e WHERE {same_earlier_key})
),
after_rows AS MATERIALIZED (SELECT {image_columns} FROM {image} i WHERE i.step = {step} AND i.present)

-- name: step_sources_of_a_sink
-- As step_sources for a table that started empty: what has no earlier image was not there.
keys AS MATERIALIZED (
  SELECT {keys}, bool_or(origin = 'statement') AS own FROM {touched} WHERE {picked} GROUP BY {keys}
),
earlier AS MATERIALIZED (
  SELECT DISTINCT ON ({keys}) i.* FROM {image} i JOIN keys USING ({keys}) WHERE i.step < {step}
  ORDER BY {keys}, i.step DESC
),
before_rows AS MATERIALIZED (SELECT {image_columns} FROM earlier i WHERE i.present),
after_rows AS MATERIALIZED (SELECT {image_columns} FROM {image} i WHERE i.step = {step} AND i.present)

-- name: pairs
-- Every touched key with both images as arrays of cell texts, NULL where the row did not exist. Tables are asked per
-- key (OFFSET 0 keeps the planner from joining them whole: a fresh copy has no statistics), CTEs are hashed.
pairs AS (
  SELECT {typed_key}, k.own, b.cells AS before, a.cells AS after
  FROM {key_rows} k
  LEFT JOIN LATERAL (SELECT {cells} AS cells FROM {before} r WHERE {same_key} {per_key}) b ON true
  LEFT JOIN LATERAL (SELECT {cells} AS cells FROM {after} r WHERE {same_key} {per_key}) a ON true
)

-- name: pairs_of_many
-- As pairs where the rows touched outnumber the table's pages: both tables are read once and joined by hash. OFFSET 0
-- keeps each row's texts from being made again for every use.
pairs AS (
  SELECT {typed_key}, k.own, CASE WHEN b.{one} IS NOT NULL THEN {before_cells} END AS before,
         CASE WHEN a.{one} IS NOT NULL THEN {after_cells} END AS after
  FROM {key_rows} k LEFT JOIN {before} b ON {before_key} LEFT JOIN {after} a ON {after_key} OFFSET 0
)

-- name: pairs_of_a_sink
-- As pairs for a table whose before side is empty. Without a key a row's own text is what was noted: equal rows are
-- several.
pairs AS (
  SELECT {typed_key}, k.own, NULL::text[] AS before, a.cells AS after
  FROM {key_rows} k
  LEFT JOIN LATERAL (SELECT {cells} AS cells FROM {after} r WHERE {same_key} {per_key}) a ON true
)

-- name: table_summary
-- Counts of one table's changed rows and the SHA-256 over their hashes in key order.
WITH {sources}, hashed AS (
  SELECT own, before IS NULL AS inserted, after IS NULL AS deleted, {order_columns}{row_hash} AS hash
  FROM pairs WHERE {changed}
)
SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted AND NOT deleted),
       count(*) FILTER (WHERE deleted), count(*) FILTER (WHERE NOT own),
       encode(sha256(convert_to({root_head} || count(*) || ';', 'UTF8')
                     || coalesce(string_agg(hash, ''::bytea ORDER BY {order}hash), ''::bytea)), 'hex')
FROM hashed

-- name: table_beyond_origins
-- What touched the changed rows that no statement touched itself.
WITH {sources}
SELECT DISTINCT t.origin FROM pairs p JOIN {touched} t USING ({keys}) WHERE NOT p.own AND {changed} AND {picked}
ORDER BY t.origin

-- name: table_page
-- Some changed rows in the key's own order, with every origin and operation noted for them.
WITH {sources}, page AS MATERIALIZED (
  SELECT * FROM pairs WHERE {changed} ORDER BY {keys} LIMIT {limit} OFFSET {offset}
), notes AS MATERIALIZED (
  SELECT {keys}, array_agg(DISTINCT ARRAY[t.step::text, t.origin]) AS origins, bool_and(t.op = 'U') AS only_updated
  FROM page JOIN {touched} t USING ({keys}) WHERE {picked} GROUP BY {keys}
)
SELECT page.before, page.after, notes.origins, notes.only_updated, ({key_texts})::text
FROM page JOIN notes USING ({keys}) ORDER BY {keys}

-- name: rekeyed_pairs
-- Deleted and inserted keys that are one row under a new key. Certain when one update touched just these two keys, or
-- when within one step and origin no other vanished and no other new row has the same remaining cells.
WITH {sources}, lost AS (
  SELECT {keys}, before IS NULL AS is_new, {key_texts} AS key_texts, {rest_hash} AS rest
  FROM pairs WHERE (before IS NULL) <> (after IS NULL)
), moved AS (
  SELECT {keys} FROM {touched} WHERE {picked} GROUP BY {keys} HAVING bool_and(op = 'U')
), notes AS (
  SELECT DISTINCT t.step, t.origin, {keys} FROM {touched} t JOIN moved USING ({keys}) WHERE {picked}
), sizes AS (
  SELECT step, origin, count(*) AS keys_touched FROM (
    SELECT DISTINCT step, origin, {keys} FROM {touched} WHERE {picked}
  ) every_key GROUP BY step, origin
), ends AS (
  SELECT n.step, n.origin, s.keys_touched, l.is_new, l.key_texts, l.rest
  FROM lost l JOIN notes n USING ({keys}) JOIN sizes s USING (step, origin)
), certain AS (
  SELECT min(key_texts) FILTER (WHERE NOT is_new) AS old_key, min(key_texts) FILTER (WHERE is_new) AS new_key
  FROM ends GROUP BY step, origin, CASE WHEN keys_touched = 2 THEN ''::bytea ELSE rest END
  HAVING count(*) FILTER (WHERE is_new) = 1 AND count(*) FILTER (WHERE NOT is_new) = 1
)
SELECT DISTINCT old_key, new_key FROM certain WHERE old_key::text = ANY({wanted}::text[]) OR new_key::text = ANY({wanted}::text[])

-- name: frozen
-- Every touched row, changed or not, in the byte order of its key's text.
WITH {sources}
SELECT {found_key} AS key_texts, before, after FROM pairs ORDER BY {frozen_order}

-- name: measure_delta
-- Sum of one operator-written expression over the touched rows, after minus before; the rows left alone cancel out.
WITH {sources}
SELECT (a.total - b.total)::text, ({given}::numeric)::text, ({given}::numeric + a.total - b.total)::text
FROM ({before_sum}) b, ({after_sum}) a

-- name: measure_side
-- One side's sum; the expression sees the table's columns by their own names.
SELECT coalesce(sum(v.amount), 0) AS total FROM keys AS shadowdesk_key CROSS JOIN LATERAL (
  SELECT ({amount}
  )::numeric AS amount FROM {relation} AS {alias} WHERE {same_key} AND ({condition}
  ) {per_key}) v

-- name: measure_total
-- The expression's sum over the whole table as it is now.
SELECT coalesce(sum(({amount}
  )::numeric), 0)::text FROM {relation} AS {alias} WHERE ({condition}
  )

-- name: touched_count
-- How many touched rows the notes name, and how many pages the table has (Postgres docs 9.28.7).
ARRAY[(SELECT count(*) FROM {touched} WHERE {picked}), pg_relation_size({base}::regclass) / 8192]

-- name: as_json
-- Texts of one type as JSON text, in the order given.
SELECT to_json(v::{type})::text FROM unnest({texts}::text[]) WITH ORDINALITY AS t(v, place) ORDER BY place
