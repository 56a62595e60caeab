"""The test suite. A package, so that `tests.waiting` means ours wherever pytest is started."""
