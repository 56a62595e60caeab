"""Flowtrail's library: records Temporal runs, steps and attempts in Postgres, by reference.

This module stays empty of imports on purpose: workflow sandboxes execute it once per workflow
instance. Import what you need from the module that says where your code runs:
`tracker.workflow`, `tracker.activity`, `tracker.temporal.plugin`, `tracker.client`.
"""

__version__ = "0.1.0"
