"""Arguments nobody should send, made from each tool's own schema, and clients that leave: nothing may change by them."""
