"""Open shadows of this process, one per dry run; rebuilt from the recorded statements when a sandbox lost one.

Used by the desk only. A shadow made by another replica is attached to as long as it lives.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from mcp_server.production import Production
from mcp_server.ready import Ready
from shadow.errors import QuotaExceeded, SandboxUnavailable, ShadowExpired
from shadow.fence import Fence
from shadow.mirror import check_apart, ensure_mirror
from shadow.preparing import Connected, prepare_surface
from shadow.probe import probe_role, require
from shadow.sandbox import Sandbox
from shadow.session import connect
from shadow.shadow import Shadow, gone
from shadow.snapshot import Snapshot
from shadow.turns import Turns

logger = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
#: Seconds for which production's schema is taken to be the one last seen; a replay looks again in any case.
_SCHEMA_S = 5.0
#: The pool is filled when nobody has started a dry run for so long, or after so much patience (seconds).
_GAP_S, _PATIENCE_S = 0.2, 2.0
#: Seconds that one waits for those who load rows before them.
_LOAD_PATIENCE_S = 1.0
#: Readers of production kept open beside one for each ready shadow's snapshot: for the first rows.
_READERS = 1


@dataclass(frozen=True, kw_only=True)
class ShadowSettings:
    """Pool size, shadows kept connected, starts at once and how long one more waits (seconds), how long a snapshot is
    held (seconds), how large a shadow may be (bytes).
    """

    pool: int = 2
    max_open: int = 24
    max_starting: int = 8
    start_wait_s: float = 120.0
    snapshot_max_s: float = 600.0
    max_bytes: int = 2 << 30


@contextmanager
def reaching() -> Iterator[None]:
    """Says in words that a server is not there: a driver's text names hosts and may hold values."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is not None and not isinstance(error, psycopg.OperationalError):
            raise  # an answer of a server that is there; without SQLSTATE it is a URL that libpq cannot read
        raise SandboxUnavailable(
            "The sandbox, or production for the rows of a shadow, could not be reached.",
            "No step was kept and production was not changed.",
            "Ask the operator to run `shadowdesk doctor`, then try again.",
        ) from None


def let_go(shadow: Shadow) -> None:
    """Closes the shadow's connections and the snapshot it holds on production."""
    shadow.close()
    if shadow.snapshot is not None:
        shadow.snapshot.close()


def _outdated() -> ShadowExpired:
    return ShadowExpired(
        "Production's schema changed since the dry run's shadow was made.",
        "Nothing was changed anywhere; the recorded statements are kept.",
        "Continue as before: the shadow is rebuilt on the new schema, or start a new dry run.",
    )


class Shadows:
    """Takes shadows from the sandbox and keeps them open for their dry runs."""

    def __init__(
        self,
        production: Production,
        sandbox: Sandbox,
        bin_dir: Path,
        settings: ShadowSettings,
    ) -> None:
        self._production = production
        self._sandbox = sandbox
        self.bin_dir = bin_dir
        self._settings = settings
        self._lock = threading.Lock()
        self._turns = Turns(max(2, os.cpu_count() or 2), _LOAD_PATIENCE_S)
        self._starting = threading.BoundedSemaphore(settings.max_starting)
        self._open: dict[str, Shadow] = {}
        self._passwords: dict[str, str] = {}
        self._filling: threading.Thread | None = None
        self._ready = Ready()
        self._started = 0.0
        self._apart = False
        self._probing = threading.Lock()
        self._probed: set[str] = set()
        self._looked: tuple[str, float] | None = None

    def warm(self) -> None:
        """Makes the mirror and fills the pool, so that the first dry run waits for neither."""
        fence = self._production.fence()
        mirror = self._mirror(fence)
        self._sandbox.reap(mirror)
        self._fill_with(mirror, fence)

    def _mirror(self, fence: Fence) -> str:
        reader_url = self._production.settings.reader_url
        with self._sandbox.admin() as admin:
            if not self._apart:
                check_apart(admin, reader_url)
                self._apart = True
            return ensure_mirror(admin, self._sandbox.admin_url, reader_url, fence, self.bin_dir)

    def start(
        self, tenant_key: str, progress: Progress | None = None, fence: Fence | None = None
    ) -> tuple[Shadow, str]:
        """A fresh shadow for one tenant and the name of its mirror; rows come on first need. `fence`: the one that the
        caller just looked up, if it did.

        Many starts at once take turns, so that neither server runs out of connections. Raises QuotaExceeded when a
        turn does not come in time, or the sandbox is full.
        """
        if not self._starting.acquire(timeout=self._settings.start_wait_s):
            raise QuotaExceeded(
                "Too many dry runs are being started at once.", "No dry run was started.", "Try again in a minute."
            )
        try:
            return self._start(tenant_key, progress, fence)
        finally:
            self._starting.release()

    @reaching()
    def _start(self, tenant_key: str, progress: Progress | None, fence: Fence | None) -> tuple[Shadow, str]:
        fence = fence or self._production.fence()
        if progress:
            progress("Preparing the mirror of production's schema", 0.2)
        mirror = self._mirror(fence)
        if progress:
            progress("Taking a shadow", 0.6)
        shadow_id, password = self._sandbox.take(mirror, self._ready.ids)
        try:
            shadow = self._prepared(shadow_id, password, fence, tenant_key)
            self._probe(shadow, password, mirror)
        except BaseException:
            # Nobody knows of it yet: it would hold its place until it expires.
            with suppress(psycopg.Error):
                self._sandbox.drop(shadow_id)
            raise
        self._started = time.monotonic()
        self._refill(mirror, fence)
        return shadow, mirror

    def _probe(self, shadow: Shadow, password: str, mirror: str) -> None:
        """Tries the walls around the first shadow of a mirror in this process; others wait. Raises WallMissing."""
        with self._probing:
            if mirror in self._probed:
                return
            try:
                require(probe_role(shadow, self._sandbox.closed_urls(shadow.id, password, mirror)), "the sandbox")
            except BaseException:
                let_go(shadow)
                raise
            self._probed.add(mirror)

    def _prepared(self, shadow_id: str, password: str, fence: Fence, tenant_key: str) -> Shadow:
        shadow = self._connect(shadow_id, password, fence, tenant_key, self._ready.take(shadow_id))
        schemas, longest = fence.catalog.schemas, self._settings.snapshot_max_s
        try:
            shadow.prepare(Snapshot.take(self._production.open_reader, schemas, max_s=longest))
        except BaseException:
            let_go(shadow)
            raise
        return shadow

    def _connect(
        self, shadow_id: str, password: str, fence: Fence, tenant_key: str, connected: Connected | None = None
    ) -> Shadow:
        return Shadow(
            shadow_id=shadow_id,
            fence=fence,
            tenant_key=tenant_key,
            owner_url=self._sandbox.owner_url(shadow_id),
            role_url=self._sandbox.role_url(shadow_id, password),
            open_reader=self._production.open_reader,
            connected=connected,
            search_path=self._production.settings.search_path,
            max_bytes=self._settings.max_bytes,
            turns=self._turns,
        )

    def keep(self, dry_run_id: str, shadow: Shadow) -> None:
        """Remembers the open shadow of a dry run; the one unused for longest is closed when there are too many."""
        with self._lock:
            self._open[dry_run_id] = shadow
            for key, other in list(self._open.items()):
                if len(self._open) <= self._settings.max_open:
                    break
                # Never one that somebody works on: it would be rebuilt.
                if other is not shadow and other.lock.acquire(blocking=False):
                    del self._open[key]
                    let_go(other)
                    other.lock.release()

    @contextmanager
    def kept_or_dropped(self, dry_run_id: str, shadow: Shadow) -> Iterator[None]:
        """Keeps the shadow while its dry run is recorded; where that fails, nobody would know of it: it is dropped."""
        self.keep(dry_run_id, shadow)
        try:
            yield
        except BaseException:
            with suppress(SandboxUnavailable):
                self.drop(dry_run_id, shadow.id)
            raise

    def get(self, dry_run_id: str, shadow_id: str | None, tenant_key: str, fingerprint: str | None) -> Shadow:
        """The dry run's shadow, opened again when this process closed it or another one made it.

        Raises ShadowExpired when it is gone, or production's schema is not the one it was made for any more.
        """
        with reaching():
            password = self._sandbox.password(shadow_id) if shadow_id else None
        if shadow_id is None or password is None:
            self.forget(dry_run_id)
            raise gone()
        if self._schema() not in (None, fingerprint):
            raise _outdated()
        with self._lock:
            shadow = self._open.pop(dry_run_id, None)
            # Another process may have rebuilt it under another id.
            if shadow is not None and shadow.id == shadow_id and not shadow.closed:
                self._open[dry_run_id] = shadow  # last again: used most recently
                return shadow
        if shadow is not None:
            let_go(shadow)
        fence = self._production.fence()
        if fence.catalog.fingerprint != fingerprint:
            raise _outdated()
        shadow = self._connect(shadow_id, password, fence, tenant_key)
        shadow.attach()
        self.keep(dry_run_id, shadow)
        return shadow

    def _schema(self) -> str | None:
        """The fingerprint of production's schema, looked up now and then; None while production does not answer."""
        now = time.monotonic()
        with self._lock:
            if self._looked is not None and now < self._looked[1]:
                return self._looked[0]
        try:
            fingerprint = self._production.fence().catalog.fingerprint
        except SandboxUnavailable:
            return None  # what is loaded can still be read; whoever needs production says so
        with self._lock:
            self._looked = (fingerprint, now + _SCHEMA_S)
        return fingerprint

    def notes(self, dry_run_id: str) -> tuple[str, ...]:
        """What is to be known of the dry run's shadow, where it is open in this process."""
        with self._lock:
            shadow = self._open.get(dry_run_id)
        return tuple(shadow.notes) if shadow is not None else ()

    @reaching()
    def lost(self, shadow_ids: Sequence[str]) -> frozenset[str]:
        """Those of the shadows that the sandbox holds no more."""
        return frozenset(shadow_ids) - self._sandbox.living(shadow_ids) if shadow_ids else frozenset()

    def forget(self, dry_run_id: str) -> None:
        """Closes the connections of a dry run's shadow; the shadow itself stays until dropped."""
        with self._lock:
            shadow = self._open.pop(dry_run_id, None)
        if shadow is not None:
            let_go(shadow)

    @reaching()
    def ended(self, shadow_id: str | None) -> None:
        """The dry run is over: its shadow stays a while for inspection and recording."""
        if shadow_id:
            self._sandbox.ended(shadow_id)

    @reaching()
    def drop(self, dry_run_id: str, shadow_id: str | None) -> None:
        """Drops the dry run's shadow, if it is still there."""
        self.forget(dry_run_id)
        if shadow_id:
            self._sandbox.drop(shadow_id)

    @reaching()
    def inspector_url(self, shadow_id: str, minutes: int) -> str:
        """A read-only, expiring login on one shadow. Raises ShadowExpired when it is gone."""
        if self._sandbox.password(shadow_id) is None:
            raise gone()
        return self._sandbox.add_inspector(shadow_id, minutes)

    def _refill(self, mirror: str, fence: Fence) -> None:
        """Fills the pool beside the caller's work; the next dry run need not wait for CREATE DATABASE."""
        with self._lock:
            if self._settings.pool == 0 or (self._filling is not None and self._filling.is_alive()):
                return
            self._filling = threading.Thread(target=self._fill, args=(mirror, fence), name="shadow pool", daemon=True)
            self._filling.start()

    def _fill(self, mirror: str, fence: Fence) -> None:
        self._let_starts_pass()
        # A pool that could not be filled only makes the next start slower; that start then reports the reason.
        try:
            self._fill_with(mirror, fence)
        except Exception as error:
            logger.warning("the pool could not be filled: %s", type(error).__name__)

    def _let_starts_pass(self) -> None:
        """Waits for a gap between starts: making shadows for later would slow those that people wait for now."""
        patience = time.monotonic() + _PATIENCE_S
        while time.monotonic() < min(self._started + _GAP_S, patience):
            time.sleep(0.05)

    def _fill_with(self, mirror: str, fence: Fence) -> None:
        """Prepared and connected shadows, and readers of production for their snapshots and first rows."""
        path = self._production.settings.search_path

        def prepare(shadow_id: str, password: str) -> None:
            owner = connect(self._sandbox.owner_url(shadow_id), path, application="shadowdesk owner")
            try:
                prepare_surface(owner, f"shadow_{shadow_id}", fence.catalog.schemas, path)
                role = connect(self._sandbox.role_url(shadow_id, password), path, application="shadowdesk shadow")
            except BaseException:
                owner.close()
                raise
            connected = Connected(owner=owner, role=role)
            self._probe(self._connect(shadow_id, password, fence, "", connected), password, mirror)
            self._ready.add(shadow_id, connected)

        if self._settings.pool:
            self._production.spare(_READERS + self._settings.pool)
            self._ready.keep_only(self._sandbox.ready(mirror))
        self._sandbox.fill(mirror, self._settings.pool, prepare)

    @reaching()
    def reap(self) -> list[str]:
        """Drops expired and stray shadows and lets go of what is held too long; returns the ids of the dropped."""
        with self._lock:
            snapshots = [shadow.snapshot for shadow in self._open.values() if shadow.snapshot is not None]
        for snapshot in snapshots:
            if snapshot.overdue:
                snapshot.close()
        mirror = self._mirror(self._production.fence())
        dropped = self._sandbox.reap(mirror)
        self._ready.keep_only(self._sandbox.ready(mirror))
        return dropped

    def close(self) -> None:
        """Closes every connection; waits for the pool's thread."""
        with self._lock:
            filling, ids = self._filling, list(self._open)
        if filling is not None:
            filling.join(timeout=10)
        for dry_run_id in ids:
            self.forget(dry_run_id)
        self._ready.close()
        self._production.close()
        self._sandbox.close()
