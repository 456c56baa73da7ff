"""The control tables with their rules, and the audit trail."""

import psycopg
from alembic import op

from audit.sql import block as audit_block
from mcp_server.control.sql import block

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Runs whole scripts on the driver's connection: SQLAlchemy would read `%` and `:` in them."""
    driver = op.get_bind().connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError("the control store is migrated over psycopg")
    for script in (block("schema_1"), block("rules_1"), block("grants_1"), audit_block("schema_1")):
        driver.execute(script)
