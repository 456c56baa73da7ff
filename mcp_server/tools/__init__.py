"""The tools of the MCP surface: the built-in ones, and what runs an engineer's domain tools."""
