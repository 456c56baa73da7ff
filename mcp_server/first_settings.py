"""Writes the guesses of `shadowdesk init` as a commented shadowdesk.toml; every guess says that it is one, and why."""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence

import psycopg

from mcp_server.errors import ConfigurationInvalid
from mcp_server.guessing import Guesses, LinkGuess, guess
from mcp_server.settings import Settings
from shadow.catalog import read_catalog
from shadow.errors import SandboxUnavailable
from shadow.fence import OUTSIDE, SHARED, SINK, build_fence
from shadow.links import LinkRule
from shadow.session import connect

_BARE = re.compile(r"^[A-Za-z0-9_-]+$")


def first_settings(guesses: Guesses, search_path: Sequence[str]) -> str:
    """The file's text. It holds no URL: the reader's may carry a password, and belongs in the environment."""
    return "\n".join([*_head(search_path), *_fence(guesses), *_tables(guesses), *_measures(guesses), *_people()]) + "\n"


def _text(value: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's as well (TOML 1.0, String)."""
    return json.dumps(value, ensure_ascii=True)


def _key(name: str) -> str:
    return name if _BARE.match(name) else _text(name)


def _comment(text: str) -> str:
    """One line of comment: a name with a line break in it must not end it."""
    return "# " + "".join(c if c.isprintable() else "?" for c in text)


def _head(search_path: Sequence[str]) -> Iterator[str]:
    yield "# Written by `shadowdesk init`. Lines marked GUESS come from names, keys and sampled values: check them,"
    yield "# then run `shadowdesk fence --count`, which counts the rows that no rule reaches."
    yield ""
    yield "[production]"
    yield "# URLs hold passwords; give them in the environment: SHADOWDESK_PRODUCTION__READER_URL, and where people"
    yield "# confirm SHADOWDESK_PRODUCTION__APPLIER_URL. `shadowdesk install` makes both roles."
    yield f"search_path = [{', '.join(_text(one) for one in search_path)}]"
    yield ""
    yield "[sandbox]"
    yield 'url = "embedded"'
    yield ""


def _fence(guesses: Guesses) -> Iterator[str]:
    root = guesses.roots[0]
    yield "[fence]"
    yield _comment(f"GUESS: {root.table} is the tenant's table: {root.reason}.")
    for other in guesses.roots[1:]:
        yield _comment(f"       or {other.table}: {other.reason}.")
    yield f"root = {_text(root.table)}"
    several = f"[{', '.join(_text(one) for one in root.key)}]"
    yield f"key = {_text(root.key[0]) if len(root.key) == 1 else several}"
    yield f"label = {_text(root.label)}"
    if guesses.tenant_column:
        yield _comment(f"GUESS: a column {guesses.tenant_column} is the tenant's, also where no foreign key says so.")
        yield f"tenant_column = {_text(guesses.tenant_column)}"
    yield ""
    for name, one in sorted(guesses.fence.tables.items(), key=lambda item: (item[1].fence_class, item[0])):
        column = f" ({', '.join(one.tenant_columns)})" if one.tenant_columns else ""
        yield _comment(f"{one.fence_class:8} {name}{column}")
    yield ""


def _tables(guesses: Guesses) -> Iterator[str]:
    for link in guesses.links:
        yield _comment(f"GUESS: {link.reason}.")
        comment = "" if link.sure else "# "
        yield f"{comment}[fence.tables.{_key(link.table)}]"
        yield f"{comment}via = {_via(link)}"
        yield ""
    for name, because in guesses.resting:
        yield _comment(f"{name} needs {because}, which the reader may not read: no shadow can hold it.")
        yield f"[fence.tables.{_key(name)}]"
        yield 'class = "outside"'
        yield ""
    for name in guesses.everybody:
        yield _comment(f"GUESS: some rows of {name} have no tenant. If they are for everybody (read-only), uncomment:")
        yield f"# [fence.tables.{_key(name)}]"
        yield '# null_tenant = "everybody"'
        yield ""
    for name, table in guesses.fence.tables.items():
        if table.fence_class == SHARED:
            yield _comment(f"{name} is shared: a dry run sees the rows its tenant refers to. Uncomment for all rows.")
            yield f"# [fence.tables.{_key(name)}]"
            yield '# rows = "all"'
            yield ""
    lost = [name for name, t in guesses.fence.tables.items() if t.fence_class == OUTSIDE]
    sinks = [name for name, t in guesses.fence.tables.items() if t.fence_class == SINK]
    if sinks:
        yield _comment(f"Written by triggers only: {', '.join(sinks)}.")
    if lost:
        yield _comment(f"Outside the fence, no dry run sees them: {', '.join(lost)}.")
    yield ""


def _via(link: LinkGuess) -> str:
    if len(link.links) == 1 and link.links[0].when is None:
        return _text(link.links[0].to)
    return f"[{', '.join(_link(one) for one in link.links)}]"


def _link(rule: LinkRule) -> str:
    when = f", when = {_text(rule.when)}" if rule.when else ""
    return f"{{ to = {_text(rule.to)}{when} }}"


def _measures(guesses: Guesses) -> Iterator[str]:
    for table, column in guesses.measures:
        yield _comment(f"GUESS: {column} of {table} looks like money.")
        yield f"[measures.{_key(f'{table}_{column}'.replace('.', '_'))}]"
        yield f"table = {_text(table)}"
        yield f"sum = {_text(_column(column))}"
        yield ""


def _column(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _people() -> Iterator[str]:
    yield "# Who may ask and confirm; `shadowdesk --help` names the commands that make tokens and keys."
    yield "# [people.alice]"
    yield '# role = "rep"'


def guessed_settings(reader_url: str, search_path: tuple[str, ...]) -> tuple[str, Guesses]:
    """The text for the database behind `reader_url` and what it rests on; it loads, and its fence can be built.

    Raises SandboxUnavailable where the database cannot be read, ConfigurationInvalid where nothing can be a tenant.
    """
    try:
        with connect(reader_url, search_path, application="shadowdesk init") as conn, conn.transaction():
            conn.execute("SET TRANSACTION READ ONLY")
            conn.execute("SET LOCAL row_security = off")
            catalog = read_catalog(conn, search_path)
            guesses = guess(conn, catalog)
    except psycopg.Error as error:
        raise SandboxUnavailable(
            f"The database could not be read ({error.sqlstate or 'no connection'}).",
            "Nothing was written.",
            "Check --reader-url: its role needs SELECT on every app table and passes row level security.",
        ) from None
    if guesses is None:
        raise ConfigurationInvalid(
            f"No table of {', '.join(search_path)} can be a tenant's: none has a key that rows are told apart by.",
            "Nothing was written.",
            "Name the app's schemas with --schema.",
        )
    text = first_settings(guesses, search_path)
    values = tomllib.loads(text)
    values["production"]["reader_url"] = reader_url
    build_fence(catalog, Settings(**values).fence_rules())
    return text, guesses
