"""Workflows of the examples, and the inputs by which they are started."""
