-- name: mask_key
-- The dry run's key for masks: only the owner reads it, the function below on everybody's behalf.
CREATE TABLE IF NOT EXISTS shadowdesk.mask_key (one boolean PRIMARY KEY DEFAULT true CHECK (one), key bytea NOT NULL);

-- name: mask_function
-- A keyed hash, so that equal values have equal masks and no mask can be worked back by guessing without the key.
CREATE OR REPLACE FUNCTION shadowdesk.mask(value text) RETURNS text LANGUAGE sql STABLE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
  SELECT 'masked#' || left(encode(sha256(k.key || sha256(k.key || convert_to(value, 'UTF8'))), 'hex'), 16)
  FROM shadowdesk.mask_key k
$$;
