"""Measurements behind docs/benchmarks.md, one module each: `python -m benchmarks.overhead`.

Each starts the embedded servers itself, runs both sides in one process run, prints a table and, as
its last line, one JSON object. Machines differ: quote ratios.
"""
