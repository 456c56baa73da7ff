"""A generated schema of a thousand tables: each hangs below the tenant by foreign keys, some refer to shared tables.

Used by a test and by `tests/benchmarks/wide.py`; the same number of tables gives the same schema every time.
"""

from collections.abc import Iterator

#: Every so many tables hang directly below the tenant; the others below the table `_FAN` times nearer.
_FAN = 4
_SHARED = 25


def wide_statements(tables: int = 1000, rows: int = 5) -> Iterator[str]:
    """SQL of `tables` tables beside `tenants`, with `rows` rows of each of two tenants in each of them.

    In parts that each take few locks: one transaction for all would need more than a server has by default.
    """
    yield "CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL); INSERT INTO tenants VALUES (1,'a'),(2,'b');"
    shared = max(1, tables // _SHARED)
    for n in range(shared):
        yield f"CREATE TABLE s{n}(id int PRIMARY KEY, name text NOT NULL UNIQUE);"
        yield f"INSERT INTO s{n} SELECT g, 'shared ' || g FROM generate_series(1, 10) g;"
    yield (
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN NEW.updated_at := now(); RETURN NEW; END$$;"
    )
    for n in range(tables - shared):
        direct = n < _FAN
        parent = "tenants" if direct else f"t{n // _FAN - 1}"
        link = "tenant_id" if direct else "parent_id"
        yield (
            f"CREATE TABLE t{n}(id int PRIMARY KEY, {link} int NOT NULL REFERENCES {parent}(id) ON DELETE CASCADE,"
            f" shared_id int REFERENCES s{n % shared}(id), amount numeric(12,2) NOT NULL DEFAULT 0, note text,"
            f" updated_at timestamptz NOT NULL DEFAULT now()); CREATE INDEX ON t{n}({link});"
        )
        owner = "g % 2 + 1" if direct else "g"
        yield (
            f"INSERT INTO t{n}(id, {link}, shared_id, amount)"
            f" SELECT g, {owner}, g % 10 + 1, g FROM generate_series(1, {2 * rows}) g;"
        )
        if n % 10 == 0:
            yield f"CREATE TRIGGER touch BEFORE UPDATE ON t{n} FOR EACH ROW EXECUTE FUNCTION touch();"
