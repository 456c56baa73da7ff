"""How the demo speaks: plain words on the terminal, with the diff as people see it; used by the acts."""

import time
from typing import Any

from rich.console import Console
from rich.text import Text

from differ.model import Diff
from differ.text import as_text


class Telling:
    """Writes to one console; values from rows come neutralised from the differ."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._number = 0

    def act(self, title: str, words: str) -> None:
        """A new act."""
        self._number += 1
        elapsed = time.monotonic() - self._started
        self._console.print()
        self._console.print(
            Text(f"({'abcdefg'[self._number - 1]}) {title}", style="bold"), Text(f"{elapsed:.0f} s", style="dim")
        )
        self.say(words)

    def say(self, words: str) -> None:
        """One plain sentence."""
        self._console.print(Text(f"    {words}"))

    def check(self, words: str) -> None:
        """Something that was checked and held."""
        self._console.print(Text("  ✓ ", style="green"), Text(words), sep="")

    def diff(self, proposal: dict[str, Any], rows: int = 3) -> None:
        """The proposal's diff as the terminal shows it."""
        text = as_text(Diff.from_json(proposal["diff"]), width=self._console.width - 8, max_rows=rows)
        for line in text.splitlines():
            self._console.print(Text(f"    │ {line}"), style="cyan")
