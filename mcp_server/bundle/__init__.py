"""The bundle for Claude Desktop: the bridge, a manifest, one dependency; `make mcpb` packs what this lays out."""

from importlib.resources import files
from pathlib import Path
from string import Template

from mcp_server import __version__


def lay_out(folder: Path) -> None:
    """Writes the bundle's files into `folder`, which may exist; what else is in it stays."""
    (folder / "src").mkdir(parents=True, exist_ok=True)
    here = files(__package__)
    for name in ("manifest.json", "pyproject.toml"):
        text = Template(here.joinpath(f"{name}.in").read_text(encoding="utf-8")).substitute(version=__version__)
        (folder / name).write_text(text, encoding="utf-8")
    bridge = files("mcp_server").joinpath("bridge.py").read_text(encoding="utf-8")
    (folder / "src" / "bridge.py").write_text(bridge, encoding="utf-8")
