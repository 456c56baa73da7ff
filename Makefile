# The first call makes the environment by itself, with or without uv on the machine.
.PHONY: demo test lint bench fidelity faults serve mcpb conformance hostile tampering fuzz sqlsmith sharp

export UV_PYTHON_DOWNLOADS := never
PY := .venv/bin/python
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)

.venv/.ready: pyproject.toml uv.lock
	@command -v uv >/dev/null 2>&1 || test -x .tools/bin/uv || (python3 -m venv .tools && .tools/bin/pip install --quiet uv)
	@$(UV) sync --locked --quiet
	@touch $@

demo: .venv/.ready
	@$(PY) -m mcp_server demo

serve: .venv/.ready
	@$(PY) -m mcp_server demo --serve

# PRODUCTION=15, 18 or all: the server that stands for production; 15 is Debian's.
PRODUCTION ?= 18

# A file's tests stay with one worker, in the files' order: a module's servers start once, and the long files are not last.
test: .venv/.ready
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --production $(PRODUCTION)

lint: .venv/.ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: .venv/.ready
	$(PY) -m tests.benchmarks

fidelity: .venv/.ready
	$(PY) -m tests.retail run --sessions ../shared/data/support-retail/sessions.jsonl --json fidelity.json

faults: .venv/.ready
	$(PY) -m tests.faults --count 200 --json faults.json

# The bundle for Claude Desktop, checked and packed by the official tool (Node is needed for that alone).
MCPB := npx --yes @anthropic-ai/mcpb@2.1.2

mcpb: .venv/.ready
	rm -rf dist/mcpb && $(PY) -m mcp_server.bundle dist/mcpb
	$(MCPB) validate dist/mcpb/manifest.json
	$(MCPB) pack dist/mcpb dist/shadowdesk.mcpb

# The official MCP suite against our governance, and the inspector against our tools; both come from npm.
conformance: .venv/.ready
	$(PY) -m tests.conformance

# Hostile arguments to every tool, page and command, and a thousand calls at once; nothing may change by them.
hostile: .venv/.ready
	$(PY) -m tests.hostile

# The corpus of hostile and harmless statements on the whole stack, from MCP client to replay.
tampering: .venv/.ready
	$(PY) -m tests.tampering

# A million mutated statements against the gate.
fuzz: .venv/.ready
	SHADOWDESK_MUTATIONS=1000000 $(PY) -m pytest -q -s tests/unit/test_gate_fuzz.py

# 20,000 statements of Debian's sqlsmith (package sqlsmith) as a shadow's role: nothing outside the shadow may change.
sqlsmith: .venv/.ready
	$(PY) -m tests.tampering.sqlsmith --json sqlsmith.json

# Each rule of the gate and each grant taken away in turn: do the tests notice?
sharp: .venv/.ready
	$(PY) -m tests.tampering.sharp --json sharp.json
