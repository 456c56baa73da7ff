"""What one pass of the gate gathers; shared by the gate's modules and turned into a `GatedStatement` at the end."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shadow.gate_text import Token, refused
from shadow.statement import GateLimits, Pin, Slot, Surface


@dataclass(kw_only=True)
class Reading:
    """The statement under the gate and everything found in it so far; lives for one call of `gate`.

    `tokens` maps the byte offset of each token to its place in `order`.
    """

    surface: Surface
    limits: GateLimits
    params: tuple[str | None, ...]
    query: bool
    order: tuple[Token, ...]
    tokens: Mapping[int, int]
    slots: dict[int, Slot] = field(default_factory=dict)
    pins: dict[int, Pin] = field(default_factory=dict)
    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    deletes: set[str] = field(default_factory=set)
    set_columns: set[tuple[str, str]] = field(default_factory=set)
    key_updates: set[str] = field(default_factory=set)
    inserts: list[tuple[str, int | None]] = field(default_factory=list)
    overriding: list[int] = field(default_factory=list)
    warnings: dict[str, None] = field(default_factory=dict)
    params_used: set[int] = field(default_factory=set)
    returning: bool = False
    #: Places of literals that are text for sure.
    texts: set[int] = field(default_factory=set)

    def token_end(self, start: int) -> int:
        """End of the token that starts at byte `start`."""
        return self.order[self._index(start)].end

    def call_end(self, start: int) -> int:
        """End of the call whose name starts at byte `start`: behind its closing parenthesis."""
        return self._closing(self._index(start) + 1, 0)

    def list_end(self, start: int) -> int:
        """End of the parenthesised list that the token at byte `start` is in: behind its closing parenthesis."""
        return self._closing(self._index(start), 1)

    def _closing(self, place: int, depth: int) -> int:
        for token in self.order[place:]:
            depth += (token.text == "(") - (token.text == ")")
            if depth == 0:
                return token.end
        raise refused("A parenthesis is not closed.", "Write the call or the list out with its parentheses.")

    def _index(self, start: int) -> int:
        if start not in self.tokens:
            raise refused(
                "A name's place in the text could not be found.",
                "Write the statement more plainly, without tricks.",
            )
        return self.tokens[start]
