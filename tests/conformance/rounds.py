"""The conformance suite's tools that ask the client before they answer: by a result (2026-07-28) and by a request."""

import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    TextContent,
)
from pydantic import BaseModel, Field, WithJsonSchema

# The suite asks for what the newer revision deprecates.
warnings.simplefilter("ignore", MCPDeprecationWarning)
Asks = Mapping[str, ElicitRequest | CreateMessageRequest | ListRootsRequest]
#: JSON-RPC code of a request that needs a capability which the client did not declare (MCP 2026-07-28).
MISSING_CAPABILITY = -32021


def form(message: str, field: str, kind: str = "string") -> ElicitRequest:
    """A question of one field."""
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(text: str) -> CreateMessageRequest:
    """A question to the client's model."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=100))


NAME = {"user_name": form("What is your name?", "name")}
ALL = {**NAME, "greeting": sample("Generate a greeting"), "client_roots": ListRootsRequest()}


def asked(ctx: Context[Any, Any], asks: Asks, state: str | None = None) -> InputRequiredResult | None:
    """The questions again until each has an answer (and the state came back, where there is one); then None."""
    given = ctx.input_responses or {}
    answered = set(asks) <= set(given) and all(
        not isinstance(answer := given[name], ElicitResult) or (answer.action == "accept" and answer.content)
        for name in asks
    )
    if answered and (state is None or ctx.request_state == state):
        return None
    return InputRequiredResult(input_requests=dict(asks), request_state=state)


def add_rounds(server: MCPServer[None]) -> None:
    """Adds the tools and the prompt that ask by a result."""

    def add(name: str, asks: Asks, state: str | None = None) -> None:
        async def rounds(ctx: Context[None, Any]) -> str | InputRequiredResult:
            return asked(ctx, asks, state) or f"state-ok {sorted(ctx.input_responses or {})}"

        server.add_tool(rounds, name=name, description="Asks, then answers.")

    confirm = {"confirm": form("Please confirm", "ok", "boolean")}
    add("test_input_required_result_elicitation", NAME)
    add("test_input_required_result_sampling", {"capital_question": sample("What is the capital of France?")})
    add("test_input_required_result_list_roots", {"client_roots": ListRootsRequest()})
    add("test_input_required_result_request_state", confirm, "waiting")
    add("test_input_required_result_tampered_state", confirm, "sealed")
    add("test_input_required_result_multiple_inputs", ALL, "waiting")
    add("test_streaming_elicitation", NAME)

    @server.tool(description="Input required result multi round.")
    async def test_input_required_result_multi_round(ctx: Context[None, Any]) -> str | InputRequiredResult:
        if ctx.request_state is None:
            return InputRequiredResult(input_requests={"step1": form("Step 1", "name")}, request_state="1")
        if ctx.request_state == "1":
            return InputRequiredResult(input_requests={"step2": form("Step 2", "color")}, request_state="2")
        return "Three rounds."

    @server.tool(description="Input required result capabilities.")
    async def test_input_required_result_capabilities(ctx: Context[None, Any]) -> str | InputRequiredResult:
        told = ctx.client_capabilities
        able = {
            "user_name": told and told.elicitation, "greeting": told and told.sampling,
            "client_roots": told and told.roots,
        }  # fmt: skip
        return asked(ctx, {name: ask for name, ask in ALL.items() if able[name] is not None}) or "Answered."

    @server.tool(description="Missing capability.")
    async def test_missing_capability(ctx: Context[None, Any]) -> str:
        if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
            needs = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(MISSING_CAPABILITY, "This tool needs the client's sampling.", needs)
        return "The client samples."

    @server.prompt(description="Input required result prompt.")
    async def test_input_required_result_prompt(ctx: Context[None, Any]) -> str | InputRequiredResult:
        return asked(ctx, {"user_context": form("What context?", "context")}) or "A prompt with context."


class Reply(BaseModel):
    """A free answer."""

    response: str


class Defaults(BaseModel):
    """One field of each primitive type with a default (SEP-1034)."""

    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: Literal["active", "inactive", "pending"] = "active"
    verified: bool = True


def choices(schema: dict[str, Any]) -> WithJsonSchema:
    """A field whose schema is said by hand."""
    return WithJsonSchema(schema)


def titled(*values: str) -> list[dict[str, str]]:
    """Choices with titles."""
    return [{"const": value, "title": value.upper()} for value in values]


class Enums(BaseModel):
    """Every way to offer choices (SEP-1330)."""

    untitledSingle: Annotated[str, choices({"type": "string", "enum": ["a", "b"]})]
    titledSingle: Annotated[str, choices({"type": "string", "oneOf": titled("a", "b")})]
    untitledMulti: Annotated[list[str], choices({"type": "array", "items": {"type": "string", "enum": ["a", "b"]}})]
    titledMulti: Annotated[list[str], choices({"type": "array", "items": {"anyOf": titled("a", "b")}})]
    legacyEnum: Annotated[str, choices({"type": "string", "enum": ["a", "b"], "enumNames": ["A", "B"]})] = Field()


def add_asks(server: MCPServer[None]) -> None:
    """Adds the tools that notify, log, report progress, or ask by a request of their own (2025-11-25)."""

    async def logs(ctx: Context[None, Any]) -> str:
        for step in ("started", "working", "completed"):
            await ctx.info(step)  # type: ignore[deprecated]
        return "Logged."

    server.add_tool(logs, name="test_tool_with_logging", description="Logs three times.")
    server.add_tool(logs, name="test_logging_tool", description="Logs three times.")

    @server.tool(description="Tool with progress.")
    async def test_tool_with_progress(ctx: Context[None, Any]) -> str:
        for share in (0, 50, 100):
            await ctx.report_progress(share, 100, f"{share} of 100")
        return "Done."

    @server.tool(description="Sampling.")
    async def test_sampling(prompt: str, ctx: Context[None, Any]) -> str:
        result = await ctx.session.create_message(  # type: ignore[deprecated]
            messages=[SamplingMessage(role="user", content=TextContent(type="text", text=prompt))], max_tokens=100
        )
        return f"The model says {result.content!r}"

    @server.tool(description="Elicitation.")
    async def test_elicitation(message: str, ctx: Context[None, Any]) -> str:
        return f"The person says {await ctx.elicit(message, Reply)!r}"

    @server.tool(description="Elicitation sep1034 defaults.")
    async def test_elicitation_sep1034_defaults(ctx: Context[None, Any]) -> str:
        return f"The person says {await ctx.elicit('Who are you?', Defaults)!r}"

    @server.tool(description="Elicitation sep1330 enums.")
    async def test_elicitation_sep1330_enums(ctx: Context[None, Any]) -> str:
        return f"The person says {await ctx.elicit('Choose.', Enums)!r}"

    @server.tool(description="Trigger tool change.")
    async def test_trigger_tool_change(ctx: Context[None, Any]) -> str:
        await ctx.notify_tools_changed()
        return "Told."

    @server.tool(description="Trigger prompt change.")
    async def test_trigger_prompt_change(ctx: Context[None, Any]) -> str:
        await ctx.notify_prompts_changed()
        return "Told."
