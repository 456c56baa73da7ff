-- name: schema_1
-- The control store's tables: run once by the migration as the owner; the role shadowdesk_control exists already.
CREATE TABLE control.dry_runs (
  id text PRIMARY KEY,
  tenant_key text NOT NULL,
  tenant_label text NOT NULL,
  purpose text NOT NULL,
  request text NOT NULL,
  rep text NOT NULL,
  role text NOT NULL,
  client text NOT NULL,
  state text NOT NULL CHECK (state IN ('open', 'proposed', 'escalated', 'confirmed', 'replaying', 'unknown', 'applied',
    'rejected', 'drifted', 'diverged', 'discarded', 'expired')),
  shadow_id text,
  mirror_version text,
  fence_hash text,
  snapshot_id text,
  base_at timestamptz,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  discarded_reason text,
  -- Lets others refer to the dry run together with its tenant.
  UNIQUE (id, tenant_key)
);
CREATE INDEX ON control.dry_runs (created_at DESC);
CREATE INDEX ON control.dry_runs (rep, created_at DESC);

CREATE TABLE control.statements (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  dry_run_id text NOT NULL REFERENCES control.dry_runs,
  step smallint NOT NULL CHECK (step > 0),
  text text NOT NULL,
  -- json, not jsonb: it keeps the text as it came.
  params json NOT NULL,
  pins json NOT NULL,
  defaults json NOT NULL,
  kind text NOT NULL,
  reason text NOT NULL,
  tool text,
  arguments json,
  row_count integer NOT NULL CHECK (row_count >= 0),
  warnings json NOT NULL,
  ran_at timestamptz NOT NULL,
  undone_at timestamptz,
  -- Lets a proposal refer to a statement of its own dry run only.
  UNIQUE (id, dry_run_id)
);
-- A step is kept once.
CREATE UNIQUE INDEX kept_step ON control.statements (dry_run_id, step) WHERE undone_at IS NULL;

CREATE TABLE control.proposals (
  id text PRIMARY KEY,
  -- The order in which proposals were made.
  number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
  dry_run_id text NOT NULL,
  tenant_key text NOT NULL,
  digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
  header text NOT NULL,
  frozen json NOT NULL,
  diff json NOT NULL,
  decision text NOT NULL CHECK (decision IN ('self', 'second', 'engineer', 'nobody')),
  reasons json NOT NULL,
  rows integer NOT NULL CHECK (rows >= 0),
  state text NOT NULL CHECK (state IN ('pending', 'escalated', 'approved', 'confirmed', 'replaying', 'applied', 'rejected',
    'drifted', 'diverged', 'unknown', 'expired', 'withdrawn')),
  note text NOT NULL,
  outcome_message text,
  receipt json,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  -- A proposal is for its dry run's tenant.
  FOREIGN KEY (dry_run_id, tenant_key) REFERENCES control.dry_runs (id, tenant_key),
  -- Applied is what production's receipt says, and nothing else.
  CONSTRAINT applied_with_receipt CHECK ((state = 'applied') = (receipt IS NOT NULL)),
  UNIQUE (id, dry_run_id),
  -- Lets a confirmation repeat exactly what the person saw.
  UNIQUE (id, digest, tenant_key, rows)
);
-- A dry run has one proposal at a time that can still be applied.
CREATE UNIQUE INDEX live_proposal ON control.proposals (dry_run_id)
  WHERE state IN ('pending', 'escalated', 'approved', 'confirmed', 'replaying', 'unknown');

CREATE TABLE control.proposal_statements (
  proposal_id text NOT NULL,
  statement_id bigint NOT NULL,
  dry_run_id text NOT NULL,
  PRIMARY KEY (proposal_id, statement_id),
  FOREIGN KEY (proposal_id, dry_run_id) REFERENCES control.proposals (id, dry_run_id),
  -- A proposal holds statements of its own dry run.
  FOREIGN KEY (statement_id, dry_run_id) REFERENCES control.statements (id, dry_run_id)
);

CREATE TABLE control.proposal_rows (
  proposal_id text NOT NULL REFERENCES control.proposals,
  ordinal integer NOT NULL CHECK (ordinal > 0),
  table_name text NOT NULL,
  key text[] NOT NULL,
  -- NULL where the row did not exist.
  before text[],
  after text[],
  kinds text[] NOT NULL,
  PRIMARY KEY (proposal_id, ordinal)
);

CREATE TABLE control.confirmations (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  proposal_id text NOT NULL,
  digest text NOT NULL,
  tenant_key text NOT NULL,
  person text NOT NULL,
  role text NOT NULL,
  channel text NOT NULL,
  typed_rows integer NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  used_at timestamptz,
  withdrawn_at timestamptz,
  -- A confirmation is for one digest of one tenant, and the person typed that proposal's number of rows.
  CONSTRAINT what_was_seen FOREIGN KEY (proposal_id, digest, tenant_key, typed_rows)
    REFERENCES control.proposals (id, digest, tenant_key, rows),
  -- One that was withdrawn or is over is never used.
  CHECK (used_at IS NULL OR (withdrawn_at IS NULL AND used_at <= expires_at))
);
-- A proposal has one confirmation at a time that can still be used.
CREATE UNIQUE INDEX open_confirmation ON control.confirmations (proposal_id)
  WHERE used_at IS NULL AND withdrawn_at IS NULL;

CREATE TABLE control.escalations (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  dry_run_id text NOT NULL,
  proposal_id text NOT NULL,
  -- NULL where somebody answered without having been asked.
  question text,
  asked_by text,
  asked_at timestamptz,
  answered_by text,
  verdict text CHECK (verdict IN ('approved', 'rejected')),
  comment text,
  answered_at timestamptz,
  FOREIGN KEY (proposal_id, dry_run_id) REFERENCES control.proposals (id, dry_run_id),
  -- A question has its asker, an answer its answerer, and there is one of them.
  CHECK (num_nulls(question, asked_by, asked_at) IN (0, 3)),
  CHECK (num_nulls(answered_by, verdict, comment, answered_at) IN (0, 4)),
  CHECK (question IS NOT NULL OR verdict IS NOT NULL)
);
-- A proposal has one question open at a time.
CREATE UNIQUE INDEX open_question ON control.escalations (proposal_id) WHERE verdict IS NULL;

CREATE TABLE control.login_links (
  -- Of the token nothing but its hash is kept.
  token_sha256 text PRIMARY KEY CHECK (token_sha256 ~ '^[0-9a-f]{64}$'),
  person text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  used_at timestamptz,
  CHECK (used_at <= expires_at)
);

CREATE TABLE control.page_sessions (
  id_sha256 text PRIMARY KEY CHECK (id_sha256 ~ '^[0-9a-f]{64}$'),
  person text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);

-- name: rules_1
-- What may change and how: triggers, so that they hold for every role, the owner included.

-- Every legal move of a dry run ('d') and of a proposal ('p'); what is not here is refused.
CREATE FUNCTION control.legal(noun text, was text, becomes text) RETURNS boolean LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM (VALUES
    ('d', 'open', '{proposed,discarded,expired}'::text[]),
    ('d', 'proposed', '{open,escalated,confirmed,applied,rejected,discarded,expired}'),
    ('d', 'escalated', '{open,confirmed,applied,rejected,discarded,expired}'),
    ('d', 'confirmed', '{replaying,applied,expired}'),
    ('d', 'replaying', '{applied,unknown,drifted,diverged,proposed,escalated}'),
    ('d', 'unknown', '{applied,confirmed,proposed,escalated}'),
    ('d', 'drifted', '{open,discarded,expired}'),
    ('d', 'diverged', '{open,discarded,expired}'),
    ('p', 'pending', '{escalated,approved,confirmed,applied,rejected,expired,withdrawn}'),
    ('p', 'escalated', '{approved,confirmed,applied,rejected,expired,withdrawn}'),
    ('p', 'approved', '{confirmed,applied,rejected,expired,withdrawn}'),
    ('p', 'confirmed', '{replaying,applied,expired}'),
    ('p', 'replaying', '{applied,unknown,drifted,diverged,pending,escalated,approved}'),
    ('p', 'unknown', '{applied,confirmed,pending,escalated,approved}')
  ) AS moves(of, from_state, to_states) WHERE of = noun AND from_state = was AND becomes = ANY (to_states))
$$;

CREATE FUNCTION control.move() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT control.legal(TG_ARGV[0], OLD.state, NEW.state) THEN
    RAISE EXCEPTION 'no such move' USING ERRCODE = 'SD101';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER move BEFORE UPDATE ON control.dry_runs FOR EACH ROW
  WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION control.move('d');
CREATE TRIGGER move BEFORE UPDATE ON control.proposals FOR EACH ROW
  WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION control.move('p');

CREATE FUNCTION control.no_move() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'not in this state' USING ERRCODE = 'SD101';
END $$;
-- Everything begins at the beginning.
CREATE TRIGGER begins BEFORE INSERT ON control.dry_runs FOR EACH ROW
  WHEN (NEW.state <> 'open') EXECUTE FUNCTION control.no_move();
CREATE TRIGGER begins BEFORE INSERT ON control.proposals FOR EACH ROW
  WHEN (NEW.state <> 'pending') EXECUTE FUNCTION control.no_move();

CREATE FUNCTION control.kept() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'this is kept as it is' USING ERRCODE = 'SD102';
END $$;
-- What was recorded stays as it was recorded.
CREATE TRIGGER kept BEFORE UPDATE OF id, tenant_key, tenant_label, purpose, request, rep, role, client, created_at
  ON control.dry_runs FOR EACH ROW EXECUTE FUNCTION control.kept();
CREATE TRIGGER kept BEFORE UPDATE OF id, dry_run_id, step, text, params, pins, defaults, kind, reason, tool, arguments,
  row_count, warnings, ran_at ON control.statements FOR EACH ROW EXECUTE FUNCTION control.kept();
CREATE TRIGGER kept BEFORE UPDATE OF id, number, dry_run_id, tenant_key, digest, header, frozen, diff, decision, reasons,
  rows, note, created_at, expires_at ON control.proposals FOR EACH ROW EXECUTE FUNCTION control.kept();
CREATE TRIGGER kept BEFORE UPDATE ON control.proposal_statements FOR EACH ROW EXECUTE FUNCTION control.kept();
CREATE TRIGGER kept BEFORE UPDATE ON control.proposal_rows FOR EACH ROW EXECUTE FUNCTION control.kept();
CREATE TRIGGER kept BEFORE UPDATE OF id, proposal_id, digest, tenant_key, person, role, channel, typed_rows, created_at,
  expires_at ON control.confirmations FOR EACH ROW EXECUTE FUNCTION control.kept();
CREATE TRIGGER kept BEFORE UPDATE OF id, dry_run_id, proposal_id, question, asked_by, asked_at
  ON control.escalations FOR EACH ROW EXECUTE FUNCTION control.kept();
CREATE TRIGGER kept BEFORE UPDATE OF token_sha256, person, created_at, expires_at
  ON control.login_links FOR EACH ROW EXECUTE FUNCTION control.kept();
CREATE TRIGGER kept BEFORE UPDATE ON control.page_sessions FOR EACH ROW EXECUTE FUNCTION control.kept();
-- What happens once happens once.
CREATE TRIGGER once BEFORE UPDATE ON control.statements FOR EACH ROW
  WHEN (OLD.undone_at IS NOT NULL) EXECUTE FUNCTION control.kept();
CREATE TRIGGER once BEFORE UPDATE OF receipt ON control.proposals FOR EACH ROW
  WHEN (OLD.receipt IS NOT NULL) EXECUTE FUNCTION control.kept();
CREATE TRIGGER once BEFORE UPDATE ON control.confirmations FOR EACH ROW
  WHEN (OLD.used_at IS NOT NULL OR OLD.withdrawn_at IS NOT NULL) EXECUTE FUNCTION control.kept();
CREATE TRIGGER once BEFORE UPDATE ON control.escalations FOR EACH ROW
  WHEN (OLD.verdict IS NOT NULL) EXECUTE FUNCTION control.kept();
CREATE TRIGGER once BEFORE UPDATE ON control.login_links FOR EACH ROW
  WHEN (OLD.used_at IS NOT NULL) EXECUTE FUNCTION control.kept();

-- Statements come and go while their dry run is open; the lock holds its state until they are committed.
CREATE FUNCTION control.while_open() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF (SELECT d.state FROM control.dry_runs d WHERE d.id = NEW.dry_run_id FOR SHARE) IS DISTINCT FROM 'open' THEN
    RAISE EXCEPTION 'not in this state' USING ERRCODE = 'SD101';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER while_open BEFORE INSERT OR UPDATE ON control.statements
  FOR EACH ROW EXECUTE FUNCTION control.while_open();

-- Rows and statements of a proposal are written by the transaction that made it, never added later.
CREATE FUNCTION control.frozen_with() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM (SELECT DISTINCT a.proposal_id FROM added a) fresh
             JOIN control.proposals p ON p.id = fresh.proposal_id
             WHERE p.xmin <> pg_current_xact_id()::xid) THEN
    RAISE EXCEPTION 'this is kept as it is' USING ERRCODE = 'SD102';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER frozen_with AFTER INSERT ON control.proposal_rows REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION control.frozen_with();
CREATE TRIGGER frozen_with AFTER INSERT ON control.proposal_statements REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION control.frozen_with();

-- Only what waits for a person, is in time and may be confirmed by somebody can be confirmed.
CREATE FUNCTION control.confirmable() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM FROM control.proposals p WHERE p.id = NEW.proposal_id AND p.expires_at > now()
    AND p.state IN ('pending', 'escalated', 'approved') AND p.decision <> 'nobody' FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'this cannot be confirmed' USING ERRCODE = 'SD103';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER confirmable BEFORE INSERT ON control.confirmations
  FOR EACH ROW EXECUTE FUNCTION control.confirmable();

-- A replay begins in the transaction that uses up a confirmation of its digest: one yes, one replay.
CREATE FUNCTION control.replays_once() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM control.confirmations c WHERE c.proposal_id = NEW.id AND c.digest = NEW.digest
                 AND c.used_at IS NOT NULL AND c.xmin = pg_current_xact_id()::xid) THEN
    RAISE EXCEPTION 'no confirmation for this replay' USING ERRCODE = 'SD103';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER replays_once BEFORE UPDATE ON control.proposals FOR EACH ROW
  WHEN (NEW.state = 'replaying' AND OLD.state <> 'replaying') EXECUTE FUNCTION control.replays_once();

-- name: grants_1
-- The server's role: no DELETE but for links and sessions, no TRUNCATE, UPDATE of what may change.
GRANT USAGE ON SCHEMA control TO shadowdesk_control;
GRANT SELECT, INSERT ON control.dry_runs, control.statements, control.proposals, control.proposal_statements,
  control.proposal_rows, control.confirmations, control.escalations, control.login_links, control.page_sessions
  TO shadowdesk_control;
GRANT UPDATE (state, shadow_id, mirror_version, fence_hash, snapshot_id, base_at, expires_at, discarded_reason)
  ON control.dry_runs TO shadowdesk_control;
GRANT UPDATE (undone_at) ON control.statements TO shadowdesk_control;
GRANT UPDATE (state, outcome_message, receipt) ON control.proposals TO shadowdesk_control;
GRANT UPDATE (used_at, withdrawn_at) ON control.confirmations TO shadowdesk_control;
GRANT UPDATE (answered_by, verdict, comment, answered_at) ON control.escalations TO shadowdesk_control;
GRANT UPDATE (used_at) ON control.login_links TO shadowdesk_control;
GRANT DELETE ON control.login_links, control.page_sessions TO shadowdesk_control;
