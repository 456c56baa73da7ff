"""`fence`, `install`, `doctor`: how production looks to ShadowDesk, and what it needs to be given."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcp_server.cli.options import DEFAULT_CONFIG, Config, Json, Person, caller_of, opened, settings_from
from mcp_server.cli.output import OK, REFUSED, complain, say, say_json, say_table
from mcp_server.cli.serve import Part

if TYPE_CHECKING:
    from mcp_server.production import Production
    from shadow.owners import Counted

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


def fence(
    config: Config = DEFAULT_CONFIG,
    person: Person = None,
    count: Annotated[
        bool, typer.Option("--count", help="Count the rows that no rule reaches: reads every tenant's row once.")
    ] = False,
    json: Json = False,
) -> None:
    """Print the certificate: every table's class, its predicate, the foreign keys followed and cut."""
    from shadow.fence import certificate

    settings = settings_from(config)
    caller = caller_of(settings, person)
    with opened(settings) as assembly:
        production = assembly.desk.production
        built = assembly.governor.run(caller, "describe_tables", {}, production.fence)
        if not json:
            say(certificate(built))
        if count:
            counts = assembly.governor.run(caller, "describe_tables", {"count": True}, lambda: _counted(production))
            _tell(counts, json=json)
        elif json:
            say_json({name: table.fence_class for name, table in built.tables.items()})


def _counted(production: "Production") -> "list[Counted]":
    from shadow.owners import count_rows, outside, weight

    fence = production.fence()
    with production.reader() as conn:
        conn.execute("SET row_security = off")
        rows, size = weight(conn, fence)
        complain(f"Counting reads about {rows:,} rows ({size / (1 << 20):,.0f} MB) of production, parents by key.")
        started = time.perf_counter()
        counts = list(count_rows(conn, fence))
    complain(f"Counted in {time.perf_counter() - started:.1f} s.")
    return [*counts, *outside(fence)]


def _tell(counts: "list[Counted]", *, json: bool) -> None:
    if json:
        say_json(counts)
        return
    columns = ("table", "class", "rows", "of one tenant", "for everybody", "of nobody", "of several")
    say_table(columns, [_cells(one) for one in counts])
    lost, torn = sum(c.nobody or 0 for c in counts), sum(c.contradicted or 0 for c in counts)
    say(f"{lost} rows of the tenants' tables are reached by no rule; {torn} are reached by more than one tenant.")
    if lost or torn:
        say("No dry run shows the former; declare a link (`via`) for them. Paths that disagree are told at the latter.")


def _cells(one: "Counted") -> tuple[object, ...]:
    counts = (one.rows, one.owned, one.everybody, one.nobody, one.contradicted)
    return (one.table, one.fence_class, *("-" if n is None else n for n in counts))


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


def doctor(
    config: Config = DEFAULT_CONFIG,
    only: Annotated[
        Part | None, typer.Option("--only", help="What this process serves, as with `serve --only`.")
    ] = None,
    json: Json = False,
) -> None:
    """Check URLs, roles and rights, and say how to mend what is wrong. Exit code 1 when something is."""
    from mcp_server.doctor import examine

    checks = examine(settings_from(config), None if only is None else only.value)
    if json:
        say_json(checks)
    else:
        say_table(("", "check", "found", "mend"), [_line(check) for check in checks])
    raise typer.Exit(OK if all(check.ok for check in checks) else REFUSED)


def _line(check: Any) -> tuple[str, str, str, str]:
    return ("ok" if check.ok else "WRONG", check.name, check.detail, "" if check.ok else check.mend)
