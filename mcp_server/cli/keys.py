"""The personal key: proves on a terminal who is about to log in or to confirm; used by `people.py`.

The configuration holds only its SHA-256. The key itself belongs to the person: a process that serves a model must
never have it, which is why the servers refuse to start with SHADOWDESK_KEY in their environment.
"""

import getpass
import hashlib
import hmac
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.cli.options import opened

if TYPE_CHECKING:
    from mcp_server.identity import Caller
    from mcp_server.settings import Settings

KEY_VARIABLE = "SHADOWDESK_KEY"


def person_with_key(settings: "Settings", person: str | None, key: str) -> "Caller":
    """The caller whose personal key this is. Raises PermissionDenied, without saying what was wrong."""
    from mcp_server.errors import PermissionDenied
    from mcp_server.identity import Caller

    name = person or settings.stdio.person or ""
    known = settings.people.get(name)
    expected = (known.confirm_key_sha256 if known else "") or ""
    given = hashlib.sha256(key.encode()).hexdigest()
    if known is None or not hmac.compare_digest(given.encode(), expected.lower().encode()):
        raise PermissionDenied(
            "The name and the personal key do not belong together.",
            "Nothing was done.",
            "Check --person and your key; the operator sets confirm_key_sha256 in [people].",
        )
    return Caller(name=name, role=known.role, channel="cli", client="shadowdesk")


def proven(settings: "Settings", verb: str, person: str | None, key: str) -> "Caller":
    """`person_with_key`, whose refusal is audited, where that can be: somebody may be trying keys."""
    from mcp_server.errors import EXPLAINED, PermissionDenied
    from mcp_server.identity import Caller

    try:
        return person_with_key(settings, person, key)
    except PermissionDenied as error:
        name = person or settings.stdio.person or "?"
        known = settings.people.get(name)
        claimed = Caller(name=name, role=known.role if known else "?", channel="cli", client="shadowdesk")
        with suppress(*EXPLAINED), opened(settings) as assembly:
            assembly.governor.record(claimed, verb, {}, "denied", error.happened)
        raise


def read_key(key_file: Path | None, *, environment: bool) -> str:
    """The key from its file, from SHADOWDESK_KEY where `environment` allows it, else typed unseen on the terminal."""
    if key_file is not None:
        return _from_file(key_file)
    if environment and os.environ.get(KEY_VARIABLE):
        return os.environ[KEY_VARIABLE]
    return getpass.getpass("Personal key: ")


def refuse_key_in_environment() -> None:
    """Called by each command that serves a model: with the key at hand, the model could confirm for its person."""
    from mcp_server.errors import ConfigurationInvalid

    if KEY_VARIABLE in os.environ:
        raise ConfigurationInvalid(
            f"{KEY_VARIABLE} is set in the server's environment.",
            "The server was not started: it would hold the key that only a person may have.",
            f"Unset {KEY_VARIABLE} and start again; use it in the person's own shell only.",
        )


def _from_file(key_file: Path) -> str:
    from mcp_server.errors import PermissionDenied

    try:
        mode = key_file.stat().st_mode
        key = key_file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise PermissionDenied(
            f"The key file {key_file} cannot be read.", "Nothing was done.", "Name a file that holds your key."
        ) from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise PermissionDenied(
            f"The key file {key_file} can be read by others.",
            "Nothing was done.",
            f"Run chmod 600 {key_file} and try again.",
        )
    return key
