"""`shadowdesk dry-run`: an engineer rehearses a file of statements; `shadowdesk inspect`: a psql line into a shadow."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcp_server.cli.options import DEFAULT_CONFIG, Config, Json, Person, caller_of, opened, settings_from
from mcp_server.cli.output import OK, REFUSED, complain, plain, printable, say, say_json

if TYPE_CHECKING:
    from mcp_server.assembly import Assembly
    from mcp_server.identity import Caller
    from mcp_server.views import StepResult

File = Annotated[
    Path, typer.Option("--file", exists=True, dir_okay=False, readable=True, help="Statements in SQL.", metavar="FILE")
]


def register(app: typer.Typer) -> None:
    """Adds this file's commands."""
    app.command("dry-run")(dry_run)
    app.command("inspect")(inspect)


def dry_run(
    tenant: Annotated[str, typer.Option("--tenant", help="The tenant's key.", metavar="KEY")],
    file: File,
    config: Config = DEFAULT_CONFIG,
    person: Person = None,
    purpose: Annotated[str, typer.Option("--purpose", help="What the fix is for.")] = "dry run on the command line",
    propose: Annotated[bool, typer.Option("--propose", help="Freeze it and put it before a person.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Drop the shadow at the end.")] = False,
    json: Json = False,
) -> None:
    """Run each statement of a file on a shadow of one tenant; print each step's diff and the net diff.

    Exit code 1 when a statement is refused or fails: the steps before it are kept and shown.
    """
    if propose and drop:
        raise typer.BadParameter("--propose keeps the dry run for a person to decide; --drop would end it.")
    statements = statements_of(file)
    settings = settings_from(config)
    caller = caller_of(settings, person)
    with opened(settings) as assembly:
        run = Run(assembly, caller, tenant, purpose, file.name)
        with dropped_at_the_end(run, drop):
            report = run.through(statements, quiet=json)
            if propose and "refusal" not in report:
                report["proposal"] = plain(run.propose())
    if json:
        say_json(report)
    else:
        _say_net(report, drop)
    raise typer.Exit(REFUSED if "refusal" in report else OK)


def inspect(
    dry_run_id: Annotated[str, typer.Argument(metavar="DRY_RUN")],
    config: Config = DEFAULT_CONFIG,
    person: Person = None,
) -> None:
    """Print a psql line for a read-only, expiring role on the dry run's shadow."""
    settings = settings_from(config)
    caller = caller_of(settings, person)
    with opened(settings) as assembly:
        line = assembly.governor.run(
            caller, "inspect", {"dry_run_id": dry_run_id}, lambda: assembly.desk.inspect(caller, dry_run_id)
        )
    say(line)


def statements_of(file: Path) -> list[str]:
    """The statements of a file by PostgreSQL's own grammar. Raises StatementRefused when it does not parse."""
    import postgast

    from shadow.errors import StatementRefused

    try:
        statements = [text.strip() for text in postgast.split(file.read_text(encoding="utf-8"))]
    except (postgast.PgQueryError, UnicodeDecodeError) as error:
        reason = str(error) if isinstance(error, postgast.PgQueryError) else "it is not UTF-8"
        raise StatementRefused(
            f"{file.name} cannot be read as SQL: {reason}.", "Nothing ran.", "Correct the file and run it again."
        ) from None
    if not statements:
        raise StatementRefused(f"{file.name} holds no statement.", "Nothing ran.", "Write at least one statement.")
    return statements


class Run:
    """One dry run of the command: every call goes through the governor like a tool's."""

    def __init__(self, assembly: "Assembly", caller: "Caller", tenant: str, purpose: str, source: str) -> None:
        self.assembly = assembly
        self.caller = caller
        self.source = source
        request = f"shadowdesk dry-run --file {source}"
        self.view = self._governed(
            "start_dry_run",
            {"tenant": tenant, "request": request, "purpose": purpose},
            lambda: assembly.desk.start_dry_run(caller, tenant, request, purpose),
        )

    def through(self, statements: list[str], *, quiet: bool) -> dict[str, Any]:
        """Runs the statements in order up to the first refusal; what happened as JSON values."""
        from mcp_server.errors import EXPLAINED

        report: dict[str, Any] = {"dry_run": plain(self.view), "steps": []}
        for number, text in enumerate(statements, start=1):
            try:
                step = self.step(number, text)
            except EXPLAINED as error:
                report["refusal"] = {"statement": number, "kind": type(error).__name__, "message": str(error)}
                break
            report["steps"].append(plain(step))
            if not quiet:
                say_step(step, text)
        if report["steps"]:
            net = self.net()
            report |= {"net": net.to_json(), "digest": net.tables_root}
        return report

    def step(self, number: int, text: str) -> "StepResult":
        """Runs one statement on the shadow and keeps it."""
        reason = f"statement {number} of {self.source}"
        result: StepResult = self._governed(
            "run_statement",
            {"dry_run_id": self.view.id, "sql": text, "reason": reason},
            lambda: self.assembly.desk.run(self.caller, self.view.id, text, reason),
        )
        return result

    def net(self) -> Any:
        """The net diff's first page."""
        return self._governed(
            "show_diff", {"dry_run_id": self.view.id}, lambda: self.assembly.desk.diff(self.caller, self.view.id)
        )

    def propose(self) -> Any:
        """Freezes the dry run under a digest."""
        return self._governed(
            "propose", {"dry_run_id": self.view.id}, lambda: self.assembly.desk.propose(self.caller, self.view.id)
        )

    def discard(self) -> None:
        """Drops the shadow."""
        desk = self.assembly.desk
        self._governed("discard_dry_run", {"dry_run_id": self.view.id}, lambda: desk.discard(self.caller, self.view.id))

    def _governed(self, verb: str, arguments: dict[str, Any], work: Any) -> Any:
        return self.assembly.governor.run(self.caller, verb, arguments, work)


@contextmanager
def dropped_at_the_end(run: Run, drop: bool) -> Iterator[None]:
    """Drops the shadow also when the command is interrupted or fails."""
    try:
        yield
    finally:
        if drop:
            run.discard()


def say_step(step: "StepResult", text: str) -> None:
    """One step: its statement, Postgres' row count, warnings and its own diff."""
    from differ.text import as_text, neutralise

    say(f"step {step.step}: {neutralise(text, 300)}")
    say(f"  {step.row_count:,} rows by Postgres' count")
    for warning in step.warnings:
        say(f"  warning: {printable(warning)}")
    say(as_text(step.diff))
    say()


def _say_net(report: dict[str, Any], dropped: bool) -> None:
    from differ.model import Diff
    from differ.text import as_text

    if "net" in report:
        say("net diff")
        say(as_text(Diff.from_json(report["net"])))
        say(f"digest of the rows: {report['digest']}")
    if "proposal" in report:
        proposal = report["proposal"]
        say(f"proposal {proposal['id']}, digest {proposal['digest']}, decision {proposal['decision']}")
    if not dropped:
        say(f"dry run {report['dry_run']['id']} stays open; look into it with `shadowdesk inspect`.")
    if "refusal" in report:
        complain(f"statement {report['refusal']['statement']}: {report['refusal']['message']}")
