"""The one HTML file of the MCP App, made of its three parts when the server starts; used by `offering.py`.

It needs no network: its own policy allows the script and the style that are in it, by their hashes, and nothing else.
Rules: MCP Apps (SEP-1865, 2026-01-26); Content Security Policy Level 3.
"""

import base64
import hashlib
import html
from importlib import resources

from mcp_server.views import REVIEW_PATH


def document(base_url: str) -> str:
    """The file for the review pages under `base_url`: it asks hosts to open addresses of these and no others."""
    page, style, script = (_part(name) for name in ("diff.html", "diff.css", "diff.js"))
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}';"
        " base-uri 'none'; form-action 'none'"
    )
    review = base_url.rstrip("/") + REVIEW_PATH
    filled = {"policy": policy, "review": html.escape(review), "style": style, "script": script}
    for name, text in filled.items():
        page = page.replace(f"{{{name}}}", text, 1)
    return page


def _part(name: str) -> str:
    return resources.files("mcp_server.app").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
