"""Append-only files for batches that Postgres does not take now.

One file per process, held by a lock for as long as the process lives; the next recorder that finds
a file without a holder adopts it. A record is a length, a checksum and the encoded batch; a torn
tail, left by a crash in mid-write, ends the reading and harms nothing before it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from tracker.core.ids import new_id

logger = logging.getLogger(__name__)

_HEAD = struct.Struct(">II")
_SUFFIX = ".spill"
_RECORD_MAX = 64 * 1024 * 1024


class SpillFull(Exception):
    """The spill file has reached its limit, or its disk is full."""


class RecordTooLarge(SpillFull):
    """One record is larger than a reader would believe."""


class Spill:
    """The spill file of this recorder and the adoption of abandoned ones.

    Nothing is created on disk before the first append. Not thread-safe: one recorder owns it.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._own: _SpillFile | None = None

    @property
    def size(self) -> int:
        """Bytes waiting in this process's own file."""
        return 0 if self._own is None else self._own.size

    def append(self, record: bytes) -> None:
        """Keep a record.

        Raises:
            RecordTooLarge: A smaller one may fit.
            SpillFull: If it does not fit, or the disk refuses it.
        """
        if len(record) > _RECORD_MAX:
            raise RecordTooLarge(f"a record of {len(record)} bytes is too large to spill")
        if self.size + _HEAD.size + len(record) > self._limit:
            raise SpillFull(f"spill limit of {self._limit} bytes reached")
        try:
            if self._own is None:
                self._own = _SpillFile.create(self._folder)
            self._own.append(record)
        except OSError as error:
            raise SpillFull(str(error)) from error

    def waiting(self) -> Iterator[SpillReader]:
        """Files to be written back: abandoned ones of dead processes, then our own."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")) if self._folder.is_dir() else ():
            if self._own is not None and path == self._own.path:
                continue
            abandoned = _SpillFile.adopt(path)
            if abandoned is not None:
                yield SpillReader(abandoned)
        if self._own is not None:
            own, self._own = self._own, None
            yield SpillReader(own)

    def close(self) -> None:
        """Let go of our file; what it holds is adopted by the next recorder of this folder."""
        if self._own is not None:
            self._own.release()
            self._own = None


class SpillReader:
    """One spill file on its way back into the database: read `records`, then `done` or `keep`."""

    def __init__(self, file: _SpillFile) -> None:
        self._file = file

    def records(self) -> Iterator[bytes]:
        """Whole records, oldest first."""
        return self._file.records()

    def done(self) -> None:
        """All of it is in the database: remove the file."""
        self._file.remove()

    def keep(self) -> None:
        """It could not be written now: leave it for a later try, by whoever comes."""
        self._file.release()


class _SpillFile:
    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.size = os.fstat(descriptor).st_size
        self._descriptor = descriptor

    @classmethod
    def create(cls, folder: Path) -> _SpillFile:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise PermissionError(f"spill folder {folder} belongs to somebody else")
        path = folder / f"{new_id()}{_SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return cls(path, descriptor)

    @classmethod
    def adopt(cls, path: Path) -> _SpillFile | None:
        """Take over a file whose process is gone; None while somebody holds it."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder may have removed it between our open and our lock.
            if os.fstat(descriptor).st_nlink > 0:
                return cls(path, descriptor)
        except OSError:
            pass
        os.close(descriptor)
        return None

    def append(self, record: bytes) -> None:
        data = memoryview(_HEAD.pack(len(record), zlib.crc32(record)) + record)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            # A full disk may have taken half of it; a torn record would hide those after it.
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size = os.fstat(self._descriptor).st_size

    def records(self) -> Iterator[bytes]:
        position = 0
        while len(head := os.pread(self._descriptor, _HEAD.size, position)) == _HEAD.size:
            length, checksum = _HEAD.unpack(head)
            record = b"" if length > _RECORD_MAX else self._read(length, position + _HEAD.size)
            if len(record) != length or zlib.crc32(record) != checksum:
                logger.warning(
                    "torn tail in spill file %s, ignored after %d bytes",
                    self.path,
                    position,
                    extra={"event": "spill.torn"},
                )
                return
            yield record
            position += _HEAD.size + length

    def _read(self, length: int, position: int) -> bytes:
        parts: list[bytes] = []
        while length > 0 and (part := os.pread(self._descriptor, length, position)):
            parts.append(part)
            length, position = length - len(part), position + len(part)
        return b"".join(parts)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        os.close(self._descriptor)
