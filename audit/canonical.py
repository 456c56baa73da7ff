"""Any JSON a client can send, as one canonical byte string and back without loss.

Called by `event.py` for the bytes under the hash, and by the control store for recorded tool arguments.
RFC 8785 has no form for integers of 2^53 and more, NaN, infinities, lone surrogates and decimals, and writes
1.0 as 1; such values are tagged: an object of one key that starts with `$`, holding a string.
"""

import json
import math
from decimal import Decimal

import rfc8785

_NO_FORM = "the audit trail has no form for a value of type {}"

_SAFE = 2**53
#: Python refuses decimal text of more than 4300 digits; longer integers are written in base 16.
_DECIMAL_BITS = 4096


def canonical(value: object) -> bytes:
    """RFC 8785 bytes of the tagged value; equal values of equal types give equal bytes.

    Raises TypeError for values that no JSON text holds, RecursionError beyond several hundred levels.
    """
    return rfc8785.dumps(tagged(value))  # type: ignore[arg-type]


def parse(data: bytes) -> object:
    """The value that `canonical` was given; tuples come back as lists."""
    return untagged(json.loads(data))


def tagged(value: object) -> object:
    """The same value made of nothing but what RFC 8785 writes without loss."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value) if _is_text(value) else {"$text": json.dumps(value)}
    if isinstance(value, int):
        return int(value) if -_SAFE < value < _SAFE else {"$int": _digits(value)}
    if isinstance(value, float):
        exact = math.isfinite(value) and not value.is_integer()
        return float(value) if exact else {"$float": repr(float(value))}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, list | tuple):
        items: list[object] = []
        for item in value:  # a loop and no comprehension: half the stack per level
            items.append(tagged(item))
        return items
    if isinstance(value, dict):
        return _tagged_object(value)
    raise TypeError(_NO_FORM.format(type(value).__name__))


def untagged(value: object) -> object:
    """The inverse of `tagged`."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            value[index] = untagged(item)
        return value
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        [(name, inner)] = value.items()
        if name.startswith("$"):
            return _value_of(name, inner)
    for name, inner in value.items():
        value[name] = untagged(inner)
    return value


def _tagged_object(value: dict[object, object]) -> object:
    plain: dict[str, object] = {}
    ambiguous = False
    for name, inner in value.items():
        if not isinstance(name, str):
            raise TypeError(_NO_FORM.format(f"{type(name).__name__} as a key"))
        plain[name] = tagged(inner)
        ambiguous = ambiguous or not _is_text(name) or (len(value) == 1 and name.startswith("$"))
    if not ambiguous:
        return plain
    return {"$object": [[tagged(name), plain[name]] for name in sorted(plain)]}


def _value_of(tag: str, inner: object) -> object:
    if tag == "$object" and isinstance(inner, list):
        return {str(untagged(name)): untagged(item) for name, item in inner}
    if not isinstance(inner, str):
        raise ValueError(f"tag {tag} holds no text")
    match tag:
        case "$text":
            return json.loads(inner)
        case "$int":
            return int(inner, 0)
        case "$float":
            return float(inner)
        case "$decimal":
            return Decimal(inner)
        case _:
            raise ValueError("unknown tag")


def _digits(value: int) -> str:
    return str(int(value)) if value.bit_length() <= _DECIMAL_BITS else hex(value)


def _is_text(value: str) -> bool:
    """Whether the string has a UTF-8 form, that is, no lone surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
