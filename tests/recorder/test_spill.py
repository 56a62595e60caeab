"""The spill file: what is appended comes back, whatever happened to the process or the disk."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.recorder.spill import Spill, SpillFull

LIMIT = 1_000_000


def read_all(folder: Path) -> list[bytes]:
    """Adopt every file of a folder, as a recorder does, and remove it."""
    found: list[bytes] = []
    for reader in Spill(folder, LIMIT).waiting():
        found.extend(reader.records())
        reader.done()
    return found


def test_nothing_is_created_before_the_first_record(tmp_path: Path) -> None:
    folder = tmp_path / "spill"
    assert list(Spill(folder, LIMIT).waiting()) == []
    assert not folder.exists()


@settings(max_examples=30)
@given(records=st.lists(st.binary(max_size=2000), max_size=20), cut=st.integers(0, 60))
def test_a_torn_tail_costs_only_what_it_tore(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("spill")
    spill = Spill(folder, LIMIT)
    for record in records:
        spill.append(record)
    spill.close()
    for path in folder.iterdir():
        os.truncate(path, max(0, path.stat().st_size - cut))
    ends = [sum(8 + len(r) for r in records[: n + 1]) for n in range(len(records))]
    total = ends[-1] if ends else 0
    assert read_all(folder) == [
        r for r, end in zip(records, ends, strict=True) if end <= total - cut
    ]


def test_a_flipped_bit_ends_the_reading(tmp_path: Path) -> None:
    spill = Spill(tmp_path, LIMIT)
    for record in (b"first", b"second", b"third"):
        spill.append(record)
    spill.close()
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[8 + 5 + 8] ^= 1
    path.write_bytes(data)
    assert read_all(tmp_path) == [b"first"]


def test_the_limit_is_kept_and_what_fits_stays(tmp_path: Path) -> None:
    spill = Spill(tmp_path, limit=100)
    spill.append(b"x" * 50)
    with pytest.raises(SpillFull):
        spill.append(b"x" * 50)
    spill.close()
    assert read_all(tmp_path) == [b"x" * 50]


def test_files_are_private(tmp_path: Path) -> None:
    spill = Spill(tmp_path / "spill", LIMIT)
    spill.append(b"secret")
    (path,) = (tmp_path / "spill").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    spill.close()


def test_a_live_holder_keeps_its_file(tmp_path: Path) -> None:
    holder = Spill(tmp_path, LIMIT)
    holder.append(b"mine")
    assert read_all(tmp_path) == []
    holder.close()
    assert read_all(tmp_path) == [b"mine"]


def test_the_file_of_a_killed_process_is_adopted_once(tmp_path: Path) -> None:
    program = f"""
        import os, pathlib, signal
        from tracker.recorder.spill import Spill
        spill = Spill(pathlib.Path({str(tmp_path)!r}), {LIMIT})
        spill.append(b"left behind")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert killed.returncode == -9
    first, second = Spill(tmp_path, LIMIT), Spill(tmp_path, LIMIT)
    (reader,) = first.waiting()
    assert list(second.waiting()) == []
    assert list(reader.records()) == [b"left behind"]
    reader.done()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_and_leaves_no_torn_record(tmp_path: Path) -> None:
    spill = Spill(tmp_path, LIMIT)
    spill.append(b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel takes the first 100 bytes and refuses the rest, as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(SpillFull):
            spill.append(b"x" * 500)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    spill.append(b"after")
    spill.close()
    assert read_all(tmp_path) == [b"before", b"after"]
