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
    """A foreign key of a generated table: its columns, the parent, and what follows REFERENCES.

    `group` is there where the key has two columns, (grp, id) of the parent.
    """

    column: str
    group: str | None
    parent: "Made"
    action: str
    not_null: bool

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.group, self.column) if self.group else (self.column,)

    def on(self, parent: str, child: str) -> str:
        """The child's row points at the parent's."""
        first = f"{parent}.grp = {child}.{self.group} AND " if self.group else ""
        return f"{first}{parent}.id = {child}.{self.column}"

    def to(self, n: int) -> tuple[str, ...]:
        """The literals that point at the parent's row n."""
        return (self.parent.group(n), self.parent.id(n)) if self.group else (self.parent.id(n),)

    def null(self, child: str) -> str:
        return " OR ".join(f"{child}.{column} IS NULL" for column in self.columns)

    def create(self) -> str:
        null = " NOT NULL" if self.not_null else ""
        group = f"{self.group} int{null}, " if self.group else ""
        reference = f"REFERENCES {self.parent.quoted}({'grp, ' if self.group else ''}id) {self.action}"
        if not self.group:
            return f"{self.column} {self.parent.key_type}{null} {reference}"
        return (
            f"{group}{self.column} {self.parent.key_type}{null}, FOREIGN KEY ({self.group}, {self.column}) {reference}"
        )


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

    def group(self, n: int) -> str:
        """The literal of row n's group, in tables whose key has one; new rows are in group 0."""
        return str(n % 3) if self.key == "pair" and n <= ROWS else "0"

    @property
    def grouped(self) -> bool:
        """The key is (grp, id); in a `wide` one the id alone is unique as well."""
        return self.key in ("wide", "pair")

    @property
    def key_type(self) -> str:
        return "text" if self.key == "text" else "int"

    def mine(self, alias: str) -> str:
        """Tenant 1's rows, in plain words of SQL."""
        if self.direct:
            own = f"{alias}.tenant_id = 1"
        else:
            own = " OR ".join(self._under(alias, link) for link in self.links)
        checks = [f"({link.null(alias)} OR {self._under(alias, link)})" for link in self.links]
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
        return f"EXISTS (SELECT FROM {link.parent.quoted} {inner} WHERE {link.on(inner, alias)} AND {link.parent._plainly(inner)})"

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
        if self.grouped:
            alone = ", UNIQUE (id)" if self.key == "wide" else ""
            columns.append(f"grp int NOT NULL DEFAULT 0, PRIMARY KEY (grp, id){alone}")
        elif self.key != "none":
            columns.append("PRIMARY KEY (id)")
        columns.extend(link.create() for link in self.links)
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
            *(["grp"] if self.grouped else []),
            *(column for link in self.links for column in link.columns),
            *(["up"] if self.itself else []),
        ]
        rows = []
        for n in range(1, ROWS + 1):
            parents = [one for place, link in enumerate(self.links) for one in link.to((n + 1 + 2 * place) % ROWS + 1)]
            own = [*([str(1 + n % 2)] if self.direct else []), *([self.group(n)] if self.grouped else [])]
            itself = [self.id(n - 2) if n > 2 else "NULL"] if self.itself else []
            rows.append(", ".join([self.id(n), str(n), f"'t{n}'", *own, *parents, *itself]))
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
                "IF TG_OP = 'DELETE' THEN y := OLD; ELSE y := NEW; END IF;"
                f" UPDATE {link.parent.quoted} p SET hits = coalesce(p.hits, 0) + 1 WHERE {link.on('p', 'y')}; RETURN NULL;"
                if link
                else "RETURN NULL;"
            ),
        }
        name = quoted(f"{self.name} {kind}")
        return (
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $f$ DECLARE y record; BEGIN {does[kind]} END $f$;"
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
            both = parent.key == "pair" or (parent.key == "wide" and draw(st.booleans()))
            column, group = f"p{place}", f"g{place}" if both else None
            nulls = ("ON DELETE SET NULL", *((f"ON DELETE SET NULL ({column})",) if both else ())) if null else ()
            delete = draw(st.sampled_from(("", "ON DELETE CASCADE", *nulls)))
            update = draw(st.sampled_from(("", "ON UPDATE CASCADE")))
            wait = draw(st.sampled_from(("", "", "DEFERRABLE INITIALLY DEFERRED", "DEFERRABLE")))
            action = f"{delete} {update} {wait}"
            links.append(Link(column=column, group=group, parent=parent, action=action, not_null=not null))
        key = draw(st.sampled_from(("int", "int", "text", "wide", "pair", "serial", "none")))
        made.append(
            Made(
                name=name, key=key, direct=direct, links=tuple(links), extra=draw(st.sampled_from(sorted(TYPES))),
                partitioned=draw(st.booleans()) and key != "none", itself=key not in ("none", "pair") and draw(st.booleans()),
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
        st.sampled_from(
            ("set", "set", "insert", "insert", "delete", "copy", "rekey", "group", "move", "null", "from", "itself")
        )
    )
    fenced = f"{some} AND {table.mine('x')}"
    if kind == "insert":
        return _insert(draw, table, 100 + number, extra)
    if kind == "delete":
        return Edit(f"DELETE FROM {of} AS x WHERE {some}", f"DELETE FROM {of} AS x WHERE {fenced}")
    if kind == "copy" and table.key in ("int", "wide", "pair"):
        linked = [column for link in table.links for column in link.columns]
        names = ["t", "extra", *(["tenant_id"] if table.direct else []), *linked]
        listed = ", ".join(names)
        head = f"INSERT INTO {of}(id, n, {listed}) SELECT x.id + {1000 * (number + 1)}, x.n + 1000, {', '.join('x.' + c for c in names)} FROM {of} AS x WHERE "
        return Edit(f"{head}{some} ORDER BY x.id", f"{head}{fenced} ORDER BY x.id")
    assigned = f"extra = {extra}, hits = coalesce(hits, 0) + n, t = t || '!'"
    if kind == "rekey":
        assigned = f"id = id {'||' if table.key == 'text' else '+'} {table.id(5000 + number) if table.key == 'text' else 5000 + number}"
    elif kind in ("move", "null") and table.links:
        link = draw(st.sampled_from(table.links))
        to = ["NULL"] * len(link.columns) if kind == "null" else link.to(draw(st.integers(1, ROWS)))
        some_of = (
            draw(st.sampled_from((slice(None), slice(None), slice(1), slice(1, None)))) if link.group else slice(1)
        )
        assigned = ", ".join(f"{c} = {v}" for c, v in list(zip(link.columns, to, strict=True))[some_of])
    elif kind == "group" and table.grouped:
        assigned = f"grp = grp + {draw(st.integers(1, 3))}"
    elif kind == "itself" and table.itself:
        assigned = f"up = {draw(st.sampled_from(('NULL', 'id', table.id(draw(st.integers(1, ROWS))))))}"
    elif kind == "from" and table.links:
        link = table.links[0]
        head = f"UPDATE {of} AS x SET t = y.t || y.n, hits = y.hits FROM {link.parent.quoted} AS y WHERE {link.on('y', 'x')} AND "
        return Edit(head + some, f"{head}{fenced} AND {link.parent.mine('y')}")
    return Edit(f"UPDATE {of} AS x SET {assigned} WHERE {some}", f"UPDATE {of} AS x SET {assigned} WHERE {fenced}")


def _insert(draw: st.DrawFn, table: Made, n: int, extra: str) -> Edit:
    names, values = ["n", "t", "extra"], [str(n), "'new'", extra]
    if table.key != "serial":
        names.append("id")
        values.append(table.id(n))
    for link in table.links:
        names.extend(link.columns)
        values.extend(link.to(draw(st.sampled_from((2, 2, 4, 6, 1, n, n + 1)))))
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


def composite() -> tuple[tuple[Made, ...], list[list[Edit]]]:
    """A business whose foreign keys have two columns, which the suite's few made-up ones might lack."""
    plain = {"extra": "bool", "partitioned": False, "itself": False}
    orders = Made(name="t0", key="pair", direct=True, links=(), triggers=("norm",), **plain)
    by_order = Link(column="p0", group="g0", parent=orders, action="ON DELETE CASCADE ON UPDATE CASCADE", not_null=True)
    lines = Made(name="Order", key="wide", direct=False, links=(by_order,), triggers=("count",), **plain)
    loose = (
        Link(column="p0", group="g0", parent=lines, action="ON DELETE SET NULL (p0)", not_null=False),
        Link(column="p1", group="g1", parent=orders, action="ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED", not_null=False),
    )  # fmt: skip
    notes = Made(name="user", key="int", direct=True, links=loose, triggers=("log",), **plain)

    def changed(table: Made, sets: str, where: str) -> Edit:
        text = f"UPDATE {table.quoted} AS x SET {sets} WHERE {where}"
        return Edit(text, f"{text} AND {table.mine('x')}")

    def deleted(table: Made, where: str) -> Edit:
        text = f"DELETE FROM {table.quoted} AS x WHERE {where}"
        return Edit(text, f"{text} AND {table.mine('x')}")

    moved = [
        changed(orders, "grp = grp + 3", "x.n < 5"), changed(lines, "g0 = 1, p0 = 1", "x.n = 2"),
        changed(notes, "g1 = NULL", "x.n = 4"), changed(notes, "g1 = 0, p1 = 6", "x.n = 6"),
    ]  # fmt: skip
    gone = [deleted(lines, "x.n = 4"), deleted(orders, "x.n = 2"), changed(notes, "t = 'z'", "x.n > 0")]
    return (orders, lines, notes), [moved, gone]
