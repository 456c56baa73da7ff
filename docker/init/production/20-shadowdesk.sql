-- What `shadowdesk install` runs on production: two roles, their rights, the receipts. Passwords come from the
-- environment of psql (version 15 or newer). Made from mcp_server/install.py; a test compares the two.
\getenv reader_password READER_PASSWORD
\getenv applier_password APPLIER_PASSWORD
DO $$BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'shadowdesk_reader') THEN
    CREATE ROLE "shadowdesk_reader" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
  END IF;
END$$;
ALTER ROLE "shadowdesk_reader" PASSWORD :'reader_password';

DO $$BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'shadowdesk_applier') THEN
    CREATE ROLE "shadowdesk_applier" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
  END IF;
END$$;
ALTER ROLE "shadowdesk_applier" PASSWORD :'applier_password';

GRANT USAGE ON SCHEMA "public" TO "shadowdesk_reader", "shadowdesk_applier";
GRANT SELECT ON ALL TABLES IN SCHEMA "public" TO "shadowdesk_reader";
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA "public" TO "shadowdesk_reader", "shadowdesk_applier";
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "public" TO "shadowdesk_applier";
ALTER DEFAULT PRIVILEGES IN SCHEMA "public" GRANT SELECT ON TABLES TO "shadowdesk_reader";
ALTER DEFAULT PRIVILEGES IN SCHEMA "public" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "shadowdesk_applier";

GRANT CONNECT ON DATABASE :"DBNAME" TO "shadowdesk_reader", "shadowdesk_applier";
GRANT CREATE ON DATABASE :"DBNAME" TO "shadowdesk_applier";

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
