"""Hostile and harmless statements, and what holds after each of them: the corpus, the runner and its tests."""
