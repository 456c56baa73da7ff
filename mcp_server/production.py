"""Production as the desk sees it: the reader's connection, the fence of today's schema version, the tenants.

The fence is rebuilt when the catalog's fingerprint changes; nothing here can write.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from mcp_server.errors import ConfigurationInvalid
from mcp_server.views import TenantHit
from shadow.catalog import read_catalog, read_fingerprint
from shadow.errors import SandboxUnavailable, TenantNotFound
from shadow.fence import Fence, FenceRules, build_fence
from shadow.links import FenceInvalid
from shadow.owners import owners
from shadow.predicate import base
from shadow.probe import Wall, probe_fence, probe_reader, probe_receipts, require
from shadow.session import connect
from shadow.snapshot import look
from shadow.tenant_key import key_text

#: Those of the keys that somebody may see.
Seen = Callable[[Sequence[str]], frozenset[str]]
#: Connections kept for short reads, beside those that somebody reads with.
_KEPT = 4
#: Tenants read at once where not every one of them may be shown.
_PAGE = 200


@dataclass(frozen=True, kw_only=True)
class ProductionSettings:
    """Where production is and how its tenancy looks; `applier_url` only where confirmations are replayed."""

    reader_url: str
    rules: FenceRules
    applier_url: str | None = None
    search_path: tuple[str, ...] = field(default=("public",))


class Production:
    """Reads production as `shadowdesk_reader`."""

    def __init__(self, settings: ProductionSettings, *, probed: bool = True) -> None:
        """`probed`: the walls are tried whenever a schema version is met for the first time; nothing starts without."""
        self.settings = settings
        self._probed = probed
        self._lock = threading.Lock()
        self._fence: Fence | None = None
        self._looked = -math.inf
        self._keeping = threading.Lock()
        self._spare: list[psycopg.Connection[tuple[object, ...]]] = []
        self._kept: list[psycopg.Connection[tuple[object, ...]]] = []

    def reader(self) -> psycopg.Connection[tuple[object, ...]]:
        """A fresh reader connection; SandboxUnavailable's sentences say when there is none to be had."""
        try:
            return connect(self.settings.reader_url, self.settings.search_path, application="shadowdesk reader")
        except psycopg.Error:  # a ProgrammingError where the URL itself cannot be read
            raise SandboxUnavailable(
                "Production could not be reached as the reader.",
                "Nothing was read and nothing was changed.",
                "Run `shadowdesk doctor`: it names the URL, the role and the mend.",
            ) from None

    def open_reader(self, application: str) -> psycopg.Connection[tuple[object, ...]]:
        """A reader connection of the caller's own under this name, one that was kept open if there is one.

        Raises SandboxUnavailable as `reader` does.
        """
        conn = None
        with self._keeping:
            while self._spare and conn is None:
                conn = self._spare.pop()
                conn = conn if _answers(conn) else None
        conn = conn or self.reader()
        conn.execute("SELECT set_config('application_name', %s, false)", (application,))
        return conn

    def spare(self, wanted: int) -> None:
        """Keeps that many connections open for `open_reader`, which have looked at the catalog as a snapshot does.

        Raises SandboxUnavailable.
        """
        while len(self._spare) < wanted:
            conn = self.reader()
            try:
                look(conn, self.settings.search_path)
            except BaseException:
                conn.close()
                raise
            with self._keeping:
                self._spare.append(conn)

    @contextmanager
    def reading(self) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """A reader connection for one short read, kept for the next: every call asks for the schema version.

        Raises SandboxUnavailable as `reader` does. Whoever changes settings or opens a transaction takes `reader`.
        """
        conn = None
        with self._keeping:
            while self._kept and conn is None:
                conn = self._kept.pop()
                conn = conn if _answers(conn) else None
        if conn is None:
            conn = self.reader()
            conn.prepare_threshold = 2  # the schema version is asked with every call, in our own words
        try:
            yield conn
        except BaseException:
            conn.close()
            raise
        with self._keeping:
            keep = len(self._kept) < _KEPT
            if keep:
                self._kept.append(conn)
        if not keep:
            conn.close()

    def close(self) -> None:
        """Closes the kept connections; a later read opens one again."""
        with self._keeping:
            kept, self._kept, self._spare = [*self._kept, *self._spare], [], []
        for conn in kept:
            conn.close()

    def fingerprint(self) -> str:
        """The present schema version."""
        with self.reading() as conn:
            return read_fingerprint(conn, self.settings.search_path)

    def fence(self) -> Fence:
        """The fence of production's present schema version. Raises ConfigurationInvalid when the rules do not fit,
        WallMissing when a probe of a schema version that is new to this process found that production is not safe.

        Those who ask at once share one look, which must have begun after each of them asked.
        """
        asked = time.monotonic()
        with self._lock:
            if self._fence is not None and self._looked > asked:
                return self._fence
            looked = time.monotonic()
            fence = self._present()
            self._looked = looked
            return fence

    def _present(self) -> Fence:
        with self.reading() as conn:
            fingerprint = read_fingerprint(conn, self.settings.search_path)
            if self._fence is None or self._fence.catalog.fingerprint != fingerprint:
                fence = self._built(conn)
                if self._probed:
                    require(self._walls(conn, fence), "production")
                self._fence = fence
            return self._fence

    def _built(self, conn: psycopg.Connection[tuple[object, ...]]) -> Fence:
        try:
            return build_fence(read_catalog(conn, self.settings.search_path), self.settings.rules)
        except FenceInvalid as error:
            raise ConfigurationInvalid(
                str(error),
                "Nothing was started.",
                "Correct shadowdesk.toml; `shadowdesk fence` shows the result.",
            ) from None

    def walls(self) -> list[Wall]:
        """Every wall on production, tried with the credentials that this process has."""
        fence = self.fence()
        with self.reading() as conn:
            return list(self._walls(conn, fence))

    def _walls(self, reader: psycopg.Connection[tuple[object, ...]], fence: Fence) -> Iterator[Wall]:
        yield from probe_reader(reader, fence)
        if self.settings.applier_url is None:
            return
        with self._applier(self.settings.applier_url) as applier:
            yield from probe_fence(applier)
            yield from probe_receipts(applier)

    def _applier(self, url: str) -> psycopg.Connection[tuple[object, ...]]:
        try:
            return connect(url, self.settings.search_path, application="shadowdesk probe")
        except psycopg.Error:
            raise SandboxUnavailable(
                "Production could not be reached as the applier, so its walls could not be tried.",
                "Nothing was read and nothing was changed.",
                "Run `shadowdesk doctor`: it names the URL, the role and the mend.",
            ) from None

    def find_tenants(
        self, text: str, limit: int, seen: Seen | None = None, *, fence: Fence | None = None
    ) -> list[TenantHit]:
        """Tenants whose key equals `text` or whose label contains it, at most `limit` of those that `seen` lets by."""
        fence = fence or self.fence()
        table, key = base(fence.tables[fence.root]), key_text(fence.key)
        label = sql.SQL("{}::text").format(sql.Identifier(fence.label)) if fence.label else key
        pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        found: list[TenantHit] = []
        offset, page = 0, limit if seen is None else max(limit, _PAGE)
        # literals and no parameters, as everywhere beside names: a per cent sign in a name is nothing but itself
        query = sql.SQL(
            "SELECT {key}, {label} FROM {table} WHERE {key} = {text} OR {label} ILIKE {pattern}"
            " ORDER BY ({key} = {text}) DESC, {order}, {key} LIMIT {limit} OFFSET "
        ).format(
            key=key, label=label, table=table, order=sql.Identifier(fence.label or fence.key[0]), text=text,
            pattern=pattern, limit=page,
        )  # fmt: skip
        with self.reading() as conn:
            while len(found) < limit:
                rows = conn.execute(query + sql.Literal(offset)).fetchall()
                hits = [TenantHit(key=str(key), label=str(label)) for key, label in rows]
                allowed = frozenset(hit.key for hit in hits) if seen is None else seen([hit.key for hit in hits])
                found += [hit for hit in hits if hit.key in allowed]
                offset += page
                if len(rows) < page:
                    break
        return found[:limit]

    def tenant(self, key: str, fence: Fence | None = None) -> TenantHit:
        """The tenant with exactly this key. Raises TenantNotFound. `fence`: the one just looked up, if it was."""
        for hit in self.find_tenants(key, 2, fence=fence) if key else []:
            if hit.key == key:
                return hit
        raise TenantNotFound(
            "There is no tenant with that key.",
            "No dry run was started.",
            "Look the key up with find_tenant and use it as it is written there.",
        )

    def tenant_of(self, source: str, value: str) -> str:
        """The tenant that owns the row named by `source` (`contracts.id`) and `value`; a domain tool's declaration.

        Raises TenantNotFound when no row has that value; what another tenant's row holds is never told.
        """
        fence = self.fence()
        table_name, _, column = source.partition(".")
        table = fence.tables.get(table_name)
        if table is None or not table.owned or column not in {c.name for c in table.table.columns}:
            raise ConfigurationInvalid(
                f"tenant_from {source!r} does not name a column of a tenant's table.",
                "Nothing ran.",
                "Correct the tool.",
            )
        found = self._owner(fence, table_name, column, value)
        if found is None:
            raise TenantNotFound(
                f"No tenant has a row in {table_name} with that {column}.",
                "No dry run was started.",
                "Check the value, or start a dry run for the tenant first.",
            )
        return found

    def _owner(self, fence: Fence, table_name: str, column: str, value: str) -> str | None:
        """The one tenant that the rows with this value lead to; None when there is none, or more than one."""
        table = fence.tables[table_name]
        query = sql.SQL(
            "SELECT DISTINCT o.owner FROM {} AS t CROSS JOIN LATERAL ({}) AS o WHERE {} = {}::{} LIMIT 2"
        ).format(
            base(table), owners(fence, table, "t"), sql.Identifier("t", column), value,
            sql.SQL(table.table.column(column).type),
        )  # fmt: skip
        with self.reading() as conn:
            try:
                rows = conn.execute(query).fetchall()
            except psycopg.errors.DataError:
                return None
        return str(rows[0][0]) if len(rows) == 1 else None


def _answers(conn: psycopg.Connection[tuple[object, ...]]) -> bool:
    try:
        conn.execute("")
    except psycopg.Error:
        conn.close()
        return False
    return True


def surface_tables(fence: Fence, named: Sequence[str] | None) -> list[str]:
    """Names on the surface, or those of `named` that are."""
    return [
        n for n, t in fence.tables.items() if t.surface and t.fence_class != "outside" and (named is None or n in named)
    ]
