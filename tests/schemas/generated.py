"""Random schemas of a few tables and random edits of them, for the property that a shadow shows what production does.

Every edit comes in two texts: as a rep writes it on the shadow, and as somebody without a fence would write it on a
full copy, where the tenant's rows are picked by a condition that owes nothing to our own predicates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.schemas.judge import Cell

ROWS = 6
NAMES = ("t0", "Order", "user", 't "3"', "t%4")
TYPES = {
    "int": ("0", "7", "NULL", "-3"), "numeric(8,2)": ("1.50", "0", "NULL"), "jsonb": ("'{\"a\": [1, 2.0]}'", "'null'", "NULL"),
    "int[]": ("'{1,NULL}'", "'{}'", "NULL"), "timestamptz": ("'2024-01-01 00:00+00'", "NULL"), "bool": ("true", "NULL"),
    "daterange": ("'[2024-01-01,2024-02-01)'", "'empty'"), "bytea": ("'\\x00ff'", "NULL"), "interval": ("'1 day 00:00:01'", "NULL"),
    "mood": ("'low'", "'it''s'"), "mood[]": ("'{low,NULL}'", "'{}'"), "pair": ("'(1,\"a b\")'", "NULL"), "char(4)": ("'a'", "'ab  '"),
    "cents": ("1", "0.5"), "json": ("'{\"a\":1}'", "NULL"), "tstz": ("'2024-05-05 00:00+00'", "NULL"),
}  # fmt: skip
PRELUDE = """
CREATE TYPE mood AS ENUM ('low', 'it''s'); CREATE TYPE pair AS (n int, t text); CREATE DOMAIN cents AS numeric CHECK (VALUE >= 0);
CREATE DOMAIN tstz AS timestamptz DEFAULT now();
CREATE TABLE tenants(id int PRIMARY KEY, name text); INSERT INTO tenants VALUES (1, 'Acme'), (2, 'Globex');
CREATE TABLE log(id serial PRIMARY KEY, what text, n int, at timestamptz DEFAULT now());
"""


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, kw_only=True)
class Link:
    """A foreign key of a generated table: its column, the parent, and what follows REFERENCES."""

    column: str
    parent: "Made"
    action: str
    not_null: bool


@dataclass(frozen=True, kw_only=True)
class Made:
    """One generated table. Row n of every table is tenant 1 + n % 2's, and so are the rows it points at."""

    name: str
    key: str
    direct: bool
    links: tuple[Link, ...]
    extra: str
    partitioned: bool
    triggers: tuple[str, ...]
    itself: bool

    @property
    def quoted(self) -> str:
        return quoted(self.name)

    def id(self, n: int) -> str:
        """The literal of row n's key."""
        return f"'k{n}'" if self.key == "text" else str(n)

    @property
    def key_type(self) -> str:
        return "text" if self.key == "text" else "int"

    def mine(self, alias: str) -> str:
        """Tenant 1's rows, in plain words of SQL."""
        if self.direct:
            own = f"{alias}.tenant_id = 1"
        else:
            own = " OR ".join(self._under(alias, link) for link in self.links)
        checks = [f"({alias}.{link.column} IS NULL OR {self._under(alias, link)})" for link in self.links]
        if self.itself:
            checks.append(
                f"({alias}.up IS NULL OR EXISTS (SELECT FROM {self.quoted} z WHERE z.id = {alias}.up AND {self._plainly('z')}))"
            )
        return " AND ".join([f"({own})", *checks])

    def _plainly(self, alias: str) -> str:
        """Membership alone, as a link looks at its parent."""
        if self.direct:
            return f"{alias}.tenant_id = 1"
        return "(" + " OR ".join(self._under(alias, link) for link in self.links) + ")"

    def _under(self, alias: str, link: Link) -> str:
        inner = alias + "p"
        return f"EXISTS (SELECT FROM {link.parent.quoted} {inner} WHERE {inner}.id = {alias}.{link.column} AND {link.parent._plainly(inner)})"

    @property
    def drawn(self) -> Sequence[Cell]:
        return ((f"public.{self.name}", "id"),) if self.key == "serial" else ()

    def create(self) -> str:
        """DDL, triggers, then the rows."""
        columns = [
            f"id {'serial' if self.key == 'serial' else self.key_type} NOT NULL",
            "n int",
            "t text",
            "hits int",
            "at timestamptz",
            f"extra {self.extra}",
        ]
        if self.direct:
            columns.append("tenant_id int NOT NULL REFERENCES tenants")
        if self.key == "wide":
            columns.append("grp int NOT NULL DEFAULT 0, PRIMARY KEY (grp, id), UNIQUE (id)")
        elif self.key != "none":
            columns.append("PRIMARY KEY (id)")
        for link in self.links:
            null = " NOT NULL" if link.not_null else ""
            columns.append(
                f"{link.column} {link.parent.key_type}{null} REFERENCES {link.parent.quoted}(id) {link.action}"
            )
        if self.itself:
            columns.append(f"up {self.key_type} REFERENCES {self.quoted}(id) ON DELETE SET NULL")
        made = f"CREATE TABLE {self.quoted}({', '.join(columns)})"
        if self.partitioned:
            parts = "".join(
                f"CREATE TABLE {quoted(f'{self.name}_{r}')} PARTITION OF {self.quoted} FOR VALUES WITH (MODULUS 2, REMAINDER {r});"
                for r in (0, 1)
            )
            made += f" PARTITION BY HASH (id); {parts}"
        return made + ";" + self._rows() + "".join(self._trigger(kind) for kind in self.triggers)

    def _rows(self) -> str:
        names = [
            "id",
            "n",
            "t",
            *(["tenant_id"] if self.direct else []),
            *(link.column for link in self.links),
            *(["up"] if self.itself else []),
        ]
        rows = []
        for n in range(1, ROWS + 1):
            parents = [link.parent.id((n + 1 + 2 * place) % ROWS + 1) for place, link in enumerate(self.links)]
            itself = [self.id(n - 2) if n > 2 else "NULL"] if self.itself else []
            rows.append(
                ", ".join(
                    [self.id(n), str(n), f"'t{n}'", *([str(1 + n % 2)] if self.direct else []), *parents, *itself]
                )
            )
        fill = f"INSERT INTO {self.quoted}({', '.join(names)}) VALUES " + ", ".join(f"({row})" for row in rows) + ";"
        return fill + (
            f"SELECT setval(pg_get_serial_sequence('{self.quoted}', 'id'), 50);" if self.key == "serial" else ""
        )

    def _trigger(self, kind: str) -> str:
        link = self.links[0] if self.links else None
        bodies = {
            "norm": "BEFORE INSERT OR UPDATE", "log": "AFTER UPDATE OR DELETE", "count": "AFTER INSERT OR DELETE",
        }  # fmt: skip
        does = {
            "norm": "NEW.t := upper(NEW.t); NEW.at := now(); RETURN NEW;",
            "log": "INSERT INTO log(what, n) VALUES (TG_OP, coalesce(NEW.n, OLD.n)); RETURN NULL;",
            "count": (
                f"UPDATE {link.parent.quoted} p SET hits = coalesce(p.hits, 0) + 1 WHERE p.id = coalesce(NEW.{link.column}, OLD.{link.column}); RETURN NULL;"
                if link
                else "RETURN NULL;"
            ),
        }
        name = quoted(f"{self.name} {kind}")
        return (
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN {does[kind]} END $f$;"
            f"CREATE TRIGGER {name} {bodies[kind]} ON {self.quoted} FOR EACH ROW EXECUTE FUNCTION {name}();"
        )


@st.composite
def tables(draw: st.DrawFn) -> tuple[Made, ...]:
    """Two to five tables, every one the tenant's, parents first."""
    made: list[Made] = []
    for name in NAMES[: draw(st.integers(2, len(NAMES)))]:
        possible = [table for table in made if table.key != "none"]
        direct = not possible or draw(st.booleans())
        parents = (
            draw(
                st.lists(st.sampled_from(possible), min_size=0 if direct else 1, max_size=2, unique_by=lambda t: t.name)
            )
            if possible
            else []
        )
        links = []
        for place, parent in enumerate(parents):
            null = draw(st.booleans())
            delete = draw(st.sampled_from(("", "ON DELETE CASCADE", *(("ON DELETE SET NULL",) if null else ()))))
            update = draw(st.sampled_from(("", "ON UPDATE CASCADE")))
            wait = draw(st.sampled_from(("", "", "DEFERRABLE INITIALLY DEFERRED", "DEFERRABLE")))
            links.append(Link(column=f"p{place}", parent=parent, action=f"{delete} {update} {wait}", not_null=not null))
        key = draw(st.sampled_from(("int", "int", "text", "wide", "serial", "none")))
        made.append(
            Made(
                name=name, key=key, direct=direct, links=tuple(links), extra=draw(st.sampled_from(sorted(TYPES))),
                partitioned=draw(st.booleans()) and key != "none", itself=key not in ("none",) and draw(st.booleans()),
                triggers=tuple(draw(st.lists(st.sampled_from(("norm", "log", "count")), unique=True, max_size=2))),
            )
        )  # fmt: skip
    return tuple(made)


@dataclass(frozen=True)
class Edit:
    """One statement for the shadow, and what it means on a full copy."""

    text: str
    plain: str


@st.composite
def edit(draw: st.DrawFn, made: tuple[Made, ...], number: int) -> Edit:
    """One edit; `number` makes new keys new."""
    table = draw(st.sampled_from(made))
    of = table.quoted
    some = f"x.n % {draw(st.integers(2, 4))} = {draw(st.integers(0, 2))}"
    extra = draw(st.sampled_from(TYPES[table.extra]))
    kind = draw(
        st.sampled_from(("set", "set", "insert", "insert", "delete", "copy", "rekey", "move", "null", "from", "itself"))
    )
    fenced = f"{some} AND {table.mine('x')}"
    if kind == "insert":
        return _insert(draw, table, 100 + number, extra)
    if kind == "delete":
        return Edit(f"DELETE FROM {of} AS x WHERE {some}", f"DELETE FROM {of} AS x WHERE {fenced}")
    if kind == "copy" and table.key in ("int", "wide"):
        names = ["t", "extra", *(["tenant_id"] if table.direct else []), *(link.column for link in table.links)]
        listed = ", ".join(names)
        head = f"INSERT INTO {of}(id, n, {listed}) SELECT x.id + {1000 * (number + 1)}, x.n + 1000, {', '.join('x.' + c for c in names)} FROM {of} AS x WHERE "
        return Edit(f"{head}{some} ORDER BY x.id", f"{head}{fenced} ORDER BY x.id")
    assigned = f"extra = {extra}, hits = coalesce(hits, 0) + n, t = t || '!'"
    if kind == "rekey":
        assigned = f"id = id {'||' if table.key == 'text' else '+'} {table.id(5000 + number) if table.key == 'text' else 5000 + number}"
    elif kind in ("move", "null") and table.links:
        link = draw(st.sampled_from(table.links))
        assigned = f"{link.column} = {'NULL' if kind == 'null' else link.parent.id(draw(st.integers(1, ROWS)))}"
    elif kind == "itself" and table.itself:
        assigned = f"up = {draw(st.sampled_from(('NULL', 'id', table.id(draw(st.integers(1, ROWS))))))}"
    elif kind == "from" and table.links:
        link = table.links[0]
        head = f"UPDATE {of} AS x SET t = y.t || y.n, hits = y.hits FROM {link.parent.quoted} AS y WHERE y.id = x.{link.column} AND "
        return Edit(head + some, f"{head}{fenced} AND {link.parent.mine('y')}")
    return Edit(f"UPDATE {of} AS x SET {assigned} WHERE {some}", f"UPDATE {of} AS x SET {assigned} WHERE {fenced}")


def _insert(draw: st.DrawFn, table: Made, n: int, extra: str) -> Edit:
    names, values = ["n", "t", "extra"], [str(n), "'new'", extra]
    if table.key != "serial":
        names.append("id")
        values.append(table.id(n))
    for link in table.links:
        names.append(link.column)
        values.append(link.parent.id(draw(st.sampled_from((2, 2, 4, 6, 1, n, n + 1)))))
    plain_names, plain_values = list(names), list(values)
    if table.direct:
        plain_names.append("tenant_id")
        plain_values.append("1")
    return Edit(
        f"INSERT INTO {table.quoted}({', '.join(names)}) VALUES ({', '.join(values)})",
        f"INSERT INTO {table.quoted}({', '.join(plain_names)}) VALUES ({', '.join(plain_values)})",
    )


@st.composite
def businesses(draw: st.DrawFn) -> tuple[tuple[Made, ...], list[list[Edit]]]:
    """A schema and up to three fixes of up to four edits."""
    made = draw(tables())
    fixes, number = [], 0
    for _ in range(draw(st.integers(1, 3))):
        edits = []
        for _ in range(draw(st.integers(1, 4))):
            number += 1
            edits.append(draw(edit(made, number)))
        fixes.append(edits)
    return made, fixes
