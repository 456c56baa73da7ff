-- name: append
-- Adds one event; the trigger links it. One statement, one transaction.
INSERT INTO audit.events (data, call_id, kind, dry_run_id) VALUES (%b, %s, %s, %s) RETURNING seq

-- name: head
-- The last event's number and hash.
SELECT seq, hash FROM audit.events ORDER BY seq DESC LIMIT 1

-- name: links
-- The chain from a number on, one page.
SELECT seq, data, hash, prev_hash, call_id, kind, dry_run_id FROM audit.events WHERE seq > %s ORDER BY seq LIMIT %s

-- name: tail
-- The newest events below a number, newest first.
SELECT seq, data FROM audit.events WHERE seq < %s ORDER BY seq DESC LIMIT %s

-- name: of_dry_run
-- Every event of one dry run, in order.
SELECT seq, data FROM audit.events WHERE dry_run_id = %s ORDER BY seq
