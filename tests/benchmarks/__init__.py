"""Speed as ratios in one run: ours against the bare thing on the same machine; never a timed assertion."""
