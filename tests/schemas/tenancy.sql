-- How tenants are found in real schemas: hops, several paths, shared rows, spellings, rows for everybody.

-- name: hops
CREATE TABLE l1(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants);
CREATE TABLE l2(id int PRIMARY KEY, up int NOT NULL REFERENCES l1);
CREATE TABLE l3(id int PRIMARY KEY, up int NOT NULL REFERENCES l2);
CREATE TABLE l4(id int PRIMARY KEY, up int NOT NULL REFERENCES l3, n int);
CREATE TABLE settings(id int PRIMARY KEY, colour text);
ALTER TABLE l1 ADD settings int REFERENCES settings;
INSERT INTO settings SELECT g, 'red' FROM generate_series(1, 6) g;
INSERT INTO l1 SELECT g, 1 + g % 2, g FROM generate_series(1, 4) g;
INSERT INTO l2 SELECT g, 1 + g % 4 FROM generate_series(1, 8) g;
INSERT INTO l3 SELECT g, 1 + g % 8 FROM generate_series(1, 16) g;
INSERT INTO l4 SELECT g, 1 + g % 16, 0 FROM generate_series(1, 32) g;

-- name: paths
CREATE TABLE invoices(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants);
CREATE TABLE charges(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants);
CREATE TABLE fees(id int PRIMARY KEY, invoice int REFERENCES invoices, charge int REFERENCES charges, n int);
INSERT INTO invoices SELECT g, 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO charges SELECT g, 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO fees VALUES (1, 2, NULL, 0), (2, NULL, 2, 0), (3, 2, 4, 0), (4, 1, NULL, 0), (5, 2, 1, 0), (6, NULL, NULL, 0);

-- name: shared_rows
CREATE TABLE users(id int PRIMARY KEY, name text);
CREATE TABLE members(tenant_id int REFERENCES tenants, user_id int REFERENCES users, role text, PRIMARY KEY (tenant_id, user_id));
CREATE TABLE tags(id int PRIMARY KEY, owner int REFERENCES users, label text);
INSERT INTO users SELECT g, 'u' || g FROM generate_series(1, 6) g;
INSERT INTO members SELECT t, u, 'x' FROM generate_series(1, 2) t, generate_series(1, 6) u WHERE u % 2 = t % 2 OR u = 6;
INSERT INTO tags SELECT g, g, 't' FROM generate_series(1, 6) g;

-- name: spellings
CREATE TABLE a(id int PRIMARY KEY, tenant_id int NOT NULL, n int);
CREATE TABLE b(id int PRIMARY KEY, "tenantId" int NOT NULL, n int);
CREATE TABLE roles(id int PRIMARY KEY, tenant_id int, label text);
CREATE TABLE grants(id int PRIMARY KEY, tenant_id int NOT NULL, role int REFERENCES roles);
INSERT INTO a SELECT g, 1 + g % 2, 0 FROM generate_series(1, 4) g;
INSERT INTO b SELECT g, 1 + g % 2, 0 FROM generate_series(1, 4) g;
INSERT INTO roles VALUES (1, NULL, 'everybody''s'), (2, 1, 'mine'), (3, 2, 'theirs');
INSERT INTO grants VALUES (1, 1, 2), (2, 2, 3);

-- name: several_columns
CREATE TABLE accounts(region text, account_no int, name text, plan text DEFAULT 'basic', PRIMARY KEY (region, account_no));
CREATE TABLE orders(region text, account_no int, order_no int, n int, code text,
  PRIMARY KEY (region, account_no, order_no), UNIQUE (region, code),
  FOREIGN KEY (account_no, region) REFERENCES accounts(account_no, region) ON DELETE CASCADE);
CREATE TABLE lines(id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, region text NOT NULL, account_no int NOT NULL, order_no int NOT NULL, n int,
  FOREIGN KEY (region, account_no, order_no) REFERENCES orders ON DELETE CASCADE);
CREATE TABLE notes(id int PRIMARY KEY, region text, account_no int, body text, FOREIGN KEY (region, account_no) REFERENCES accounts);
CREATE TABLE links(id int PRIMARY KEY, r text, a int, n int);
INSERT INTO accounts VALUES ('eu', 1, 'Acme'), ('us', 1, 'Globex'), ('eu', 2, 'Initech'), ('e"u, \ü', 1, 'Odd');
INSERT INTO orders SELECT region, account_no, g, 0, account_no || '-' || g FROM accounts, generate_series(1, 2) g;
INSERT INTO lines(region, account_no, order_no, n) SELECT region, account_no, order_no, 0 FROM orders, generate_series(1, 2);
INSERT INTO notes SELECT row_number() OVER (ORDER BY region, account_no), region, account_no, 'x' FROM accounts;
INSERT INTO notes VALUES (90, 'eu', NULL, 'nobody''s'), (91, NULL, 1, 'nobody''s');
INSERT INTO links SELECT row_number() OVER (ORDER BY region, account_no), region, account_no, 0 FROM accounts;
