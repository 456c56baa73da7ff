"""The import rule: `mcp_server` is the hub; `shadow`, `differ` and `audit` are leaves that import nothing of ours."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("mcp_server", "shadow", "differ", "audit")
ALLOWED = {"shadow": {"shadow"}, "differ": {"differ"}, "audit": {"audit"}, "mcp_server": set(PACKAGES)}
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
#: One home file (or family of files) per third-party library, where that is natural (design 6).
HOMES = {
    "postgast": ("shadow/gate", "mcp_server/cli/"),
    "deepdiff": ("differ/",),
    "rfc8785": ("differ/digest", "audit/", "mcp_server/control/"),
    "alembic": ("mcp_server/control/", "audit/"),
    "typer": ("mcp_server/cli/",),
    "jinja2": ("mcp_server/pages/",),
    "docker": ("shadow/sandbox_docker.py",),
}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path}: relative import")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name.split(".")[0] for name in imported(path)} & set(PACKAGES)
    assert ours <= ALLOWED[package], f"{path} imports {ours - ALLOWED[package]}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_library_stays_in_its_home(path: Path) -> None:
    place = str(path.relative_to(ROOT))
    for name in imported(path):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or place.startswith(homes), f"{place} imports {name}, whose home is {homes}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_opens_with_what_it_does_and_none_is_too_long(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path} has no opening sentence"
    assert len(text.splitlines()) <= 400


def test_docker_is_no_package() -> None:
    """With an `__init__.py` our folder would hide the docker SDK."""
    assert not (ROOT / "docker" / "__init__.py").exists()
