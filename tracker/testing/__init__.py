"""For users' own tests: a pytest plugin with a real tracker, and assertions on recorded runs.

Installed with flowtrail, pytest finds it by itself; ask for the fixture `flowtrail`. Needs the
extras `worker`, `server` and `embedded`.
"""
