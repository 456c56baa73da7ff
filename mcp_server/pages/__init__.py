"""The review pages: where a person, and never a model, reads a proposal and decides on it."""

from mcp_server.pages.app import pages_app

__all__ = ["pages_app"]
