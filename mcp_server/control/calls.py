"""Calls of each person within the last minute, shared by all replicas; part of `store.ControlStore`."""

from sqlalchemy import Engine, func, select

from mcp_server.control.connections import transaction


class CallTable:
    """One short transaction per call; the time is the database's, in whole seconds."""

    _engine: Engine

    def take_call(self, person: str, per_minute: int) -> bool:
        """Counts one call of the person and answers True; False when the last minute holds `per_minute` already."""
        with transaction(self._engine) as connection:
            return bool(connection.execute(select(func.control.take_call(person, per_minute))).scalar_one())
