"""A retail shop on ShadowDesk: the worked example of authoring domain tools, and the fidelity run."""
