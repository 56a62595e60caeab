"""The Temporal side: plugin, interceptors, and history as the source of truth.

Imports nothing here: import the module that you need, e.g. `tracker.temporal.plugin`.
"""
