-- name: schema_1
-- The trail's table: run once by the migration as the owner; the role shadowdesk_audit exists already.
CREATE SCHEMA audit;
REVOKE ALL ON SCHEMA audit FROM PUBLIC;

CREATE TABLE audit.events (
  -- Numbers have no gap: the trigger below gives them.
  seq bigint PRIMARY KEY CHECK (seq > 0),
  -- History is linear: no two events follow the same one.
  prev_hash bytea NOT NULL UNIQUE CHECK (octet_length(prev_hash) = 32),
  hash bytea NOT NULL UNIQUE,
  -- The event itself, canonical (RFC 8785); the columns after it only index it.
  data bytea NOT NULL,
  call_id text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('intent', 'outcome')),
  dry_run_id text,
  -- Only the first event follows nothing.
  CHECK ((seq = 1) = (prev_hash = decode(repeat('00', 32), 'hex'))),
  -- A call is announced once and ends once.
  UNIQUE (call_id, kind),
  -- A row's hash is its own.
  CONSTRAINT own_hash CHECK (hash = sha256(
    decode('736861646f776465736b2e61756469742e6576656e742e763100', 'hex') || prev_hash || int8send(seq) || data))
);
CREATE INDEX ON audit.events (dry_run_id, seq) WHERE dry_run_id IS NOT NULL;

-- Links a new row to the last one. Writers queue on the lock, which falls with their commit, so the head they read
-- is final: a volatile function's statement sees all that was committed before it began (Postgres docs 38.7).
CREATE FUNCTION audit.link() RETURNS trigger LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE head_seq bigint; head_hash bytea;
BEGIN
  PERFORM pg_advisory_xact_lock(x'53484144'::int, x'41554449'::int);
  SELECT e.seq, e.hash INTO head_seq, head_hash FROM audit.events e ORDER BY e.seq DESC LIMIT 1;
  IF NEW.kind = 'outcome'
     AND NOT EXISTS (SELECT FROM audit.events e WHERE e.call_id = NEW.call_id AND e.kind = 'intent') THEN
    RAISE EXCEPTION 'an outcome follows its intent' USING ERRCODE = 'SD201';
  END IF;
  NEW.seq := coalesce(head_seq, 0) + 1;
  NEW.prev_hash := coalesce(head_hash, decode(repeat('00', 32), 'hex'));
  NEW.hash := sha256(decode('736861646f776465736b2e61756469742e6576656e742e763100', 'hex')
                     || NEW.prev_hash || int8send(NEW.seq) || NEW.data);
  RETURN NEW;
END $$;
CREATE TRIGGER link BEFORE INSERT ON audit.events FOR EACH ROW EXECUTE FUNCTION audit.link();

CREATE FUNCTION audit.refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'the audit trail is append-only' USING ERRCODE = 'SD202';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit.events FOR EACH ROW EXECUTE FUNCTION audit.refuse();
-- A row trigger alone lets TRUNCATE empty the table.
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON audit.events
  FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();
-- They hold under session_replication_role = replica too.
ALTER TABLE audit.events ENABLE ALWAYS TRIGGER link;
ALTER TABLE audit.events ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE audit.events ENABLE ALWAYS TRIGGER never_truncated;

GRANT USAGE ON SCHEMA audit TO shadowdesk_audit;
-- The role reads all and writes the event; number and hashes are not its to give.
GRANT SELECT, INSERT (data, call_id, kind, dry_run_id) ON audit.events TO shadowdesk_audit;
