-- name: calls_3
-- How many calls each person made of late, for all replicas together; run once by the migration as the owner.
-- A ring of sixty rows per person, one for each second of a minute: nothing has to be cleaned up. Unlogged: a count of
-- the last minute need not survive a crash, and its commit waits for no disk (Postgres docs, CREATE TABLE, UNLOGGED).
CREATE UNLOGGED TABLE control.calls (
  person text NOT NULL,
  slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 59),
  -- Seconds since 1970 by the database's clock, which all replicas share.
  second bigint NOT NULL,
  calls integer NOT NULL CHECK (calls > 0),
  PRIMARY KEY (person, slot),
  CHECK (slot = second % 60)
) WITH (fillfactor = 50);

-- Counts one call unless the last minute holds `most`; answers whether it was counted. Calls of one person queue on the
-- lock, so that many at once do not all see the same sum; each statement after it sees what was committed before.
CREATE FUNCTION control.take_call(who text, most bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  now_second bigint := floor(extract(epoch FROM clock_timestamp()));
  made bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(x'43414C4C'::int, hashtext(who));
  SELECT coalesce(sum(c.calls), 0) INTO made FROM control.calls c WHERE c.person = who AND c.second > now_second - 60;
  IF made >= most THEN
    RETURN false;
  END IF;
  INSERT INTO control.calls AS c (person, slot, second, calls) VALUES (who, now_second % 60, now_second, 1)
    ON CONFLICT (person, slot) DO UPDATE
      SET calls = CASE WHEN c.second >= excluded.second THEN c.calls + 1 ELSE 1 END,
          second = greatest(c.second, excluded.second);
  RETURN true;
END $$;
REVOKE ALL ON FUNCTION control.take_call FROM PUBLIC;
GRANT EXECUTE ON FUNCTION control.take_call TO shadowdesk_control;
GRANT SELECT, INSERT, UPDATE ON control.calls TO shadowdesk_control;
