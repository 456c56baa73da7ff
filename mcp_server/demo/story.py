"""`shadowdesk demo`: real fixes going from an MCP client's tool calls to production, and wrong ones being stopped.

Starts everything on embedded Postgres in a temporary folder, plays the acts, and exits 0 only if every promise held.
"""

import time

from rich.console import Console
from rich.text import Text

from mcp_server.demo.acts import Acts
from mcp_server.demo.person import PageRefused
from mcp_server.demo.stage import Claude, DemoFailed, Stage, desktop_config, staged
from mcp_server.demo.telling import Telling
from shadow.embedded import throw_away_folder


def main(*, serve: bool = False) -> int:
    """Plays the demo; with `serve` everything stays up afterwards until Ctrl-C. Returns the exit code."""
    console = Console(highlight=False)
    telling = Telling(console)
    telling.say("Starting embedded Postgres, loading a business of three tenants, serving the review pages …")
    with throw_away_folder("shadowdesk-demo-") as folder, staged(folder) as stage:
        try:
            claude = Claude(stage)
            try:
                last = Acts(stage, claude, telling).play()
            finally:
                claude.close()
        except (DemoFailed, PageRefused) as failed:
            console.print(Text(f"demo failed: {failed}", style="bold red"))
            return 1
        console.print()
        if serve:
            _stay(console, stage)
        console.print(Text(last, style="bold"))
    return 0


def _stay(console: Console, stage: Stage) -> None:
    """Leaves everything up and says how to look around."""
    console.print(Text("Everything stays up until Ctrl-C.", style="bold"))
    console.print(Text(f"Log in as the rep:      {stage.login_link('rep')}"), soft_wrap=True)
    console.print(Text(f"Log in as the engineer: {stage.login_link('engineer')}"), soft_wrap=True)
    console.print(Text("For claude_desktop_config.json:"))
    console.print(Text(desktop_config(stage)), soft_wrap=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print()
