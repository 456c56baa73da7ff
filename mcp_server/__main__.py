"""`python -m mcp_server`: the same command line as `shadowdesk`."""

from mcp_server.cli import main

main()
