-- name: people_2
-- Personal tokens, and the version of the policy that judged a proposal; run once by the migration as the owner.
CREATE TABLE control.personal_tokens (
  id text PRIMARY KEY,
  -- Of the token nothing but its hash is kept.
  token_sha256 text NOT NULL UNIQUE CHECK (token_sha256 ~ '^[0-9a-f]{64}$'),
  person text NOT NULL,
  -- A token is good for the role it was issued for and ends with it.
  role text NOT NULL,
  label text NOT NULL,
  issued_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL CHECK (expires_at > created_at),
  revoked_at timestamptz,
  revoked_by text,
  CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);
CREATE INDEX ON control.personal_tokens (person, created_at DESC);
-- What was issued stays as it was issued, and what was revoked stays revoked.
CREATE TRIGGER kept BEFORE UPDATE OF id, token_sha256, person, role, label, issued_by, created_at, expires_at
  ON control.personal_tokens FOR EACH ROW EXECUTE FUNCTION control.kept();
CREATE TRIGGER once BEFORE UPDATE ON control.personal_tokens FOR EACH ROW
  WHEN (OLD.revoked_at IS NOT NULL) EXECUTE FUNCTION control.kept();
GRANT SELECT, INSERT ON control.personal_tokens TO shadowdesk_control;
GRANT UPDATE (revoked_at, revoked_by) ON control.personal_tokens TO shadowdesk_control;

-- What the keys of masks are derived from: one secret, 244 random bits, the same for every replica.
CREATE TABLE control.mask_secret (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  secret bytea NOT NULL CHECK (length(secret) = 32)
);
INSERT INTO control.mask_secret (secret)
  VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));
GRANT SELECT ON control.mask_secret TO shadowdesk_control;

-- Which policy a proposal was judged by: a SHA-256 over the policy part of the configuration; NULL before this column.
ALTER TABLE control.proposals ADD COLUMN policy_version text CHECK (policy_version ~ '^[0-9a-f]{64}$');
CREATE TRIGGER kept_policy BEFORE UPDATE OF policy_version ON control.proposals
  FOR EACH ROW EXECUTE FUNCTION control.kept();
