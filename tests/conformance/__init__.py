"""The official MCP conformance suite against our governance on a fixture server, and the inspector on our own tools."""
