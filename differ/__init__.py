"""Row-level diffs of a shadow: what changed, where it came from, its digest and its text."""
