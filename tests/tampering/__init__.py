"""Hostile and benign statements through the whole stack: MCP client, gate, shadow, proposal, confirmation, replay.

`python -m tests.tampering FILE [--json OUT]` runs any file of the corpus' form (`tests/corpus/README.md`).
"""
