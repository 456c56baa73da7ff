"""A terminal with a person at it: runs a command on a pseudo-terminal, answers its prompts, returns what it showed."""

import codecs
import os
import pty
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Seconds until a command that neither prompts nor ends is given up.
PATIENCE_S = 60.0


def at_a_terminal(
    command: Sequence[str], answers: Mapping[str, str], *, cwd: Path, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Exit code and screen text; each answer is typed once, when the text it belongs to has appeared."""
    controller, terminal = pty.openpty()
    try:
        process = subprocess.Popen(
            command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=cwd, env={**os.environ, **(environment or {})},
            start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(terminal)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")  # a read may end inside a character
    screen, waiting, deadline = "", dict(answers), time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < deadline:
            shown = _read(controller)
            if shown is None:
                break
            screen += decoder.decode(shown)
            for prompt in [prompt for prompt in waiting if prompt in screen]:
                os.write(controller, f"{waiting.pop(prompt)}\n".encode())
        return process.wait(timeout=10), screen
    finally:
        os.close(controller)
        if process.poll() is None:
            process.kill()
            process.wait()


def _read(controller: int) -> bytes | None:
    """What appeared within a moment; None when the command has closed its terminal."""
    ready, _, _ = select.select([controller], [], [], 0.2)
    if not ready:
        return b""
    try:
        data = os.read(controller, 65536)
    except OSError:
        return None
    return data or None
