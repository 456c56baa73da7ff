-- One small schema per way in which triggers and functions act.

-- name: kinds
CREATE SCHEMA stats;
CREATE TABLE orders(id serial PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, amount numeric NOT NULL, state text DEFAULT 'new', updated_at timestamptz, changed_on date, touched int DEFAULT 0);
CREATE TABLE payments(id int PRIMARY KEY, order_id int NOT NULL REFERENCES orders ON DELETE CASCADE, paid numeric);
CREATE TABLE stats.totals(tenant_id int PRIMARY KEY REFERENCES tenants, total numeric, rows int, at timestamptz);
CREATE TABLE history(id bigserial PRIMARY KEY, at timestamptz DEFAULT now(), by_whom text DEFAULT current_user, what text, row jsonb);
INSERT INTO orders(tenant_id, amount) SELECT 1 + g % 2, g * 10 FROM generate_series(1, 10) g;
INSERT INTO payments SELECT g, g, 1 FROM generate_series(1, 10) g;
INSERT INTO stats.totals SELECT tenant_id, sum(amount), count(*), '2024-01-01' FROM orders GROUP BY 1;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); NEW.changed_on := current_date; RETURN NEW; END $$;
CREATE TRIGGER a_stamp BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.amount < 0 THEN RETURN NULL; END IF; RETURN NEW; END $$;
CREATE TRIGGER b_veto BEFORE UPDATE OF amount ON orders FOR EACH ROW WHEN (NEW.amount IS DISTINCT FROM OLD.amount) EXECUTE FUNCTION veto();
CREATE FUNCTION tally() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  UPDATE stats.totals t SET total = t.total + d.d, rows = t.rows + d.n, at = now()
  FROM (SELECT tenant_id, sum(amount) AS d, count(*) AS n FROM fresh GROUP BY 1) d WHERE d.tenant_id = t.tenant_id; RETURN NULL; END $$;
CREATE TRIGGER c_tally AFTER INSERT ON orders REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION tally();
CREATE FUNCTION tally_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  UPDATE stats.totals t SET total = t.total + d.d FROM (SELECT n.tenant_id, sum(n.amount - o.amount) AS d FROM fresh n JOIN stale o USING (id) GROUP BY 1) d WHERE d.tenant_id = t.tenant_id; RETURN NULL; END $$;
CREATE TRIGGER d_tally AFTER UPDATE ON orders REFERENCING NEW TABLE AS fresh OLD TABLE AS stale FOR EACH STATEMENT EXECUTE FUNCTION tally_change();
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO history(what, row) VALUES (TG_OP, to_jsonb(coalesce(NEW, OLD)) - 'updated_at' - 'changed_on'); RETURN NULL; END $$;
CREATE TRIGGER e_remember AFTER UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION remember();
CREATE FUNCTION paid_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE orders SET state = 'paid' WHERE id = NEW.order_id AND state <> 'paid' AND (SELECT sum(paid) FROM payments p WHERE p.order_id = NEW.order_id) >= amount; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER paid_up AFTER INSERT OR UPDATE ON payments DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION paid_up();

-- name: names
CREATE SCHEMA app; CREATE SCHEMA lib;
CREATE TABLE public.orders(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int, note text);
CREATE TABLE app.audit(id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, order_id int, note text);
CREATE TABLE public.counts(tenant_id int PRIMARY KEY REFERENCES tenants, n int);
INSERT INTO orders SELECT g, 1 + g % 2, g FROM generate_series(1, 6) g;
INSERT INTO counts SELECT tenant_id, count(*) FROM orders GROUP BY 1;
CREATE FUNCTION lib.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT n * 2 $$;
CREATE FUNCTION public.bump(t int) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$ BEGIN UPDATE public.counts SET n = lib.twice(n) WHERE tenant_id = t; END $$;
CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql SET search_path = app, pg_temp AS $$ BEGIN
  INSERT INTO audit(order_id, note) VALUES (NEW.id, 'n=' || NEW.n); PERFORM public.bump(NEW.tenant_id); NEW.note := (SELECT 'of ' || name FROM public.tenants WHERE id = NEW.tenant_id); RETURN NEW; END $$;
CREATE TRIGGER f BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION f();

-- name: instead_of
CREATE TABLE base(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int);
CREATE TABLE driver(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int);
INSERT INTO base SELECT g, 1 + g % 2, g FROM generate_series(1, 6) g;
INSERT INTO driver SELECT g, 1 + g % 2, g FROM generate_series(1, 6) g;
CREATE VIEW shown AS SELECT id, n * 10 AS tenfold FROM base;
CREATE FUNCTION write_base() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE base SET n = NEW.tenfold / 10 WHERE id = OLD.id; RETURN NEW; END $$;
CREATE TRIGGER shown_update INSTEAD OF UPDATE ON shown FOR EACH ROW EXECUTE FUNCTION write_base();
CREATE FUNCTION drive() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE shown SET tenfold = NEW.n * 10 WHERE id = NEW.id; RETURN NEW; END $$;
CREATE TRIGGER drive AFTER UPDATE ON driver FOR EACH ROW EXECUTE FUNCTION drive();

-- name: reaching_out
CREATE EXTENSION dblink;
CREATE TABLE orders(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int);
CREATE TABLE quiet(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int);
CREATE TABLE marks(id int PRIMARY KEY, n int);
INSERT INTO marks VALUES (1, 0);
INSERT INTO orders SELECT g, 1 + g % 2, g FROM generate_series(1, 6) g;
INSERT INTO quiet SELECT g, 1 + g % 2, g FROM generate_series(1, 6) g;
CREATE FUNCTION call() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM dblink_exec('%URL%', 'UPDATE marks SET n = n + 1'); RETURN NEW; END $$;
CREATE TRIGGER call AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION call();
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('orders', NEW.id::text); RETURN NEW; END $$;
CREATE TRIGGER tell AFTER UPDATE ON quiet FOR EACH ROW EXECUTE FUNCTION tell();

-- name: foreign_tables
CREATE EXTENSION postgres_fdw;
CREATE TABLE orders(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int);
INSERT INTO orders SELECT g, 1 + g % 2, g FROM generate_series(1, 6) g;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'elsewhere.invalid');
CREATE FOREIGN TABLE marks(id int, n int) SERVER elsewhere;
CREATE TABLE mixed(tenant_id int NOT NULL, n int) PARTITION BY LIST (n);
CREATE FOREIGN TABLE mixed_1 PARTITION OF mixed FOR VALUES IN (1) SERVER elsewhere;
CREATE SEQUENCE numbers;
CREATE TABLE invoices(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, number text);
CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.number := 'INV-' || nextval('numbers'); RETURN NEW; END $$;
CREATE TRIGGER number BEFORE INSERT ON invoices FOR EACH ROW EXECUTE FUNCTION number();
CREATE FUNCTION call() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO marks VALUES (NEW.id, NEW.n); RETURN NEW; END $$;
CREATE TRIGGER call AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION call();

-- name: switched
CREATE TABLE orders(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int, log text DEFAULT '');
INSERT INTO orders SELECT g, 1 + g % 2, g FROM generate_series(1, 6) g;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.log := NEW.log || TG_ARGV[0] || ' '; RETURN NEW; END $$;
CREATE TRIGGER a BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION note('plain');
CREATE TRIGGER b BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION note('disabled');
CREATE TRIGGER c BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION note('replica');
CREATE TRIGGER d BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION note('always');
ALTER TABLE orders DISABLE TRIGGER b; ALTER TABLE orders ENABLE REPLICA TRIGGER c; ALTER TABLE orders ENABLE ALWAYS TRIGGER d;

-- name: role_tricks
CREATE TABLE orders(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int);
INSERT INTO orders SELECT g, 1 + g % 2, g FROM generate_series(1, 6) g;
CREATE TABLE others(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int);
INSERT INTO others SELECT * FROM orders;
CREATE FUNCTION quietly() RETURNS trigger LANGUAGE plpgsql SET session_replication_role = replica AS $$ BEGIN UPDATE others SET n = 0 WHERE id = NEW.id; RETURN NEW; END $$;
CREATE TRIGGER quietly AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION quietly();
CREATE FUNCTION make_table() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('CREATE TABLE IF NOT EXISTS made_%s()', NEW.id); RETURN NEW; END $$;
CREATE TRIGGER make_table AFTER UPDATE ON others FOR EACH ROW EXECUTE FUNCTION make_table();

-- name: hidden_work
CREATE TABLE orders(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int);
INSERT INTO orders SELECT g, 1 + g % 2, g FROM generate_series(1, 6) g;
CREATE TABLE shy(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, n int);
INSERT INTO shy SELECT * FROM orders;
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  BEGIN EXECUTE 'UPDATE s' || 'hy SET n = n + 1 WHERE id = $1' USING NEW.id; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN NEW; END $$;
CREATE TRIGGER swallow AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION swallow();

-- name: strangers
CREATE TABLE contracts(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, amount numeric, top bool DEFAULT false);
INSERT INTO contracts SELECT g, 1 + g % 2, g FROM generate_series(1, 7) g;
CREATE FUNCTION crown() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  UPDATE contracts SET top = true WHERE id = (SELECT id FROM contracts ORDER BY amount DESC, id LIMIT 1) AND NOT top; RETURN NULL; END $$;
CREATE TRIGGER crown AFTER UPDATE OF amount ON contracts FOR EACH STATEMENT EXECUTE FUNCTION crown();
