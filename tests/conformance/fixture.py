"""ShadowDesk's governance around the conformance suite's fixtures: the same server class, governor and wire as ours."""

from functools import partial
from typing import Any

import anyio.from_thread
import anyio.to_thread
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import (
    CallToolResult,
    EmptyResult,
    InputRequiredResult,
    RequestParams,
    SetLevelRequestParams,
    SubscribeRequestParams,
    Tool,
    UnsubscribeRequestParams,
)

from mcp_server.errors import PermissionDenied
from mcp_server.governed import Governor
from mcp_server.identity import Caller
from mcp_server.permissions import Permissions, Role
from mcp_server.server import GovernedServer, refusal
from mcp_server.settings import Settings
from mcp_server.tools.registry import Registry
from tests.acceptance.mcp_desk import MemoryAudit, MemoryDesk
from tests.conformance.contents import add_contents, add_documents
from tests.conformance.rounds import add_asks, add_rounds

#: A fixture that the caller's role may not use: it must be neither listed nor callable.
HIDDEN = "test_hidden"


class GovernedFixture(GovernedServer):
    """`GovernedServer` whose tools are the suite's: each call is listed, permitted and audited as ours are."""

    def __init__(self, settings: Settings, audit: MemoryAudit) -> None:
        roles = {"rep": Role(name="rep", permissions=("fixture.open",))}
        governor = Governor(audit, Permissions(roles), lambda about: None)
        person = Caller(name="rita", role="rep", channel="http", client="conformance")
        super().__init__(MemoryDesk(), settings, governor, lambda client: person, Registry(()), None)  # type: ignore[arg-type]
        self._person, self._by = person, governor
        add_contents(self)
        add_documents(self)
        add_rounds(self)
        add_asks(self)
        self._accept_notices()
        self.add_tool(lambda: "You should not see this.", name=HIDDEN, description="Not for this role.")
        for tool in self._tool_manager.list_tools():
            model = tool.fn_metadata.arg_model
            model.model_config["extra"] = "forbid"
            model.model_rebuild(force=True)
            tool.parameters = model.model_json_schema(by_alias=True)

    def _accept_notices(self) -> None:
        """Levels of logging and subscriptions are taken as given: the suite only looks whether they are accepted."""

        async def accepted(ctx: ServerRequestContext[Any, Any], params: RequestParams) -> EmptyResult:
            return EmptyResult()

        for method, params in (
            ("logging/setLevel", SetLevelRequestParams),
            ("resources/subscribe", SubscribeRequestParams),
            ("resources/unsubscribe", UnsubscribeRequestParams),
        ):
            self._lowlevel_server.add_request_handler(method, params, accepted)

    def _permission(self, name: str) -> str:
        return "fixture.hidden" if name == HIDDEN else "fixture.open"

    async def list_tools(self) -> list[Tool]:
        """The fixtures that the role may use."""
        every = await super(GovernedServer, self).list_tools()
        decide = partial(self._by.permissions.decide, self._person.role)
        return [tool for tool in every if decide(self._permission(tool.name)).allowed]

    async def call_tool(  # type: ignore[override]
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """One governed call: the SDK's runner is the act between the two audit events."""
        runner = partial(super(GovernedServer, self).call_tool, name, arguments, context)

        def act() -> CallToolResult | InputRequiredResult:
            return anyio.from_thread.run(runner)

        try:
            return await anyio.to_thread.run_sync(
                self._by.call, self._person, name, self._permission(name), arguments, act
            )
        except PermissionDenied:
            return refusal(f"There is no tool {name!r} for you.")
        except ToolError as error:
            return refusal(str(error))
