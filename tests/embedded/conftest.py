"""A short folder, outside those of pytest, which PostgreSQL's system user cannot pass as root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="flowtrail-") as name:
        yield Path(name)
