-- name: write_receipt
-- First write of the replay: the proposal id is unique, so a second replay fails here; it also takes the transaction id.
INSERT INTO shadowdesk.receipts (proposal_id, digest, tenant_key, rows, confirmed_by)
VALUES ({}, {}, {}, {}, {})
RETURNING proposal_id, digest, tenant_key, rows, confirmed_by, applied_at, transaction_id::text

-- name: find_receipt
-- The answer to "did it happen?".
SELECT proposal_id, digest, tenant_key, rows, confirmed_by, applied_at, transaction_id::text
FROM shadowdesk.receipts WHERE proposal_id = %(proposal_id)s

-- name: install
-- All that persists on production: one small schema with the receipts, and two roles. Passwords are set by the operator.
CREATE SCHEMA IF NOT EXISTS shadowdesk;
REVOKE ALL ON SCHEMA shadowdesk FROM PUBLIC;
CREATE TABLE IF NOT EXISTS shadowdesk.receipts (
  -- a proposal is applied at most once
  proposal_id text PRIMARY KEY,
  digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
  tenant_key text NOT NULL,
  rows integer NOT NULL CHECK (rows >= 0),
  confirmed_by text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now(),
  transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id()
);
GRANT USAGE ON SCHEMA shadowdesk TO shadowdesk_reader, shadowdesk_applier;
GRANT SELECT ON shadowdesk.receipts TO shadowdesk_reader;
GRANT SELECT, INSERT ON shadowdesk.receipts TO shadowdesk_applier;
