"""The hub: opens connections, orders the steps of one fix, and meets people and models."""

__version__ = "0.1.0"
