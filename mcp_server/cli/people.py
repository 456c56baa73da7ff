"""`login`, `confirm`, `reject`, `proposals`: what a person does on their own terminal, proved by their personal key."""

import secrets
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.keys import proven, read_key
from mcp_server.cli.options import DEFAULT_CONFIG, Config, Json, KeyFile, Person, caller_of, opened, settings_from
from mcp_server.cli.output import printable, say, say_json, say_table

if TYPE_CHECKING:
    from mcp_server.views import ProposalView

Proposal = Annotated[str, typer.Argument(metavar="PROPOSAL")]


def register(app: typer.Typer) -> None:
    """Adds this file's commands."""
    app.command("login")(login)
    app.command("proposals")(proposals)
    app.command("confirm")(confirm)
    app.command("reject")(reject)


def login(config: Config = DEFAULT_CONFIG, person: Person = None, key_file: KeyFile = None) -> None:
    """Print a one-time link that logs you in to the review pages for this browser."""
    from mcp_server.pages.sessions import digest_of

    settings = settings_from(config)
    caller = proven(settings, "login", person, read_key(key_file, environment=True))
    with opened(settings) as assembly:
        lifetime = timedelta(seconds=settings.pages.login_ttl_s)
        token = secrets.token_urlsafe(32)
        assembly.governor.run(
            caller, "login", {}, lambda: assembly.control.create_login_link(digest_of(token), caller.name, lifetime)
        )
        base_url = str(settings.pages.base_url).rstrip("/")
    say(f"Open this once, within {int(lifetime.total_seconds()) // 60} minutes, in your own browser:")
    say(f"{base_url}/login?token={token}")


def proposals(config: Config = DEFAULT_CONFIG, person: Person = None, json: Json = False) -> None:
    """List the proposals you may see, newest first."""
    settings = settings_from(config)
    caller = caller_of(settings, person)
    with opened(settings) as assembly:
        dry_runs = assembly.governor.run(
            caller, "list_dry_runs", {}, lambda: assembly.desk.list_dry_runs(caller, None, 200)
        )
    found = [dry_run for dry_run in dry_runs if dry_run.proposal_id]
    if json:
        say_json(found)
    else:
        from differ.text import neutralise

        columns = ("proposal", "tenant", "purpose", "state", "rep")
        say_table(
            columns,
            [(d.proposal_id, neutralise(d.tenant_label, 60), neutralise(d.purpose, 80), d.state, d.rep) for d in found],
        )


def confirm(
    proposal_id: Proposal, config: Config = DEFAULT_CONFIG, person: Person = None, key_file: KeyFile = None
) -> None:
    """Show a proposal, ask for the number of rows and replay it on production.

    Needs a terminal and your personal key, typed or from --key-file; never from the environment.
    """
    from mcp_server.pages.decide import typed_rows

    _need_terminal()
    settings = settings_from(config)
    caller = proven(settings, "confirm", person, read_key(key_file, environment=False))
    with opened(settings, applier=True) as assembly:
        desk, govern = assembly.desk, assembly.governor.run
        view = govern(
            caller, "proposal_status", {"proposal_id": proposal_id}, lambda: desk.proposal(caller, proposal_id)
        )
        say_proposal(view)
        desk.expect(view)
        typed = typer.prompt(f"Number of rows to replay on production for tenant {_line(view.tenant_label)}", type=str)
        arguments = {"proposal_id": proposal_id, "digest": view.digest, "typed_rows": typed}
        receipt = govern(
            caller, "confirm", arguments, lambda: desk.confirm(caller, proposal_id, view.digest, typed_rows(typed))
        )
    say(f"Applied: {receipt.rows:,} rows in transaction {receipt.transaction_id} at {receipt.applied_at.isoformat()}.")
    for note in receipt.notes:
        say(printable(note))


def reject(
    proposal_id: Proposal,
    comment: Annotated[str, typer.Option("--comment", help="Why not; the rep reads it.")],
    config: Config = DEFAULT_CONFIG,
    person: Person = None,
    key_file: KeyFile = None,
) -> None:
    """Reject a proposal with a comment."""
    settings = settings_from(config)
    caller = proven(settings, "reject", person, read_key(key_file, environment=True))
    with opened(settings) as assembly:
        view = assembly.governor.run(
            caller,
            "reject",
            {"proposal_id": proposal_id, "comment": comment},
            lambda: assembly.desk.reject(caller, proposal_id, comment),
        )
    say(f"{view.id} is {view.state}.")


def say_proposal(view: "ProposalView") -> None:
    """The proposal as text: what a person has to read before they type the number."""
    from differ.text import as_text

    say(f"proposal {view.id} for tenant {_line(view.tenant_label)}, rehearsed by {_line(view.rep)}: {view.state}")
    say(f"asked for: {_line(view.request)}")
    for statement in view.statements:
        say(f"statement {statement.step} ({_line(statement.reason)}): {_line(statement.text)}")
    for sentence in (*view.beyond, *view.rehearsal_notes, *view.freshness, *view.reasons):
        say(f"! {_line(sentence)}")
    say(as_text(view.diff, max_rows=len(view.diff.rows)))
    say(f"digest {view.digest}")


def _line(text: str) -> str:
    from differ.text import neutralise

    return neutralise(text, 1000)


def _need_terminal() -> None:
    from mcp_server.errors import ConfirmationRefused

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfirmationRefused(
            "A confirmation on the command line needs a terminal with a person at it.",
            "Nothing was replayed.",
            "Run it in your own terminal, or confirm on the review page.",
        )
