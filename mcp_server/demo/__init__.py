"""The demo: a small business, its domain tools, and the story that `shadowdesk demo` tells with them."""
