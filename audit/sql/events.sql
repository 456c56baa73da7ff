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

-- name: append_once
-- Adds an outcome unless the call has one already; answers whether it was added.
INSERT INTO audit.events (data, call_id, kind, dry_run_id) VALUES (%b, %s, %s, %s)
ON CONFLICT (call_id, kind) DO NOTHING RETURNING seq

-- name: unfinished
-- Calls announced and not ended, from a number on, one page.
SELECT seq, data FROM audit.events i WHERE kind = 'intent' AND seq > %s
  AND NOT EXISTS (SELECT FROM audit.events o WHERE o.call_id = i.call_id AND o.kind = 'outcome')
ORDER BY seq LIMIT %s

-- name: hold_presence
-- Held by a session of a process for as long as it lives (Postgres docs 13.3.5, Advisory Locks). Shared: the session in
-- place of a lost one need not wait until the server has noticed the loss.
SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))

-- name: is_gone
-- Whether no session holds the process's presence; what this takes itself is given back with the statement.
SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))
