"""Where files go that nobody keeps."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tracker.embedded import scratch


def test_memory_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "ROOM", 1)
    assert scratch.scratch_root(tmp_path) == tmp_path


def test_the_usual_folder_where_memory_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "ROOM", 2**62)
    assert scratch.scratch_root(tmp_path) == Path(tempfile.gettempdir())


def test_the_usual_folder_where_there_is_no_memory(tmp_path: Path) -> None:
    assert scratch.scratch_root(tmp_path / "none") == Path(tempfile.gettempdir())
