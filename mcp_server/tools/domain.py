"""Runs an engineer's domain tool: rehearses its body on a dry run, all or nothing; or proposes what was rehearsed.

`dry_run=False` never writes: it only puts before a person what the same call has already shown (design §5).
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel

from differ.text import neutralise, quoted
from mcp_server.errors import DryRunFirst
from mcp_server.governed import Facts, diff_summary
from mcp_server.tool import Edit, ToolMark, editing
from mcp_server.tools import proposing, words
from mcp_server.tools.changing import REQUEST_HINT
from mcp_server.tools.results import Step
from mcp_server.tools.signature import DRY_RUN, Signature, given, read_signature
from mcp_server.tools.spec import EDITS_SHADOW, Answer, Session, ToolSpec, said
from mcp_server.tools.steps import made_by
from shadow.errors import TenantNotFound

#: Characters of the purpose of a dry run that a domain tool starts.
PURPOSE_CHARACTERS = 400
#: Characters of a tool's own result in the words beside it.
RESULT_CHARACTERS = 2000


def domain_tool(mark: ToolMark, function: Callable[..., Any]) -> ToolSpec:
    """The tool of a marked function. Raises TypeError when its signature cannot be read."""
    signature = read_signature(mark.name, function)
    call = DomainCall(mark, signature)
    return ToolSpec(
        name=mark.name,
        description=mark.description,
        permission=mark.permission,
        arguments=signature.arguments,
        result=signature.result,
        annotations=EDITS_SHADOW,
        run=call.run,
    )


class DomainCall:
    """What happens when a model calls one domain tool."""

    def __init__(self, mark: ToolMark, signature: Signature) -> None:
        self._mark = mark
        self._signature = signature

    def run(self, session: Session, arguments: BaseModel) -> Answer:
        """Rehearses the call, or proposes it when `dry_run` is false."""
        if given(arguments, DRY_RUN):
            return self._rehearse(session, arguments)
        return self._propose(session, arguments)

    def _propose(self, session: Session, arguments: BaseModel) -> Answer:
        dry_run_id = given(arguments, "dry_run_id")
        recorded = self._signature.recorded(arguments)
        last = self._last_step(session, dry_run_id) if dry_run_id else None
        if last is None or not made_by(last, self._mark.name, recorded):
            raise DryRunFirst(
                f"The last step of the dry run is not this call of {self._mark.name} with these arguments.",
                "Nothing ran.",
                "Call it with dry_run=true, read the diff, then repeat it with dry_run=false and that dry_run_id.",
            )
        view = session.desk.propose(session.caller, dry_run_id)
        answer = proposing.answer(session, view)
        result = self._signature.result(dry_run_id=view.dry_run_id, proposal=answer.value)
        return Answer(value=result, text=answer.text, facts=answer.facts)

    def _rehearse(self, session: Session, arguments: BaseModel) -> Answer:
        with self._dry_run(session, arguments) as edit:
            with editing(edit):
                own = self._signature.call(arguments, edit)
            steps = tuple(Step.of(made) for made in edit.steps)
            result = self._signature.result(dry_run_id=edit.dry_run_id, result=own, steps=steps)
        summaries = [diff_summary(made.diff) for made in edit.steps]
        return Answer(
            value=result,
            text=_words(result, steps, edit),
            facts=Facts(dry_run_id=edit.dry_run_id, diff=summaries or None, request=given(arguments, "request")),
        )

    @contextmanager
    def _dry_run(self, session: Session, arguments: BaseModel) -> Iterator[Edit]:
        """The edit of this call; when the body fails its steps are undone, and a dry run it started is discarded."""
        known = given(arguments, "dry_run_id")
        dry_run_id = known or self._start(session, arguments)
        last = self._last_step(session, dry_run_id) if known else None
        edit = Edit(
            session.desk, session.caller, dry_run_id, self._mark.name,
            self._signature.recorded(arguments), self._reason(arguments),
        )  # fmt: skip
        try:
            yield edit
        except BaseException:
            if known is None:
                session.desk.discard(session.caller, dry_run_id)
            elif edit.steps:
                session.desk.undo(session.caller, dry_run_id, last.step if last else 0)
            raise

    def _start(self, session: Session, arguments: BaseModel) -> str:
        source = self._mark.tenant_from
        if source is None:
            raise DryRunFirst(
                f"{self._mark.name} does not say by itself which tenant it is for.",
                "Nothing ran.",
                "Call start_dry_run for the tenant first and pass its dry_run_id.",
            )
        request = said(given(arguments, "request"), "request", REQUEST_HINT)
        value = str(self._signature.recorded(arguments)[source.argument])
        tenant = session.desk.production.tenant_of(source.column, value)
        purpose = neutralise(f"{self._mark.name}: {self._reason(arguments)}", PURPOSE_CHARACTERS)
        try:
            return session.desk.start_dry_run(session.caller, tenant, request, purpose, session.progress).id
        except TenantNotFound:
            # a tenant that the caller may not see: told like a value that no tenant has
            table, _, column = source.column.rpartition(".")
            raise TenantNotFound(
                f"No tenant has a row in {table} with that {column}.",
                "No dry run was started.",
                "Check the value, or start a dry run for the tenant first.",
            ) from None

    def _reason(self, arguments: BaseModel) -> str:
        """The call's own reason where it has one, else the tool's name: a step always says why it is there."""
        reason = self._signature.recorded(arguments).get("reason")
        return said(reason, "reason", "Say why.") if isinstance(reason, str) else self._mark.name

    def _last_step(self, session: Session, dry_run_id: str) -> Any:
        """The last kept step, None while there is none. The desk first checks that the caller may see the dry run."""
        session.desk.statements(session.caller, dry_run_id)
        kept = session.desk.control.statements(dry_run_id)
        return kept[-1] if kept else None


def _words(result: BaseModel, steps: tuple[Step, ...], edit: Edit) -> str:
    own = json.dumps(result.model_dump(mode="json")["result"], ensure_ascii=False)
    parts = [] if own == "null" else [f"Result: {quoted(own, RESULT_CHARACTERS)}"]
    parts += [words.step(shown, made, edit.dry_run_id) for shown, made in zip(steps, edit.steps, strict=True)]
    if steps:
        parts.append(f"To put this before a person, repeat it with dry_run=false and dry_run_id={edit.dry_run_id}.")
    else:
        parts.append(f"The tool changed nothing in dry run {edit.dry_run_id}.")
    return "\n\n".join(parts)
