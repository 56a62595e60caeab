"""Where a server's files go that nobody keeps: into memory, where the machine offers it.

A PostgreSQL cluster is a thousand small files. Cloning a database takes 20 ms in memory and, on
some disks, a third of a second; a test suite does it for every test.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM = 4 * 1024**3
"""Bytes that must be free there: containers often have 64 MB."""


def scratch_root(memory: Path = MEMORY) -> Path:
    """The folder in which to make a temporary one: `memory`, or the usual one where that is no
    folder, too small or not writable."""
    try:
        fits = shutil.disk_usage(memory).free >= ROOM and os.access(memory, os.W_OK | os.X_OK)
    except OSError:
        fits = False
    return memory if fits else Path(tempfile.gettempdir())
