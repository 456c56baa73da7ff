"""The tenant's key as one text, which names the tenant in tools, records, receipts and tokens.

Used wherever the fence becomes SQL. A key of one column is Postgres' own text of it; a key of several columns is a JSON
array of such texts, as jsonb writes it: `["eu", "1"]`.
"""

import json
from collections.abc import Sequence

from psycopg import sql

from shadow.errors import TenantNotFound


def key_columns(key: str | Sequence[str]) -> tuple[str, ...]:
    """The columns that TOML or a recording names: one as plain text, several as a list."""
    return (key,) if isinstance(key, str) else tuple(key)


def key_text(columns: Sequence[str], alias: str | None = None) -> sql.Composable:
    """An expression for the key's text of a row (of `alias`)."""
    texts = [sql.SQL("{}::text").format(sql.Identifier(*filter(None, (alias, column)))) for column in columns]
    if len(texts) == 1:
        return texts[0]
    return sql.SQL("jsonb_build_array({})::text").format(sql.SQL(", ").join(texts))


def key_parts(text: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Each column's own text. Raises TenantNotFound where the text is no key of that many columns."""
    if len(columns) == 1:
        return (text,)
    try:
        parts = json.loads(text)
    except ValueError:
        parts = None
    if not isinstance(parts, list) or len(parts) != len(columns) or not all(isinstance(one, str) for one in parts):
        raise TenantNotFound(
            f"A tenant's key is made of {', '.join(columns)} here; what was given is not.",
            "Nothing ran.",
            "Look the key up with find_tenant and use it as it is written there.",
        )
    return tuple(parts)
