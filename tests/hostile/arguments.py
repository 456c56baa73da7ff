"""Arguments that no honest client sends, drawn by hypothesis from a JSON Schema; used by attack.py for every tool.

Each case names what is wrong with it: something missing, something nobody asked for, a wrong type, a bound passed, a
huge or a deep value, a hostile text. `fits` says by the schema itself whether a call had to be refused.
"""

import json
from collections.abc import Mapping
from typing import Any

import jsonschema
from hypothesis import strategies as st

from tests.hostile.values import NASTY as STORED

#: Texts that are markup, terminal codes, instructions, paths, patterns, or no text at all somewhere.
NASTY = (
    "",
    "\0",
    "\ud800",
    "null",
    "' OR 1=1; DROP TABLE accounts --",
    "$$; COMMIT; --",
    "../../../../etc/passwd",
    "${jndi:ldap://x}",
    "dr_aaaaaaaaaaaa",
    "pr_aaaaaaaaaaaa",
    "\r\nSet-Cookie: a=b\r\n\r\n",
    "9" * 400,
    "é" * 70_000,
    "(" * 20_000,
    *(one.payload for one in STORED),
)
WRONG = (None, True, -1, 2**63, 1e308, [], {}, ["x"], {"a": {"b": "c"}}, "x")
Schema = Mapping[str, Any]
Case = tuple[str, dict[str, Any]]


def nested(depth: int) -> Any:
    """A list in a list in a list …"""
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


def fitting(schema: Schema, whole: Schema) -> st.SearchStrategy[Any]:
    """Values that fit, for the part of JSON Schema that our tools use; `whole` holds the definitions."""
    if "$ref" in schema:
        return fitting(whole["$defs"][str(schema["$ref"]).rsplit("/", 1)[1]], whole)
    if "anyOf" in schema:
        return st.one_of([fitting(one, whole) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "null": st.none(),
        "boolean": st.booleans(),
        "integer": st.integers(schema.get("minimum", -(2**31)), schema.get("maximum", 2**31)),
        "number": st.floats(allow_nan=False, allow_infinity=False),
        "string": st.text(min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 40), 40)),
        "object": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    }
    if schema.get("type") == "array":
        return st.lists(fitting(schema.get("items", {}), whole), max_size=3)
    return kinds.get(str(schema.get("type")), st.text(max_size=20))


def hostile(schema: Schema, known: Mapping[str, Any]) -> st.SearchStrategy[Case]:
    """(what is wrong, the arguments) for a tool's input schema; `known` holds values for names that mean something."""
    properties: Mapping[str, Schema] = schema.get("properties", {})
    good = st.fixed_dictionaries(
        {name: st.just(known[name]) if name in known else fitting(one, schema) for name, one in properties.items()}
    )
    ways = [_extra(good)]
    if properties:
        names = st.sampled_from(sorted(properties))
        ways += [_replaced(good, names, what, values) for what, values in _bad_values().items()]
        ways += [_replaced(good, names, "past its bound", _past_bounds(properties)), _mixed(good, sorted(properties))]
    if required := sorted(schema.get("required", ())):
        ways.append(st.tuples(good, st.sampled_from(required)).map(lambda drawn: _without(*drawn)))
    return st.one_of(ways)


def _bad_values() -> dict[str, st.SearchStrategy[Any]]:
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    )
    return {
        "of a wrong type": st.sampled_from(WRONG) | json_values,
        "hostile": st.sampled_from(NASTY),
        "hostile in a list": st.sampled_from(NASTY).map(lambda text: [text] * 3),
        "deep": st.integers(30, 200).map(nested),
        "long": st.sampled_from((["x"] * 20_000, "x" * 300_000, {str(n): n for n in range(3_000)})),
    }


def _past_bounds(properties: Mapping[str, Schema]) -> st.SearchStrategy[Any]:
    """One less than a minimum, one more than a maximum, of any of the properties."""
    past: list[Any] = [""]
    for one in (part for schema in properties.values() for part in (schema, *schema.get("anyOf", ()))):
        past += [one["minimum"] - 1] if "minimum" in one else []
        past += [one["maximum"] + 1] if "maximum" in one else []
        past += ["y" * (one["maxLength"] + 1)] if "maxLength" in one else []
        past += [["y"] * (one["maxItems"] + 1)] if "maxItems" in one else []
    return st.sampled_from(past)


def _extra(good: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Case]:
    odd = st.sampled_from(("nobody_asked", "\x1b[31m<b>", "person", "role", "dry_run_id ", "__class__")) | st.text()
    values = st.sampled_from((1, "engineer", NASTY[4], {"a": 1}))
    few = st.tuples(good, odd, values).map(lambda d: ("with one nobody asked for", {d[1]: d[2], **d[0], d[1]: d[2]}))
    many = good.map(lambda given: ("with thousands nobody asked for", {**given, **{f"e{n}": n for n in range(2_000)}}))
    return few | many


def _replaced(
    good: st.SearchStrategy[dict[str, Any]],
    names: st.SearchStrategy[str],
    what: str,
    values: st.SearchStrategy[Any],
) -> st.SearchStrategy[Case]:
    return st.tuples(good, names, values).map(lambda d: (f"{d[1]} {what}", {**d[0], d[1]: d[2]}))


def _mixed(good: st.SearchStrategy[dict[str, Any]], names: list[str]) -> st.SearchStrategy[Case]:
    bad = st.dictionaries(st.sampled_from(names), st.sampled_from((*NASTY, *WRONG)), min_size=1)
    return st.tuples(good, bad).map(lambda drawn: ("a mixture", {**drawn[0], **drawn[1]}))


def _without(given: dict[str, Any], name: str) -> Case:
    return f"without {name}", {key: value for key, value in given.items() if key != name}


def fits(schema: Schema, arguments: Mapping[str, Any]) -> bool:
    """Whether the arguments are what the schema wants, also where a scalar or a list came as JSON text.

    That much our tools read for clients that send every value as text (pydantic's conversion table, lax mode).
    """
    validator = jsonschema.Draft202012Validator(schema)
    read = {name: _read(value) for name, value in arguments.items()}
    mixed = [{**arguments, name: value} for name, value in read.items()]
    return any(validator.is_valid(one) for one in (dict(arguments), read, *mixed))


def _read(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value
