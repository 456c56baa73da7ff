"""The control store: dry runs, statements, proposals, confirmations, escalations, log-in links and page sessions."""
