"""The gate's first look: bytes, characters, tokens and nesting, before any parser sees the whole statement.

A parser can crash on long or deep input, and a control character can hide text from the person who confirms.
"""

import re
import unicodedata
from dataclasses import dataclass

import postgast
from postgast import pg_query_pb2 as pg

from shadow.errors import StatementRefused
from shadow.statement import GateLimits

#: Control characters (but tab and line ends), 8-bit controls, line separators, and characters that turn the
#: direction of the text round: what a person reads must be what runs.
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
#: Runs of operator signs cost the scanner time by the square of their length (60,000 of them: 40 s).
_SIGNS = re.compile(r"[~!@#^&|`?+\-*/%<>=]{201}")
_HIDDEN = frozenset({"Cf", "Cc", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
#: Numbers that older grammars read as a number and an alias: 0x1F, 1_000.
_ODD_NUMBER = re.compile(r"_|^0[xXoObB]")
_NAME_BYTES = 63
_MAX_CHAIN = 60  # joins, or arms of a UNION: each one nests the tree a level deeper
#: Tokens after which a long text's nesting is looked at: reading all the rest takes ten times as long.
_FIRST_LOOK = 600
_MAX_COPIES = 100_000  # the parser copies the source of SET (a, b, …) = source once per column

_COMMENTS = frozenset({pg.SQL_COMMENT, pg.C_COMMENT})
_CONSTANTS = frozenset({pg.SCONST, pg.ICONST, pg.FCONST, pg.BCONST, pg.XCONST, pg.PARAM, pg.IDENT})
_NUMBERS = frozenset({pg.ICONST, pg.FCONST})
#: Words that begin a new, flat part of a statement. All are reserved, so none can be a bare column name.
_RESETS = frozenset(", ; AND OR WHEN THEN ELSE WHERE ON SELECT GROUP ORDER HAVING RETURNING".split())
_CHAINS = frozenset({"JOIN", "UNION", "INTERSECT", "EXCEPT"})


@dataclass(frozen=True, slots=True)
class Token:
    """One token without comments: byte range, scanner's kind, upper-case text of words and signs (else empty)."""

    start: int
    end: int
    kind: int
    text: str


def shown(text: str) -> str:
    """A piece of the author's text for a message: quoted, cut, and without line ends."""
    clean = " ".join(text.split())
    return f"“{clean[:60]}{'…' if len(clean) > 60 else ''}”"


def refused(happened: str, instead: str) -> StatementRefused:
    """The gate's one kind of error: why, that nothing ran, and what to do instead."""
    return StatementRefused(happened, "Nothing ran.", instead)


def check_bytes(text: str, limits: GateLimits) -> bytes:
    """The statement's UTF-8 bytes; refuses what is no plain text or too long."""
    if not isinstance(text, str):
        raise refused("The statement is not text.", "Send the statement as one string.")
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise refused("The statement holds half a character (a lone surrogate).", "Send valid Unicode text.") from error
    if len(raw) > limits.max_bytes:
        raise refused(
            f"The statement is {len(raw)} bytes long; {limits.max_bytes} are allowed.",
            "Split it into several steps, or send long values as parameters ($1, $2, …).",
        )
    unsafe = _UNSAFE.search(text)
    if unsafe:
        raise refused(
            f"The statement holds the control character U+{ord(unsafe.group()):04X}, which would hide what it does.",
            "Leave it out; if it belongs to a value, send that value as a parameter ($1).",
        )
    if _SIGNS.search(text):
        raise refused(
            "The statement holds more than 200 operator signs in a row.",
            "Leave lines of dashes or stars out; send a value that holds them as a parameter ($1).",
        )
    return raw


def check_params(params: tuple[str | None, ...], limits: GateLimits) -> None:
    """Refuses parameters that are neither text nor null, cannot be sent to Postgres, or are too long."""
    if len(params) > limits.max_params:
        raise refused(
            f"{len(params)} parameters are too many; {limits.max_params} are allowed.",
            "Split it into several steps.",
        )
    size = 0
    for number, value in enumerate(params, start=1):
        if value is None:
            continue
        if not isinstance(value, str):
            raise refused(
                f"Parameter ${number} is neither text nor null.",
                "Send every parameter as text, the way Postgres writes it: '17', 'true', '{a,b}', '2026-12-01'.",
            )
        size += _param_bytes(number, value)
    if size > limits.max_param_bytes:
        raise refused(
            f"The parameters are {size} bytes long; {limits.max_param_bytes} are allowed.",
            "Send shorter values.",
        )


def _param_bytes(number: int, value: str) -> int:
    if "\x00" in value:
        raise refused(f"Parameter ${number} holds a NUL character.", "Postgres cannot store it: leave it out.")
    try:
        return len(value.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise refused(
            f"Parameter ${number} holds half a character (a lone surrogate).", "Send valid Unicode text."
        ) from error


def scan(raw: bytes, text: str, limits: GateLimits) -> tuple[Token, ...]:
    """The statement's tokens without comments; refuses spellings that hide or that versions read differently."""
    try:
        scanned = postgast.scan(text).tokens
    except (postgast.PgQueryError, UnicodeError) as error:
        raise refused(
            f"The statement cannot be read: {_reason(error)}.", "Check its quotes, dollar signs and comments."
        ) from error
    if len(scanned) > limits.max_tokens:
        raise refused(
            f"The statement has {len(scanned)} words and signs; {limits.max_tokens} are allowed.",
            "Split it into several steps.",
        )
    tokens = []
    for found in scanned:
        if found.token in _COMMENTS:
            continue
        piece = raw[found.start : found.end]
        _check_spelling(found.token, piece)
        word = "" if found.token in _CONSTANTS else piece.decode("utf-8").upper()
        tokens.append(Token(found.start, found.end, found.token, word))
        if len(tokens) == _FIRST_LOOK:
            check_nesting(tuple(tokens), limits)
    if not tokens:
        raise refused("There is no statement in the text.", "Write one SELECT, INSERT, UPDATE, DELETE or MERGE.")
    return tuple(tokens)


def _reason(error: Exception) -> str:
    return shown(error.message) if isinstance(error, postgast.PgQueryError) else "its characters are not valid"


def _check_spelling(kind: int, piece: bytes) -> None:
    if kind == pg.SCONST:
        if piece[:1] in b"eE":
            raise refused(
                "Escape strings such as E'…' are not accepted: a person reads them wrongly.",
                "Write the text itself between plain quotes, or send it as a parameter ($1).",
            )
    elif kind in (pg.USCONST, pg.UIDENT):
        raise refused(
            "Texts and names with Unicode escapes (U&'…') are not accepted.",
            "Write the characters themselves, or send a value as a parameter ($1).",
        )
    elif kind in _NUMBERS:
        if _ODD_NUMBER.search(piece.decode("ascii", "replace")):
            raise refused(
                f"The number {shown(piece.decode('utf-8', 'replace'))} is read differently by other Postgres versions.",
                "Write it as plain decimal digits.",
            )
    elif kind == pg.IDENT:
        _check_name(piece)


def _check_name(piece: bytes) -> None:
    if len(piece) > _NAME_BYTES + 2:
        raise refused("A name is longer than the 63 bytes Postgres keeps.", "Use the name as the table has it.")
    if piece.isascii():
        return
    for sign in piece.decode("utf-8", "replace"):
        if sign > "\x7f" and unicodedata.category(sign) in _HIDDEN:
            raise refused(
                f"A name holds the invisible character U+{ord(sign):04X}.",
                "Write names with visible characters only; a value goes between single quotes or into a parameter.",
            )


def check_nesting(tokens: tuple[Token, ...], limits: GateLimits) -> None:
    """Refuses text whose parse tree could be deep or much larger than the text: an upper bound from its tokens."""
    nesting = _Nesting(limits.max_depth)
    label = False
    for place, token in enumerate(tokens):
        following = tokens[place + 1].text if place + 1 < len(tokens) else ""
        nesting.step("" if label and token.text != "(" else token.text, following)
        label = token.text in (".", "AS")
    if nesting.widest * len(tokens) > _MAX_COPIES:
        raise refused("SET (…) = … assigns too many columns at once.", "Assign them one by one, or in several steps.")


@dataclass(slots=True)
class _Level:
    """One open bracket or CASE: how many links its current chain has, open BETWEENs, commas so far."""

    opener: str
    chain: int = 0
    between: int = 0
    commas: int = 0


class _Nesting:
    """Counts, token by token, how deep the parse tree can be at most; raises as soon as it is too deep."""

    def __init__(self, max_depth: int) -> None:
        self._levels = [_Level("")]
        self._depth = 0
        self._brackets = 0
        self._joined = 0
        self._max_depth = max_depth
        self.widest = 0

    def step(self, word: str, following: str) -> None:
        top = self._levels[-1]
        if not word:
            return
        if word in ("(", "[", "CASE"):
            self._levels.append(_Level(word))
            self._brackets += word != "CASE"
            self._depth += 1
        elif word in (")", "]"):
            self._close(following)
        elif word == "END" and top.opener == "CASE":
            self._pop()
        elif word in _RESETS and not (word == "AND" and top.between):
            self._depth -= top.chain
            top.chain = 0
            top.commas += word == ","
        else:
            self._link(word, top)
        if self._depth > self._max_depth or self._joined > _MAX_CHAIN:
            raise too_deep()

    def _link(self, word: str, top: _Level) -> None:
        top.between += (word == "BETWEEN") - (word == "AND")
        top.chain += 1
        self._depth += 1
        self._joined += word in _CHAINS
        if word == "SET" and self._brackets > 1:
            raise refused(
                "A data-changing WITH query must stand at the top of the statement.",
                "Put it in the first WITH clause (a column named set goes in double quotes).",
            )

    def _close(self, following: str) -> None:
        while len(self._levels) > 1:
            opener = self._levels[-1].opener
            if following == "=":
                self.widest = max(self.widest, self._levels[-1].commas + 1)
            self._pop()
            if opener != "CASE":
                self._brackets -= 1
                return

    def _pop(self) -> None:
        self._depth -= self._levels.pop().chain + 1


def too_deep() -> StatementRefused:
    """The refusal for nesting beyond what can be checked."""
    return refused(
        "The statement is nested too deeply to check.",
        "Write it flatter: several steps, concat(…) for long || chains, IN (…) or VALUES for long OR and UNION chains.",
    )
