"""`token issue`, `token list`, `token revoke`: personal tokens for `/mcp`, where there is no identity provider.

A person proves themselves with their personal key; tokens of others need the permission `token.manage`.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.keys import proven, read_key
from mcp_server.cli.options import DEFAULT_CONFIG, Config, Json, KeyFile, Person, opened, settings_from
from mcp_server.cli.output import say, say_json, say_table

if TYPE_CHECKING:
    from mcp_server.control.records import PersonalToken

app = typer.Typer(no_args_is_help=True, help="Personal tokens for MCP clients that connect over HTTP.")

#: What the tokens of others need; one's own need no more than a role.
MANAGE = "token.manage"
For = Annotated[str | None, typer.Option("--for", help="Whose token; your own by default.", metavar="NAME")]


@app.command("issue")
def issue(
    config: Config = DEFAULT_CONFIG,
    person: Person = None,
    key_file: KeyFile = None,
    whose: For = None,
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="How long it is good.")] = 90,
    label: Annotated[str, typer.Option("--label", help="Where it will be used.")] = "",
) -> None:
    """Issue a token and print it once. It is bound to the role the person has now."""
    from mcp_server.errors import NotFound
    from mcp_server.tokens import new_token, token_digest
    from shadow.sandbox import new_id

    settings = settings_from(config)
    caller = proven(settings, "token_issue", person, read_key(key_file, environment=True))
    owner = whose or caller.name
    token = new_token()

    def act() -> "PersonalToken":
        if owner not in settings.people:
            raise NotFound(f"There is no person {owner!r} in [people].", "No token was issued.", "Add them first.")
        return assembly.control.issue_token(
            f"pt_{new_id()}", token_digest(token), person=owner, role=settings.people[owner].role, label=label,
            issued_by=caller.name, lifetime=timedelta(days=days),
        )  # fmt: skip

    with opened(settings) as assembly:
        permission = "" if owner == caller.name else MANAGE
        arguments = {"for": owner, "days": days, "label": label}
        made = assembly.governor.call(caller, "token_issue", permission, arguments, act)
    say(f"Token {made.id} of {owner} ({made.role}), good until {made.expires_at:%Y-%m-%d}. It is shown this once:")
    say(token)


@app.command("list")
def listed(
    config: Config = DEFAULT_CONFIG,
    person: Person = None,
    key_file: KeyFile = None,
    everybody: Annotated[bool, typer.Option("--all", help="Everybody's tokens.")] = False,
    json: Json = False,
) -> None:
    """List tokens, without the tokens themselves: nobody keeps those."""
    settings = settings_from(config)
    caller = proven(settings, "token_list", person, read_key(key_file, environment=True))
    with opened(settings) as assembly:
        permission = MANAGE if everybody else ""
        found = assembly.governor.call(
            caller, "token_list", permission, {"all": everybody},
            lambda: assembly.control.tokens(None if everybody else caller.name),
        )  # fmt: skip
        roles = {name: one.role for name, one in settings.people.items()}
    if json:
        say_json([{**vars(token), "state": state_of(token, roles.get(token.person))} for token in found])
    else:
        columns = ("token", "person", "role", "label", "good until", "state")
        say_table(columns, [_line(token, roles.get(token.person)) for token in found])


@app.command("revoke")
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="pt_…, as `token list` shows it.")],
    config: Config = DEFAULT_CONFIG,
    person: Person = None,
    key_file: KeyFile = None,
) -> None:
    """Revoke a token; the next request with it is refused."""
    from mcp_server.errors import NotFound

    settings = settings_from(config)
    caller = proven(settings, "token_revoke", person, read_key(key_file, environment=True))

    def act() -> "PersonalToken":
        manages = assembly.governor.permissions.decide(caller.role, MANAGE).allowed
        done = assembly.control.revoke_token(token_id, caller.name, None if manages else caller.name)
        if done is None:
            raise NotFound(
                f"There is no token {token_id} for you to revoke.",
                "Nothing was revoked.",
                "`shadowdesk token list` shows yours; one that was revoked stays so.",
            )
        return done

    with opened(settings) as assembly:
        done = assembly.governor.call(caller, "token_revoke", "", {"token_id": token_id}, act)
    say(f"Token {done.id} of {done.person} is revoked.")


def state_of(token: "PersonalToken", role: str | None) -> str:
    """`good`, or why it is not; `role` is the person's of today, None for one who left."""
    if token.revoked_at is not None:
        return f"revoked by {token.revoked_by}"
    if token.expires_at <= datetime.now(UTC):
        return "over"
    return "good" if role == token.role else "of another role"


def _line(token: "PersonalToken", role: str | None) -> tuple[str, ...]:
    from differ.text import neutralise

    shown = (token.id, neutralise(token.person, 60), token.role, neutralise(token.label, 60))
    return (*shown, f"{token.expires_at:%Y-%m-%d}", state_of(token, role))
