-- name: bookkeeping
-- Our own schema in every mirror: what was loaded, drawn, touched and how rows looked; the shadow's role may call
-- four of its functions and read nothing of it.
CREATE SCHEMA shadowdesk;
REVOKE ALL ON SCHEMA shadowdesk FROM PUBLIC;
-- One row: which step runs now, and whether it is the rehearsal.
CREATE TABLE shadowdesk.session (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  step smallint NOT NULL DEFAULT 0,
  rehearsal boolean NOT NULL DEFAULT false,
  targets text[] NOT NULL DEFAULT '{}',
  -- production's, under which the app's own functions in column defaults find what they name
  search_path text NOT NULL DEFAULT 'pg_catalog'
);
INSERT INTO shadowdesk.session DEFAULT VALUES;
-- The snapshot of production that every load of this shadow sees, and where its tables' files were then.
CREATE TABLE shadowdesk.snapshot (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  name text NOT NULL,
  taken_at timestamptz NOT NULL,
  filenodes jsonb NOT NULL
);
-- A table's rows are here when it has a row here: level 1 readable, 2 writable, 3 deletable.
CREATE TABLE shadowdesk.loaded (
  name text PRIMARY KEY,
  rel oid NOT NULL UNIQUE,
  level smallint NOT NULL CHECK (level BETWEEN 1 AND 3),
  rows bigint NOT NULL
);
-- Tables whose changes are captured; pristine is NULL for sinks, which start empty.
CREATE TABLE shadowdesk.watched (
  rel oid PRIMARY KEY,
  name text NOT NULL UNIQUE,
  qualified text NOT NULL,
  key text[] NOT NULL,
  -- by key column: the operator of its equality with its schema, for the functions here see pg_catalog alone, where a
  -- citext would be compared as a text and an ltree not at all
  equality text[] NOT NULL,
  columns text[] NOT NULL,
  insertable text[] NOT NULL,
  pristine boolean NOT NULL,
  -- a key column has a drawn default: rows made by triggers then get other keys on production
  drawn_key boolean NOT NULL,
  -- columns that triggers give another value each time, as two rehearsals showed: drawn, or the wall clock
  drawn text[] NOT NULL DEFAULT '{}',
  walls text[] NOT NULL DEFAULT '{}',
  -- columns with a drawn default to which triggers gave a value of their own
  given text[] NOT NULL DEFAULT '{}'
);
-- Keys of the rows that steps and queries (no step) looked at: the proposal tells when they changed on production since.
CREATE TABLE shadowdesk.looked (name text NOT NULL, step smallint, key text[] NOT NULL);
-- Values drawn for omitted columns, in the order Postgres evaluated them: those with a step come before the others.
CREATE TABLE shadowdesk.pins (
  slot text NOT NULL,
  ordinal bigint GENERATED ALWAYS AS IDENTITY,
  value text NOT NULL,
  reserved boolean NOT NULL,
  step smallint,
  popped boolean NOT NULL DEFAULT false,
  PRIMARY KEY (slot, ordinal)
);
-- Expressions of volatile defaults by slot; reserved slots have none. The sequence `at_<place>` holds the ordinal of the
-- value drawn last: marking values one by one would leave a dead row for each, and every draw would step over all.
CREATE TABLE shadowdesk.draws (
  slot text PRIMARY KEY,
  expression text,
  place integer GENERATED ALWAYS AS IDENTITY
);
CREATE FUNCTION shadowdesk.add_slot(wanted text, given text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE added integer;
BEGIN
  INSERT INTO shadowdesk.draws(slot, expression) VALUES (wanted, given) ON CONFLICT DO NOTHING RETURNING place INTO added;
  IF added IS NOT NULL THEN
    EXECUTE format('CREATE SEQUENCE shadowdesk.at_%s MINVALUE 0 START 0', added);
  END IF;
END$$;
CREATE FUNCTION shadowdesk.drawn_last(place integer) RETURNS bigint LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(pg_sequence_last_value(format('shadowdesk.at_%s', place)::regclass), 0)
$$;

-- The transaction time of each step, as Postgres writes it in every date/time type in use: recognises clock cells.
CREATE TABLE shadowdesk.clocks (step smallint NOT NULL, rehearsal boolean NOT NULL, type text NOT NULL, value text NOT NULL);

CREATE FUNCTION shadowdesk.draw(wanted text) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE running shadowdesk.session; slot_drawn shadowdesk.draws; found_value text; found_at bigint;
  last bigint;
BEGIN
  SELECT * INTO running FROM shadowdesk.session;
  SELECT * INTO slot_drawn FROM shadowdesk.draws d WHERE d.slot = wanted;
  last := shadowdesk.drawn_last(slot_drawn.place);
  SELECT p.value, p.ordinal INTO found_value, found_at FROM shadowdesk.pins p
    WHERE p.slot = wanted AND p.ordinal > last AND (p.step IS NULL) <> running.rehearsal
    ORDER BY p.ordinal LIMIT 1;
  IF found_value IS NULL THEN
    IF running.rehearsal THEN
      RAISE EXCEPTION 'more values drawn than in the steps' USING ERRCODE = 'SD002';
    ELSIF slot_drawn.expression IS NULL THEN
      RAISE EXCEPTION '%', wanted USING ERRCODE = 'SD001';
    END IF;
    PERFORM set_config('search_path', running.search_path, true);
    EXECUTE 'SELECT (' || slot_drawn.expression || ')::text' INTO found_value;
    INSERT INTO shadowdesk.pins(slot, value, reserved, step) VALUES (wanted, found_value, false, running.step)
      RETURNING ordinal INTO found_at;
  END IF;
  PERFORM setval(format('shadowdesk.at_%s', slot_drawn.place)::regclass, found_at);
  RETURN found_value;
END$$;

-- Where a change came from, read off the call stack of the capture trigger (Postgres docs 41.6.9, GET DIAGNOSTICS).
-- Rows that a foreign key changed are queued at the statement's own level: there, a table the statement does not write
-- was changed by a cascade.
CREATE FUNCTION shadowdesk.origin(depth integer, stack text, changed text, targets text[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF depth <= 1 THEN
    RETURN CASE WHEN changed = ANY(targets) THEN 'statement' ELSE 'cascade' END;
  END IF;
  RETURN 'trigger:' || coalesce(
    regexp_replace(substring(stack FROM E'\n(?:[^\n]*\n)*?PL/pgSQL function ([^(\n]+)\\('), '^public\.', ''), '?');
END$$;

-- Sequences do not roll back with a failed step: every step says anew which values were drawn before it.
CREATE FUNCTION shadowdesk.begin_step(number integer, types text[], texts text[], targets text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  UPDATE shadowdesk.session SET step = number, targets = begin_step.targets;
  SELECT setval(format('shadowdesk.at_%s', d.place)::regclass, coalesce(
      (SELECT max(p.ordinal) FROM shadowdesk.pins p WHERE p.slot = d.slot AND p.step IS NOT NULL), 0))
    FROM shadowdesk.draws d, shadowdesk.session s WHERE NOT s.rehearsal;
  INSERT INTO shadowdesk.clocks SELECT number, s.rehearsal, c.type, c.value
    FROM shadowdesk.session s, unnest(types, texts) AS c(type, value);
$$;

-- Ids that statements draw are reserved on production, those that triggers draw are not: where both insert, nobody can
-- say which row will have which id.
CREATE FUNCTION shadowdesk.check_makers(w shadowdesk.watched, rehearsed boolean) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE both_insert boolean;
BEGIN
  IF w.drawn_key THEN
    EXECUTE format('SELECT bool_or(origin = ''statement'') AND bool_or(origin LIKE ''trigger:%%'') FROM shadowdesk.touched_%s
      WHERE op = ''I'' AND rehearsal = $1', w.rel) INTO both_insert USING rehearsed;
    IF both_insert THEN
      RAISE EXCEPTION '%', w.name USING ERRCODE = 'SD004';
    END IF;
  END IF;
END$$;

-- The after images of the rows touched in one step, read at its end (nested triggers would show them half done).
CREATE FUNCTION shadowdesk.finish_step(number integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE w shadowdesk.watched; keys text; joined text; cells text; present boolean;
BEGIN
  UPDATE shadowdesk.pins p SET step = number FROM shadowdesk.draws d
    WHERE p.slot = d.slot AND p.step IS NULL AND p.ordinal <= (SELECT shadowdesk.drawn_last(d.place));
  FOR w IN SELECT * FROM shadowdesk.watched ORDER BY name LOOP
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM shadowdesk.touched_%s WHERE step = $1 AND NOT rehearsal)', w.rel)
      INTO present USING number;
    CONTINUE WHEN NOT present OR cardinality(w.key) = 0;
    PERFORM shadowdesk.check_makers(w, false);
    SELECT string_agg('t.k' || o, ', ' ORDER BY o), string_agg(format('b.%I %s t.k%s', c, e, o), ' AND ' ORDER BY o)
      INTO keys, joined FROM unnest(w.key, w.equality) WITH ORDINALITY AS k(c, e, o);
    SELECT string_agg(format('b.%I', c), ', ' ORDER BY o) INTO cells FROM unnest(w.columns) WITH ORDINALITY AS k(c, o);
    EXECUTE format(
      'INSERT INTO shadowdesk.image_%1$s SELECT $1, b.%5$I IS NOT NULL, %2$s, %3$s
         FROM (SELECT DISTINCT %2$s FROM shadowdesk.touched_%1$s t WHERE step = $1 AND NOT rehearsal) t
         LEFT JOIN %6$s b ON %4$s', w.rel, keys, cells, joined, w.key[1], w.qualified) USING number;
  END LOOP;
END$$;

-- Puts every row touched after `number` back as it was at the end of that step; triggers are off. After a rehearsal
-- that is every touched row: it wrote them all anew.
CREATE FUNCTION shadowdesk.restore(number integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET session_replication_role = replica AS $$
DECLARE w shadowdesk.watched; keys text; ikeys text; joined text; cells text; named text; source text; pjoin text;
  ijoin text; wrote boolean;
BEGIN
  FOR w IN SELECT * FROM shadowdesk.watched ORDER BY name LOOP
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM shadowdesk.touched_%s WHERE rehearsal)', w.rel) INTO wrote;
    SELECT string_agg('k' || o, ', ' ORDER BY o), string_agg('i.k' || o, ', ' ORDER BY o),
           string_agg(format('b.%I %s t.k%s', c, e, o), ' AND ' ORDER BY o),
           string_agg(format('p.%I %s t.k%s', c, e, o), ' AND ' ORDER BY o),
           string_agg(format('i.k%2$s %1$s t.k%2$s', e, o), ' AND ' ORDER BY o),
           string_agg(format('l.k%2$s %1$s t.k%2$s', e, o), ' AND ' ORDER BY o)
      INTO keys, ikeys, joined, pjoin, ijoin, source FROM unnest(w.key, w.equality) WITH ORDINALITY AS k(c, e, o);
    SELECT string_agg(format('%I', c), ', ' ORDER BY o) INTO named FROM unnest(w.insertable) WITH ORDINALITY AS k(c, o);
    IF cardinality(w.key) = 0 AND w.pristine THEN
      -- only ever inserted into: as many rows go as were noted, equal ones loaded before stay
      EXECUTE format('DELETE FROM %1$s WHERE (tableoid, ctid) IN (SELECT tableoid, ctid FROM (
          SELECT b.tableoid, b.ctid, t.noted, row_number() OVER (PARTITION BY t.k1) AS nth FROM %1$s b JOIN (SELECT k1, count(*) AS noted
            FROM shadowdesk.touched_%2$s WHERE step > $1 AND NOT rehearsal GROUP BY k1) t ON (b.*)::text = t.k1) n
        WHERE nth <= noted)', w.qualified, w.rel) USING number;
      CONTINUE;
    ELSIF cardinality(w.key) = 0 THEN
      EXECUTE format('DELETE FROM %s b USING shadowdesk.touched_%s t WHERE (b.*)::text = t.k1 AND (t.step > $1 OR $2)', w.qualified, w.rel) USING number, wrote;
      CONTINUE;
    END IF;
    EXECUTE format('CREATE TEMP TABLE restored AS SELECT DISTINCT %s FROM shadowdesk.touched_%s WHERE step > $1 OR $2', keys, w.rel) USING number, wrote;
    EXECUTE format('DELETE FROM %s b USING pg_temp.restored t WHERE %s', w.qualified, joined);
    SELECT string_agg(format('i.c%s', o), ', ' ORDER BY n.o2) INTO cells
      FROM unnest(w.insertable) WITH ORDINALITY AS n(c, o2) JOIN unnest(w.columns) WITH ORDINALITY AS k(c, o) USING (c);
    EXECUTE format('CREATE TEMP TABLE latest AS SELECT DISTINCT ON (%1$s) i.* FROM shadowdesk.image_%2$s i
      JOIN pg_temp.restored t ON %3$s WHERE i.step <= $1 ORDER BY %1$s, i.step DESC', ikeys, w.rel, ijoin) USING number;
    EXECUTE format('INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE SELECT %3$s FROM pg_temp.latest i WHERE i.present',
      w.qualified, named, cells);
    IF w.pristine THEN
      SELECT string_agg(format('p.%I', c), ', ' ORDER BY o) INTO cells FROM unnest(w.insertable) WITH ORDINALITY AS k(c, o);
      EXECUTE format(
        'INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE SELECT %3$s FROM pg_temp.restored t JOIN shadowdesk.pristine_%4$s p ON %5$s
          WHERE NOT EXISTS (SELECT FROM pg_temp.latest l WHERE %6$s)', w.qualified, named, cells, w.rel, pjoin, source);
    END IF;
    DROP TABLE pg_temp.latest;
    DROP TABLE pg_temp.restored;
  END LOOP;
END$$;

-- Forgets everything after step `number`; reserved ids go back to be drawn again, so that the digest is that of a dry
-- run which never had the undone steps.
CREATE FUNCTION shadowdesk.forget(number integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE w shadowdesk.watched;
BEGIN
  FOR w IN SELECT * FROM shadowdesk.watched LOOP
    EXECUTE format('DELETE FROM shadowdesk.touched_%s WHERE step > $1 OR rehearsal', w.rel) USING number;
    EXECUTE format('DELETE FROM shadowdesk.image_%s WHERE step > $1', w.rel) USING number;
  END LOOP;
  DELETE FROM shadowdesk.looked WHERE step > number;
  DELETE FROM shadowdesk.clocks WHERE step > number OR rehearsal;
  DELETE FROM shadowdesk.pins WHERE NOT reserved AND step > number;
  UPDATE shadowdesk.pins SET step = NULL WHERE reserved AND step > number;
  UPDATE shadowdesk.session SET step = number, rehearsal = false;
END$$;

-- Rows as loaded, the recorded draws ready to be popped again: the start of the rehearsal's one transaction.
CREATE FUNCTION shadowdesk.begin_rehearsal() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE w shadowdesk.watched;
BEGIN
  PERFORM shadowdesk.restore(0);
  FOR w IN SELECT * FROM shadowdesk.watched LOOP
    EXECUTE format('DELETE FROM shadowdesk.touched_%s WHERE rehearsal', w.rel);
  END LOOP;
  DELETE FROM shadowdesk.clocks WHERE rehearsal;
  UPDATE shadowdesk.pins SET popped = false;
  PERFORM setval(format('shadowdesk.at_%s', place)::regclass, 0) FROM shadowdesk.draws;
  UPDATE shadowdesk.session SET rehearsal = true;
END$$;

-- The shadow now stands as the rehearsal left it: what it touched and its clock count for the steps as well, so that
-- diffs asked for afterwards speak of the rows as they are.
CREATE FUNCTION shadowdesk.end_rehearsal() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE w shadowdesk.watched; keys text;
BEGIN
  UPDATE shadowdesk.pins p SET popped = true FROM shadowdesk.draws d
    WHERE p.slot = d.slot AND p.step IS NOT NULL AND p.ordinal <= (SELECT shadowdesk.drawn_last(d.place));
  FOR w IN SELECT * FROM shadowdesk.watched LOOP
    PERFORM shadowdesk.check_makers(w, true);
    IF cardinality(w.key) = 0 AND w.pristine THEN
      EXECUTE format('DELETE FROM shadowdesk.touched_%s WHERE NOT rehearsal', w.rel);
    END IF;
    SELECT string_agg('k' || n, ', ' ORDER BY n) INTO keys FROM generate_series(1, greatest(cardinality(w.key), 1)) AS n;
    EXECUTE format('INSERT INTO shadowdesk.touched_%1$s SELECT step, false, op, origin, %2$s
      FROM shadowdesk.touched_%1$s WHERE rehearsal', w.rel, keys);
  END LOOP;
  INSERT INTO shadowdesk.clocks SELECT step, false, type, value FROM shadowdesk.clocks WHERE rehearsal;
  UPDATE shadowdesk.session SET rehearsal = false;
END$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA shadowdesk FROM PUBLIC;

-- name: registry
-- Which shadows this sandbox holds; lives in the sandbox's maintenance database and is gone with it.
CREATE SCHEMA IF NOT EXISTS shadowdesk;
CREATE TABLE IF NOT EXISTS shadowdesk.shadows (
  id text PRIMARY KEY,
  mirror text NOT NULL,
  -- of the shadow's role: any process that owns the sandbox may open the shadow again
  password text,
  state text NOT NULL CHECK (state IN ('ready', 'taken', 'dropping')),
  created_at timestamptz NOT NULL DEFAULT now(),
  ended_at timestamptz,
  expires_at timestamptz NOT NULL
);

-- name: take_ready
-- One ready shadow of this mirror, taken by exactly one process.
UPDATE shadowdesk.shadows SET state = 'taken', expires_at = now() + make_interval(secs => %(ttl_s)s)
WHERE id = (SELECT id FROM shadowdesk.shadows WHERE state = 'ready' AND mirror = %(mirror)s AND password IS NOT NULL
            ORDER BY id = ANY(%(preferred)s) DESC, created_at FOR UPDATE SKIP LOCKED LIMIT 1)
RETURNING id, password

-- name: reserve_shadow
-- The row of a shadow that is about to be made, where there is room for one; half made until its state says more.
INSERT INTO shadowdesk.shadows(id, mirror, state, expires_at)
SELECT %(id)s, %(mirror)s, 'dropping', now() + make_interval(secs => %(ttl_s)s)
WHERE (SELECT count(*) FROM shadowdesk.shadows) < %(max_shadows)s
RETURNING id

-- name: mark_ended
-- The dry run is over; its shadow goes soon.
UPDATE shadowdesk.shadows SET ended_at = coalesce(ended_at, now()),
  expires_at = least(expires_at, now() + make_interval(secs => %(linger_s)s)) WHERE id = %(id)s AND state = 'taken'

-- name: claim_room
-- A shadow that nobody waits for: one ready for another schema version, else the one whose dry run ended first.
UPDATE shadowdesk.shadows SET state = 'dropping'
WHERE id = (SELECT id FROM shadowdesk.shadows
            WHERE (state = 'taken' AND ended_at IS NOT NULL) OR (state = 'ready' AND mirror <> %(mirror)s)
            ORDER BY ended_at NULLS FIRST FOR UPDATE SKIP LOCKED LIMIT 1)
RETURNING id

-- name: claim_stray
-- One shadow to drop: expired, half dropped, or ready for a schema version that production no longer has.
UPDATE shadowdesk.shadows SET state = 'dropping'
WHERE id = (SELECT id FROM shadowdesk.shadows
            WHERE expires_at < now() OR (state = 'ready' AND mirror <> %(mirror)s) OR (state = 'dropping' AND created_at < now() - interval '1 minute')
            FOR UPDATE SKIP LOCKED LIMIT 1)
RETURNING id
