"""`shadowdesk audit verify|tail|export`: the audit trail for operators; an export verifies with nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.options import DEFAULT_CONFIG, Config, Json, Person, caller_of, opened, settings_from
from mcp_server.cli.output import say, say_json, say_table

if TYPE_CHECKING:
    from audit.event import AuditEvent

app = typer.Typer(no_args_is_help=True, help="The audit trail.", pretty_exceptions_enable=False)

Trust = Annotated[
    list[str] | None, typer.Option("--trust", help="A public key (hex) that may have signed; others are refused.")
]


@app.command()
def verify(
    file: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False, metavar="EXPORT", help="An export; without it the live trail."),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Recompute every hash and hold the chain against its signed checkpoints. Exit code 1 when it does not verify."""
    from audit.verify import verify_export, verify_store

    trusted = _keys(trust)
    if file is not None:
        with file.open("rb") as lines:
            report = verify_export(lines, trusted=trusted)
    else:
        with opened(settings_from(config)) as assembly:
            report = verify_store(assembly.audit, assembly.checkpoints.all(), trusted=trusted)
    if json:
        say_json(
            {
                "events": report.events, "head": report.head.hash.hex(), "checkpoints": report.checkpoints,
                "covered_to": report.covered_to, "unfinished": report.unfinished, "keys": list(report.keys),
            }
        )  # fmt: skip
        return
    say(f"verified: {report.events:,} events, head {report.head.hash.hex()}")
    say(f"{report.checkpoints:,} checkpoints cover the first {report.covered_to:,} events; signed by:")
    for key in report.keys:
        say(f"  {key}")
    if report.unfinished:
        say(f"{report.unfinished:,} calls have no outcome: they run now, or wait to be closed as lost.")


@app.command()
def tail(
    config: Config = DEFAULT_CONFIG,
    person: Person = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many of the newest events.")] = 20,
    json: Json = False,
) -> None:
    """Print the newest events, the newest last."""
    settings = settings_from(config)
    caller = caller_of(settings, person)
    with opened(settings) as assembly:
        events = assembly.governor.run(caller, "audit_tail", {"limit": limit}, lambda: assembly.audit.tail(limit))
    events = list(reversed(events))
    if json:
        say_json(events)
    else:
        say_table(("event", "time", "person", "what", "kind", "outcome", "about"), [_line(event) for event in events])


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to; must not exist yet.")],
    config: Config = DEFAULT_CONFIG,
    person: Person = None,
) -> None:
    """Write the whole trail and its checkpoints to one file, which `audit verify FILE` checks alone."""
    import os

    from audit import export as exporting

    if output.exists():
        raise typer.BadParameter(f"{output} exists already")
    settings = settings_from(config)
    caller = caller_of(settings, person)
    with opened(settings) as assembly:
        # The trail holds row values: the file is its owner's alone from the first byte.
        with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            last = assembly.governor.run(
                caller,
                "audit_export",
                {"output": output.name},
                lambda: exporting.export(assembly.audit, assembly.checkpoints, out),
            )
    say(f"{output}: {last.head.seq:,} events, signed by {last.public_key.hex()}")


def _keys(texts: list[str] | None) -> frozenset[bytes] | None:
    try:
        return frozenset(bytes.fromhex(text) for text in texts) if texts else None
    except ValueError:
        raise typer.BadParameter("--trust takes the hexadecimal public key that an export prints") from None


def _line(event: "AuditEvent") -> tuple[str, ...]:
    from differ.text import neutralise

    about = event.proposal_id or event.dry_run_id or ""
    return (
        str(event.seq),
        event.at.isoformat(sep=" ", timespec="seconds"),
        neutralise(f"{event.person} ({event.role})", 60),
        neutralise(event.tool, 60),
        event.kind,
        neutralise(event.outcome or "", 60),
        neutralise(about, 60),
    )
