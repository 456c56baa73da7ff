-- Every action a foreign key can take, in one family of tables.

-- name: actions
CREATE TABLE parents(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, code text UNIQUE, t text);
CREATE TABLE by_cascade(id int PRIMARY KEY, parent int NOT NULL REFERENCES parents ON DELETE CASCADE);
CREATE TABLE deeper(id int PRIMARY KEY, up int NOT NULL REFERENCES by_cascade ON DELETE CASCADE);
CREATE TABLE by_null(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, parent int REFERENCES parents ON DELETE SET NULL);
CREATE TABLE by_default(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, parent int DEFAULT 2 REFERENCES parents ON DELETE SET DEFAULT);
CREATE TABLE by_code(id int PRIMARY KEY, parent_code text NOT NULL REFERENCES parents(code) ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE by_code_null(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, parent_code text REFERENCES parents(code) ON UPDATE SET NULL ON DELETE SET NULL);
CREATE TABLE restricted(id int PRIMARY KEY, parent int NOT NULL REFERENCES parents ON DELETE RESTRICT);
INSERT INTO parents SELECT g, 1 + g % 2, 'c' || g, NULL FROM generate_series(1, 10) g;
INSERT INTO by_cascade SELECT g, 1 + (g - 1) % 10 FROM generate_series(1, 20) g;
INSERT INTO deeper SELECT g, 1 + (g - 1) % 20 FROM generate_series(1, 40) g;
INSERT INTO by_null SELECT g, 1 + g % 2, g FROM generate_series(1, 10) g;
INSERT INTO by_default SELECT g, 1 + g % 2, g FROM generate_series(1, 10) g;
INSERT INTO by_code SELECT g, 'c' || g FROM generate_series(1, 10) g;
INSERT INTO by_code_null SELECT g, 1 + g % 2, 'c' || g FROM generate_series(1, 10) g;
INSERT INTO restricted SELECT g, g FROM generate_series(9, 10) g;

-- name: column_list
CREATE TABLE parents(tenant_id int REFERENCES tenants, id int, PRIMARY KEY (tenant_id, id));
CREATE TABLE children(tenant_id int NOT NULL REFERENCES tenants, id int, parent int, PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, parent) REFERENCES parents ON DELETE SET NULL (parent));
INSERT INTO parents SELECT t, g FROM generate_series(1, 2) t, generate_series(1, 3) g;
INSERT INTO children SELECT t, g, g FROM generate_series(1, 2) t, generate_series(1, 3) g;

-- name: keys_travel
CREATE TABLE a(code text PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants);
CREATE TABLE b(a text NOT NULL REFERENCES a ON UPDATE CASCADE, n int, PRIMARY KEY (a, n));
CREATE TABLE c(a text, n int, m int, PRIMARY KEY (a, n, m), FOREIGN KEY (a, n) REFERENCES b ON UPDATE CASCADE ON DELETE CASCADE);
INSERT INTO a SELECT 'a' || g, 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO b SELECT 'a' || g, n FROM generate_series(1, 4) g, generate_series(1, 2) n;
INSERT INTO c SELECT a, n, 1 FROM b;

-- name: shared
CREATE TABLE plans(id int PRIMARY KEY, name text);
CREATE TABLE plan_options(id int PRIMARY KEY, plan int REFERENCES plans ON DELETE CASCADE);
CREATE TABLE subscriptions(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, plan int REFERENCES plans ON DELETE CASCADE);
INSERT INTO plans VALUES (1, 'a'), (2, 'b');
INSERT INTO plan_options VALUES (1, 1), (2, 2);
INSERT INTO subscriptions SELECT g, 1 + g % 2, 1 + g / 2 % 2 FROM generate_series(1, 4) g;

-- name: partitioned
CREATE TABLE sales(id int NOT NULL, tenant_id int NOT NULL REFERENCES tenants, day date NOT NULL, amount numeric, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE sales_2023 PARTITION OF sales FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE sales_2024 PARTITION OF sales FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY RANGE (day);
CREATE TABLE sales_2024_early PARTITION OF sales_2024 FOR VALUES FROM ('2024-01-01') TO ('2024-04-01');
CREATE TABLE sales_2024_rest PARTITION OF sales_2024 DEFAULT;
CREATE TABLE sales_later PARTITION OF sales DEFAULT;
CREATE TABLE parts(id int PRIMARY KEY, sale int, day date, n int, FOREIGN KEY (sale, day) REFERENCES sales ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE clicks(tenant_id int NOT NULL REFERENCES tenants, at date NOT NULL, n int) PARTITION BY HASH (n);
CREATE TABLE clicks_0 PARTITION OF clicks FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE clicks_1 PARTITION OF clicks FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE day_sums(tenant_id int NOT NULL REFERENCES tenants, day date, total numeric, PRIMARY KEY (tenant_id, day)) PARTITION BY HASH (tenant_id);
CREATE TABLE day_sums_0 PARTITION OF day_sums FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE day_sums_1 PARTITION OF day_sums FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO sales SELECT g, 1 + g % 2, date '2023-06-01' + g * 60, g FROM generate_series(1, 20) g;
INSERT INTO parts SELECT g, g, date '2023-06-01' + g * 60, g FROM generate_series(1, 20) g;
INSERT INTO clicks SELECT 1 + g % 2, '2024-01-01', g / 2 FROM generate_series(1, 12) g;
INSERT INTO day_sums SELECT tenant_id, day, amount FROM sales;
CREATE FUNCTION sum_day() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO clicks VALUES (NEW.tenant_id, NEW.day, 1);
  UPDATE day_sums_0 SET total = total + 1000 WHERE tenant_id = NEW.tenant_id AND day = NEW.day;
  UPDATE day_sums_1 SET total = total + 1000 WHERE tenant_id = NEW.tenant_id AND day = NEW.day; RETURN NULL; END $$;
CREATE TRIGGER sum_day AFTER UPDATE ON sales FOR EACH ROW WHEN (NEW.amount <> OLD.amount) EXECUTE FUNCTION sum_day();
