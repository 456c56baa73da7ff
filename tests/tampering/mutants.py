"""The gate's rules and the grants, each taken away in turn: the list of such changes to our own source.

Read by `sharp.py`. Rules are found by their form, so that a new rule is on the list by itself: every `raise` of the
gate's modules and every call that only judges; every GRANT and REVOKE of our SQL, dropped, and every GRANT widened.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_JUDGES = re.compile(r"_?(check|refuse)")
_RIGHT = re.compile(r"(GRANT|REVOKE|ALTER DEFAULT PRIVILEGES)\b[^;]*", re.DOTALL)
_GIVEN = re.compile(r"GRANT\b.*?\bON\b", re.DOTALL)
_PACKAGES = ("shadow", "audit", "mcp_server")
#: What makes no difference, and why: (file, words of the statement) → reason. Not counted, but listed by a run.
NO_DIFFERENCE = {
    ("shadow/gate_text.py", " check_nesting"): "an early look at long texts; the whole text is looked at afterwards",
    ("", "REVOKE ALL ON SCHEMA"): "a new schema gives PUBLIC nothing; it is for one that was there before",
}


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change: bytes `start` to `end` of `path` replaced by `instead`; `name` says where and what."""

    kind: str
    path: str
    name: str
    start: int
    end: int
    instead: bytes

    def applied(self, source: bytes) -> bytes:
        """The file's text with the change."""
        return source[: self.start] + self.instead + source[self.end :]


def rules() -> Iterator[Mutant]:
    """Every refusal and every judging call of the gate, switched off."""
    for path in sorted((ROOT / "shadow").glob("gate*.py")):
        source = path.read_bytes()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Raise) and node.exc is not None:
                words = "raise"
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                words = ast.unparse(node.value.func)
                if not _JUDGES.match(words.rpartition(".")[2]):
                    continue
            else:
                continue
            start, end = _place(source, node)
            name = f"{path.name}:{node.lineno} {words}"
            yield Mutant(
                kind="gate", path=f"shadow/{path.name}", name=name, start=start, end=end, instead=b"pass"
            )  # fmt: skip


def grants() -> Iterator[Mutant]:
    """Every GRANT and REVOKE dropped, every GRANT made to give everything."""
    for package in _PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            if "demo" in path.parts or path.suffix not in (".py", ".sql"):
                continue
            source = path.read_bytes()
            found = _in_sql(source) if path.suffix == ".sql" else _in_python(source)
            for start, end, words, instead in found:
                relative = str(path.relative_to(ROOT))
                line = source[:start].count(b"\n") + 1
                name = f"{relative}:{line} {' '.join(words.split())[:90]}"
                yield Mutant(kind="grants", path=relative, name=name, start=start, end=end, instead=instead)


def reason(mutant: Mutant) -> str:
    """Why the change makes no difference; '' where it must be noticed."""
    return next(
        (why for (path, words), why in NO_DIFFERENCE.items() if path in mutant.path and words in mutant.name), ""
    )


def _place(source: bytes, node: ast.stmt | ast.expr) -> tuple[int, int]:
    """Byte offsets of a node, whose own columns are bytes as well."""
    lines = source.splitlines(keepends=True)
    before = [0]
    for line in lines:
        before.append(before[-1] + len(line))
    assert node.end_lineno is not None and node.end_col_offset is not None
    return before[node.lineno - 1] + node.col_offset, before[node.end_lineno - 1] + node.end_col_offset


def _changed(text: str) -> Iterator[tuple[int, int, str, str]]:
    """(start, end, words, instead) of each right in a script; comments and other statements are left alone."""
    for match in _RIGHT.finditer(text):
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        if "--" in line or (line.strip() and not line.rstrip().endswith(";")):
            continue
        yield match.start(), match.end(), f"drop {match[0]}", "SELECT 1"
        wide = _GIVEN.sub("GRANT ALL ON", match[0])
        if wide != match[0] and "EXECUTE" not in match[0] and not match[0].startswith("REVOKE"):
            yield match.start(), match.end(), f"widen {match[0]}", wide


def _in_sql(source: bytes) -> Iterator[tuple[int, int, str, bytes]]:
    text = source.decode("utf-8")
    for start, end, words, instead in _changed(text):
        yield len(text[:start].encode()), len(text[:end].encode()), words, instead.encode()


def _in_python(source: bytes) -> Iterator[tuple[int, int, str, bytes]]:
    tree = ast.parse(source)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            first = node.values[0]
            if isinstance(first, ast.Constant) and _RIGHT.match(str(first.value)):
                yield *_place(source, node), f"drop {first.value}", b"'SELECT 1'"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            for start, end, words, instead in _changed(node.value):
                changed = node.value[:start] + instead + node.value[end:]
                yield *_place(source, node), words, repr(changed).encode()
