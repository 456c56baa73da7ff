"""`fence`, `install`, `doctor`: how production looks to ShadowDesk, and what it needs to be given."""

from typing import Annotated, Any

import typer

from mcp_server.cli.options import DEFAULT_CONFIG, Config, Json, Person, caller_of, opened, settings_from
from mcp_server.cli.output import OK, REFUSED, say, say_json, say_table

OwnerUrl = Annotated[
    str,
    typer.Option(
        "--owner-url",
        envvar="SHADOWDESK_OWNER_URL",
        help="URL of production as the owner of its tables; used for this command only.",
        metavar="URL",
    ),
]


def register(app: typer.Typer) -> None:
    """Adds this file's commands."""
    app.command("fence")(fence)
    app.command("install")(install)
    app.command("doctor")(doctor)


def fence(config: Config = DEFAULT_CONFIG, person: Person = None) -> None:
    """Print the certificate: every table's class, its predicate, the foreign keys followed and cut."""
    from shadow.fence import certificate

    settings = settings_from(config)
    caller = caller_of(settings, person)
    with opened(settings) as assembly:
        built = assembly.governor.run(caller, "describe_tables", {}, assembly.desk.production.fence)
    say(certificate(built))


def install(
    owner_url: OwnerUrl,
    config: Config = DEFAULT_CONFIG,
    apply: Annotated[bool, typer.Option("--apply", help="Run the SQL instead of printing it.")] = False,
) -> None:
    """Print, or apply, the SQL that makes production's `shadowdesk` schema and its two roles."""
    import psycopg

    from mcp_server.install import install_sql, new_passwords
    from shadow.errors import SandboxUnavailable

    schemas = settings_from(config).production.search_path
    passwords = new_passwords()
    try:
        with psycopg.connect(owner_url) as conn:
            script = install_sql(conn, schemas, passwords)
            if apply:
                conn.execute(script.encode())
    except psycopg.Error as error:
        raise SandboxUnavailable(
            f"Production's owner could not run the script ({error.sqlstate or 'no connection'}).",
            "Nothing was installed: the script is one transaction.",
            "Check --owner-url and that it may create roles and schemas.",
        ) from None
    if apply:
        say("Installed. These passwords are shown once; put them in reader_url and applier_url:")
        for role, password in passwords.items():
            say(f"{role} {password}")
    else:
        say(script)


def doctor(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Check URLs, roles and rights, and say how to mend what is wrong. Exit code 1 when something is."""
    from mcp_server.doctor import examine

    checks = examine(settings_from(config))
    if json:
        say_json(checks)
    else:
        say_table(("", "check", "found", "mend"), [_line(check) for check in checks])
    raise typer.Exit(OK if all(check.ok for check in checks) else REFUSED)


def _line(check: Any) -> tuple[str, str, str, str]:
    return ("ok" if check.ok else "WRONG", check.name, check.detail, "" if check.ok else check.mend)
