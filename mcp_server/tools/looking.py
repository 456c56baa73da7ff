"""The tools that only look: tenants, tables, rows of the shadow, the diff, the list of dry runs."""

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from mcp_server.governed import Facts, diff_summary, facts_of
from mcp_server.permissions import PERMISSION_OF
from mcp_server.tools import words
from mcp_server.tools.results import (
    DiffResult,
    DryRunList,
    FoundTenants,
    Rows,
    Tables,
    diff_for_model,
)
from mcp_server.tools.spec import READS, Answer, Arguments, Session, ToolSpec
from mcp_server.views import TableDescription

DryRunId = Annotated[str, Field(min_length=1, max_length=60, description="Id of the dry run, dr_…")]
#: Texts for $1, $2, …; whole numbers are taken as their text, so that no decimal loses digits.
Params = Annotated[
    list[str | StrictInt | None],
    Field(max_length=1000, description="Values of $1, $2, … as text; null is SQL NULL. Decimals as text: '12.50'."),
]
#: Tables that are described with their columns when none is named.
WIDE = 25


class FindTenant(Arguments):
    """Arguments of `find_tenant`."""

    text: str = Field(min_length=1, max_length=200, description="The tenant's key, or a part of its name.")
    limit: int = Field(default=10, ge=1, le=50)


class DescribeTables(Arguments):
    """Arguments of `describe_tables`."""

    tables: list[str] | None = Field(default=None, max_length=200, description="Only these tables; all by default.")


class QueryShadow(Arguments):
    """Arguments of `query_shadow`."""

    dry_run_id: DryRunId
    sql: str = Field(min_length=1, description="One SELECT; $1, $2, … for values.")
    params: Params = Field(default_factory=list)
    limit: int = Field(default=100, ge=1, le=500)


class ShowDiff(Arguments):
    """Arguments of `show_diff`."""

    dry_run_id: DryRunId
    step: int | None = Field(default=None, ge=1, description="Only this step; the net diff of all by default.")
    page_start: int = Field(default=0, ge=0)
    page_size: int = Field(default=50, ge=1, le=100)


class ListDryRuns(Arguments):
    """Arguments of `list_dry_runs`."""

    state: (
        Literal[
            "open",
            "proposed",
            "escalated",
            "applied",
            "rejected",
            "discarded",
            "expired",
            "drifted",
            "diverged",
            "unknown",
        ]
        | None
    ) = None
    limit: int = Field(default=20, ge=1, le=100)


def texts(params: list[str | int | None]) -> list[str | None]:
    """Parameters as the desk takes them."""
    return [None if value is None else str(value) for value in params]


def _find_tenant(session: Session, given: FindTenant) -> Answer:
    found = session.desk.find_tenant(session.caller, given.text, given.limit)
    return Answer(value=FoundTenants(tenants=tuple(found)), text=words.tenants(found))


def _describe_tables(session: Session, given: DescribeTables) -> Answer:
    found = session.desk.describe_tables(session.caller, given.tables)
    wide = given.tables is None and len(found) > WIDE
    result = Tables(tables=tuple(_without_columns(table) if wide else table for table in found), columns_left_off=wide)
    return Answer(value=result, text=words.tables(result))


def _without_columns(table: TableDescription) -> TableDescription:
    return TableDescription(
        table=table.table,
        fence_class=table.fence_class,
        writable=table.writable,
        columns=(),
        references=(),
        note=table.note,
    )


def _query_shadow(session: Session, given: QueryShadow) -> Answer:
    found = session.desk.query(session.caller, given.dry_run_id, given.sql, texts(given.params), given.limit)
    result = Rows.of(found)
    return Answer(value=result, text=words.rows(result, found))


def _show_diff(session: Session, given: ShowDiff) -> Answer:
    found = session.desk.diff(session.caller, given.dry_run_id, given.step, given.page_start, given.page_size)
    shown = diff_for_model(found, given.page_size)
    result = DiffResult(dry_run_id=given.dry_run_id, step=given.step, diff=shown)
    return Answer(value=result, text=words.diff(result, found), facts=Facts(diff=diff_summary(found)))


def _list_dry_runs(session: Session, given: ListDryRuns) -> Answer:
    found = session.desk.list_dry_runs(session.caller, given.state, given.limit)
    return Answer(
        value=DryRunList(dry_runs=tuple(found)),
        text=words.dry_runs(found),
        facts=facts_of(found[0]) if len(found) == 1 else Facts(),
    )


TOOLS = (
    ToolSpec(
        name="find_tenant",
        description="Find a tenant by its key or by a part of its name. Start here when only a name is known.",
        permission=PERMISSION_OF["find_tenant"],
        arguments=FindTenant,
        result=FoundTenants,
        annotations=READS,
        run=_find_tenant,
    ),
    ToolSpec(
        name="describe_tables",
        description="The tables a dry run can see: columns, keys, references, and which may be changed.",
        permission=PERMISSION_OF["describe_tables"],
        arguments=DescribeTables,
        result=Tables,
        annotations=READS,
        run=_describe_tables,
    ),
    ToolSpec(
        name="query_shadow",
        description="Read the dry run's shadow with one SELECT. Only this tenant's rows are there.",
        permission=PERMISSION_OF["query_shadow"],
        arguments=QueryShadow,
        result=Rows,
        annotations=READS,
        run=_query_shadow,
    ),
    ToolSpec(
        name="show_diff",
        description="Which rows and cells would change: the net diff of all kept steps, or one step's own, by pages.",
        permission=PERMISSION_OF["show_diff"],
        arguments=ShowDiff,
        result=DiffResult,
        annotations=READS,
        run=_show_diff,
        drawn=True,
    ),
    ToolSpec(
        name="list_dry_runs",
        description="Dry runs the caller may see, newest first.",
        permission=PERMISSION_OF["list_dry_runs"],
        arguments=ListDryRuns,
        result=DryRunList,
        annotations=READS,
        run=_list_dry_runs,
    ),
)
