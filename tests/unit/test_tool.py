"""Authoring domain tools: what `@tool` accepts, what a model sees, and what an Edit does with what it is given."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from mcp_server.errors import ConfigurationInvalid
from mcp_server.identity import Caller
from mcp_server.tool import Edit, EditRefused, current_edit, editing, mark_of, tool
from mcp_server.tools.domain import domain_tool
from mcp_server.tools.registry import BUILT_IN, Registry, load_registry
from mcp_server.tools.spec import ToolSpec
from mcp_server.views import QueryResult

CALLER = Caller(name="rita", role="rep", channel="stdio", client="test")


class Changed(BaseModel):
    """A result."""

    amount: Decimal


def marked(function: Any, **more: Any) -> ToolSpec:
    function = tool(name="a_tool", requires_permission="a.b", description="Does it.", **more)(function)
    mark = mark_of(function)
    assert mark is not None
    return domain_tool(mark, function)


def an_edit(**answers: Any) -> Edit:
    return Edit(SimpleNamespace(**answers), CALLER, "dr_1", "a_tool", {"x": 1}, "the reason")  # type: ignore[arg-type]


def test_the_signature_of_the_design_works_as_it_is_written() -> None:
    @tool(
        name="correct_signatory_on_contract",
        requires_permission="contracts.edit_signatory",
        description="Reassign the signatory on a contract. Always dry-run first.",
    )
    def correct_signatory(contract_id: str, new_signatory_id: str, reason: str, dry_run: bool = True) -> Changed:
        return Changed(amount=Decimal(contract_id))

    assert correct_signatory("1", "2", "r").amount == 1
    mark = mark_of(correct_signatory)
    assert mark is not None
    spec = domain_tool(mark, correct_signatory)
    schema = spec.arguments.model_json_schema(by_alias=True)
    assert list(schema["properties"]) == [
        "contract_id", "new_signatory_id", "reason", "dry_run", "dry_run_id", "request",
    ]  # fmt: skip
    assert schema["required"] == ["contract_id", "new_signatory_id", "reason"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["dry_run"]["default"] is True


def test_an_edit_parameter_is_injected_and_invisible() -> None:
    def body(name: str, edit: Edit) -> None: ...

    assert list(marked(body).arguments.model_fields) == [
        "given_name",
        "given_dry_run",
        "given_dry_run_id",
        "given_request",
    ]


def test_a_parameter_may_bear_a_name_of_pydantic() -> None:
    def body(copy: str, json: int, schema: Annotated[str, Field(max_length=3)]) -> None: ...

    spec = marked(body)
    spec.parse({"copy": "a", "json": 1, "schema": "abc"})
    with pytest.raises(ValidationError):
        spec.parse({"copy": "a", "json": 1, "schema": "abcd"})


@pytest.mark.parametrize("argument", [{"given_name": "x"}, {"edit": "x"}, {"other": 1}])
def test_what_the_tool_does_not_declare_is_refused(argument: dict[str, Any]) -> None:
    def body(name: str, edit: Edit) -> None: ...

    with pytest.raises(ValidationError, match="Extra inputs"):
        marked(body).parse({"name": "x", **argument})


def test_the_text_null_stays_a_text_and_a_list_may_come_as_json_text() -> None:
    def body(value: str | None, items: list[str]) -> None: ...

    given = marked(body).parse({"value": "null", "items": '["a", "null"]'})
    assert given.model_dump(by_alias=True)["value"] == "null"
    assert given.model_dump(by_alias=True)["items"] == ["a", "null"]


def test_functions_that_cannot_be_tools_are_refused_where_they_are_written() -> None:
    async def waits(name: str) -> None: ...

    def takes(dry_run_id: str) -> None: ...

    def many(*names: str) -> None: ...

    for function in (waits, takes, many):
        with pytest.raises(TypeError, match="a_tool"):
            marked(function)

    def body(contract_id: str) -> None: ...

    for source in ("contracts:contract_id", "contracts.id:other", "contracts.id"):
        with pytest.raises(TypeError, match="tenant_from"):
            marked(body, tenant_from=source)

    def untyped(name) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(TypeError, match="type of name"):
        marked(untyped)


def test_an_edit_gives_rows_by_name_and_only_takes_texts() -> None:
    seen: list[Any] = []

    def query(*given: Any) -> QueryResult:
        seen.append(given)
        return QueryResult(columns=("id", "note"), types=("int8", "text"), rows=(("17", None),), truncated=False)

    edit = an_edit(query=query)
    assert edit.query("SELECT id, note FROM t WHERE id = $1", ("17",)) == [{"id": "17", "note": None}]
    assert seen[0][:4] == (CALLER, "dr_1", "SELECT id, note FROM t WHERE id = $1", ["17"])
    with pytest.raises(TypeError, match=r"\$2 is int"):
        edit.query("SELECT $1, $2", ("a", 2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "error"),
    [
        (QueryResult(columns=("id",), types=("int8",), rows=(("1",),), truncated=True), EditRefused),
        (QueryResult(columns=("id", "id"), types=("int8", "int8"), rows=(("1", "2"),), truncated=False), ValueError),
    ],
)
def test_an_edit_never_hands_out_half_an_answer(found: QueryResult, error: type[Exception]) -> None:
    with pytest.raises(error):
        an_edit(query=lambda *_: found).query("SELECT 1")


def test_a_step_carries_the_tool_its_arguments_and_a_reason() -> None:
    seen: list[Any] = []
    edit = an_edit(run=lambda *given, **named: seen.append((given, named)))
    edit.run("UPDATE t SET x = $1", ("1",))
    edit.run("UPDATE t SET x = 2", reason="another")
    assert seen[0] == (
        (CALLER, "dr_1", "UPDATE t SET x = $1", "the reason", ["1"]),
        {"tool": "a_tool", "arguments": {"x": 1}},
    )
    assert seen[1][0][3] == "another"
    assert len(edit.steps) == 2


def test_the_current_edit_is_there_during_the_body_only() -> None:
    edit = an_edit()
    with editing(edit):
        assert current_edit() is edit
    with pytest.raises(RuntimeError, match="being rehearsed"):
        current_edit()


def test_a_refusal_says_three_things() -> None:
    assert str(EditRefused("The gift card holds too little.")) == (
        "The gift card holds too little. Nothing of this call was kept."
        " Correct the call if it was mistaken; the rule itself is the business' own."
    )


def test_two_tools_of_one_name_and_modules_without_tools_are_refused() -> None:
    with pytest.raises(ConfigurationInvalid, match="Two tools"):
        Registry([BUILT_IN[0], BUILT_IN[0]])
    for module in ("json", "no.such.module"):
        with pytest.raises(ConfigurationInvalid, match=module):
            load_registry([module])


def test_the_shipped_examples_are_tools() -> None:
    assert load_registry(["mcp_server.demo.tools"]).get("reparent_contract") is not None
    assert load_registry(["tests.retail.tools"]).get("cancel_pending_order") is not None


def test_only_reads_are_marked_read_only() -> None:
    reads = {tool.name for tool in BUILT_IN if tool.annotations.read_only_hint}
    looking = {
        "find_tenant",
        "describe_tables",
        "query_shadow",
        "show_diff",
        "list_dry_runs",
        "proposal_status",
        "open_review",
    }
    assert reads == looking | {"compare_dry_runs"}
