"""Recorded histories give the rows that stand beside them; see `record_histories`."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType

from tests.temporal.projected import Projected
from tests.temporal.record_histories import (
    CASES,
    expected_path,
    histories,
    length_of,
    projected,
    shown,
    told,
)
from tracker.core.fold import fold
from tracker.temporal.history.coverage import HANDLERS, IGNORED
from tracker.temporal.history.runs import STARTED


@pytest.mark.parametrize("path", histories(), ids=lambda path: path.stem)
def test_a_recorded_history_gives_the_recorded_rows(path: Path) -> None:
    assert shown(projected(path)) == expected_path(path).read_text()


@pytest.mark.parametrize("path", histories(), ids=lambda path: path.stem)
def test_a_projection_of_the_open_run_leaves_nothing_behind(path: Path) -> None:
    """Whatever was told while the run was open, its end gives the rows of the end alone."""
    at_the_end = told(path)
    for length in range(1, length_of(path)):
        earlier = told(path, length)
        assert shown(Projected(fold([*earlier, *at_the_end]))) == shown(projected(path))
        assert shown(Projected(fold([*at_the_end, *earlier]))) == shown(projected(path))


def test_every_case_is_recorded() -> None:
    assert {path.stem for path in histories()} == {case.__name__ for case in CASES}


def test_every_event_type_is_read_or_left_out_for_a_reason() -> None:
    read, ignored = {*HANDLERS, STARTED}, set(IGNORED)
    assert not read & ignored
    missing = set(EventType.values()) - read - ignored
    assert not missing, (
        f"map or explain {[EventType.Name(number) for number in missing]} in history/coverage.py"
    )
    assert read | ignored <= set(EventType.values())
    assert all(IGNORED.values())
