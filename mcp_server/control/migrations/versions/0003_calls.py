"""Calls of each person within the last minute, counted for all replicas together."""

import psycopg
from alembic import op

from mcp_server.control.sql import block

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Runs the whole script on the driver's connection: SQLAlchemy would read `%` and `:` in it."""
    driver = op.get_bind().connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError("the control store is migrated over psycopg")
    driver.execute(block("calls_3"))
