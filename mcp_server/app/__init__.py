"""The MCP App: a host draws a diff or proposal in the chat with it; it leads to the review page and decides nothing."""
