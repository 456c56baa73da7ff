"""Masked columns: whose values a caller does not see, and their masks in everything that the desk answers with.

Called by the desk's verbs, so that tools, resources, pages and commands get masked answers alike. A model always gets
masks; a person on a page or a terminal sees values where their role may. A mask is the same for equal values within
one dry run and another in the next.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from differ.model import CellChange, Diff, Key, RowChange
from mcp_server.control.store import ControlStore
from mcp_server.errors import ConfigurationInvalid
from mcp_server.identity import Caller
from mcp_server.permissions import Permissions
from mcp_server.recorded import REVERT
from mcp_server.views import StatementView, StepResult, TableDescription
from shadow.errors import StatementRefused
from shadow.fence import Fence
from shadow.gate_masks import refuse_masked_reads
from shadow.masking import DIGITS, PREFIX, Hides, mask, masked_schemas
from shadow.shadow import Shadow
from shadow.statement import GatedStatement, Surface

_MASK = re.compile(rf"{PREFIX}[0-9a-f]{{{DIGITS}}}")


class Masking:
    """The masks of every caller; the secret behind the keys is read from the control store when it is first needed."""

    def __init__(self, permissions: Permissions, control: ControlStore) -> None:
        self._permissions = permissions
        self._control = control
        self._secret: bytes | None = None

    def of(self, caller: Caller, dry_run_id: str) -> "Masks":
        """The caller's masks in one dry run."""
        patterns = self._patterns(caller)
        return Masks(patterns, self._key(dry_run_id) if patterns else b"")

    def describe(self, caller: Caller, tables: Sequence[TableDescription]) -> list[TableDescription]:
        """The tables with a note of their masked columns."""
        hides = Masks(self._patterns(caller), b"").hides
        return [replace(table, note=_noted(table, hides)) for table in tables]

    def check(self, fence_now: Callable[[], Fence]) -> None:
        """Raises ConfigurationInvalid when a masked column is not there, or rows or tenants are known by it."""
        if not self.configured:
            return
        fence = fence_now()
        for pattern in sorted(self._permissions.all_masked()):
            found = [
                (table, column.name)
                for table in fence.tables.values()
                for column in table.table.columns
                if _matches(pattern, table.table.name, column.name)
            ]
            if not found:
                raise _invalid(f"There is no column for {pattern!r} in the masked columns.")
            for table, column in found:
                if column in table.table.key or (table.table.name == fence.root and column == fence.label):
                    what = "the key that rows are known by" if column in table.table.key else "the tenants' label"
                    raise _invalid(f"{table.table.name}.{column} is part of {what} and cannot be masked.")

    @property
    def configured(self) -> bool:
        """Whether anything is masked for anybody."""
        return bool(self._permissions.all_masked())

    def _patterns(self, caller: Caller) -> tuple[str, ...]:
        person = caller.channel in ("page", "cli")
        return () if person and self._permissions.sees_masked(caller.role) else self._permissions.masked(caller.role)

    def _key(self, dry_run_id: str) -> bytes:
        if self._secret is None:
            self._secret = self._control.mask_secret()
        return hmac.digest(self._secret, dry_run_id.encode(), hashlib.sha256)


class Masks:
    """What one caller does not see in one dry run."""

    def __init__(self, patterns: tuple[str, ...], key: bytes) -> None:
        self._patterns = patterns
        self._key = key

    def hides(self, table: str, column: str) -> bool:
        """Whether the column's values are masked."""
        return any(_matches(pattern, table, column) for pattern in self._patterns)

    def schemas(self, shadow: Shadow, gated: GatedStatement) -> dict[str, str]:
        """Where the caller's query finds its tables; see `masked_schemas`."""
        hides: Hides = self.hides if self._patterns else lambda table, column: False
        return masked_schemas(shadow, gated.reads, hides, self._key)

    def check(self, gated: GatedStatement, surface: Surface, tool: str | None) -> None:
        """Raises StatementRefused when a change reads a masked column or holds a mask: neither may be written back.

        An inverse is ours: it writes values that were frozen, and tells nobody.
        """
        if not self._patterns or tool == REVERT:
            return
        refuse_masked_reads(gated, surface, self.hides)
        if any(_MASK.search(text) for text in (gated.text, *(p for p in gated.params if p is not None))):
            raise StatementRefused(
                "The statement holds a mask: it stands for a value that you do not see, and is none.",
                "Nothing ran: a mask is never written.",
                "Leave the column as it is, or set the value that the rep gave you.",
            )

    def step(self, made: StepResult) -> StepResult:
        """The step with a masked diff; its RETURNING rows read no masked column (`check`)."""
        return replace(made, diff=self.diff(made.diff))

    def diff(self, diff: Diff) -> Diff:
        """The diff with masks for the cells that are not shown."""
        if not self._patterns:
            return diff
        sinks = {table.table for table in diff.tables if table.sink}
        return replace(diff, rows=tuple(self.row(row, row.table in sinks) for row in diff.rows))

    def statement(self, one: StatementView) -> StatementView:
        """The statement; an inverse without its values, which come from rows and not from the caller."""
        if not self._patterns or one.tool != REVERT:
            return one
        return replace(one, params=tuple(self.hidden(param) for param in one.params))

    def row(self, row: RowChange, sink: bool = False) -> RowChange:
        """One changed row with masks."""
        cells = tuple(self._cell(row.table, cell) for cell in row.cells)
        # a sink without a key is known by the text of the whole row
        whole = sink and any(self.hides(row.table, cell.column) for cell in row.cells)
        return replace(row, cells=cells, key=self._key_of(row.key) if whole else row.key)

    def _key_of(self, key: Key) -> Key:
        return tuple((column, mask(text, self._key)) for column, text in key)

    def _cell(self, table: str, cell: CellChange) -> CellChange:
        if not self.hides(table, cell.column):
            return cell
        before, after = self.hidden(cell.before), self.hidden(cell.after)
        return replace(cell, before=before, after=after, paths=(), more_paths=0)

    def hidden(self, text: str | None) -> str | None:
        """The mask of a cell's text; NULL stays NULL."""
        return None if text is None else mask(text, self._key)


def _matches(pattern: str, table: str, column: str) -> bool:
    """`users.email`, `*.phone` or `users.*`."""
    wanted_table, _, wanted_column = pattern.rpartition(".")
    return fnmatchcase(table, wanted_table) and fnmatchcase(column, wanted_column)


def _noted(table: TableDescription, hides: Hides) -> str:
    hidden = [column.name for column in table.columns if hides(table.table, column.name)]
    words = f"Masked for you, may be set but not read by a change: {', '.join(hidden)}." if hidden else ""
    return " ".join(part for part in (table.note, words) if part)


def _invalid(happened: str) -> ConfigurationInvalid:
    return ConfigurationInvalid(
        happened, "No dry run was started.", "Correct [masking] columns, or masked of the role, in shadowdesk.toml."
    )
