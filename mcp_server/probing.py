"""The walls before a process serves, and in doctor's list; nothing is served where one of them does not hold.

`Production` itself tries its walls whenever it meets a schema version that is new to the process, `Shadows` the first
shadow of each mirror; here is who asks for it at the start.
"""

import logging
from collections.abc import Iterator

import psycopg

from mcp_server.doctor_rights import Check
from mcp_server.errors import EXPLAINED
from mcp_server.production import Production
from shadow.errors import SandboxUnavailable
from shadow.probe import probe_fence, require
from shadow.sandbox import Sandbox

_AWAY: tuple[type[Exception], ...] = (*EXPLAINED, psycopg.Error)
logger = logging.getLogger(__name__)

_MEND = "Do not serve. Run `shadowdesk install --apply` again, revoke what was granted beside it, update Postgres."


def before_serving(production: Production, sandbox: Sandbox) -> None:
    """Refuses to serve when a wall is missing. Raises WallMissing.

    A production that does not answer yet is no reason to stay away: every way to it begins with its fence, and that
    with the probe.
    """
    try:
        production.fence()
    except SandboxUnavailable as away:
        logger.warning("the walls were not tried yet: %s", away.happened)
    walls_on_sandbox(sandbox)


def walls_on_sandbox(sandbox: Sandbox) -> None:
    """The views of the shadows as the sandbox's server has them. Raises WallMissing."""
    with sandbox.admin() as conn:
        require(probe_fence(conn), "the sandbox")


def walls_on_production(production: Production) -> Iterator[Check]:
    """Each wall on production as a line of doctor's; none where they cannot be tried, which other lines say why."""
    try:
        walls = production.walls()
    except _AWAY:
        return
    for wall in walls:
        yield Check(name=f"wall: {wall.name}", ok=wall.holds, detail=wall.found, mend=_MEND)
