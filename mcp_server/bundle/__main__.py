"""`python -m mcp_server.bundle FOLDER`: lays the bundle out; called by `make mcpb`."""

import sys
from pathlib import Path

from mcp_server.bundle import lay_out

lay_out(Path(sys.argv[1]))
