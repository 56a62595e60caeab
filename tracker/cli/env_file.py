"""Settings written into a `.env` file: only the named ones, every other line stays as it is."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from tracker.errors import ConfigurationError

_PLAIN = re.compile(r"[\w.:/@%+,&=?~!*-]*\Z", re.ASCII)


def read_env(path: Path) -> dict[str, str]:
    """The settings in a `.env` file; empty if there is none."""
    if not path.exists():
        return {}
    return {key: value for key, value in dotenv_values(path).items() if value}


def write_env(path: Path, settings: Mapping[str, str]) -> list[str]:
    """Set some settings in a `.env` file, readable by its owner alone.

    Returns:
        Names that were added or changed.

    Raises:
        ConfigurationError: A value cannot be written in this format, or the file cannot.
    """
    known = read_env(path)
    changed = [name for name, value in settings.items() if known.get(name) != value]
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for name in changed:
        _set(lines, name, settings[name])
    text = "".join(f"{line}\n" for line in lines)
    written = dotenv_values(stream=StringIO(text))
    for name, value in settings.items():
        if written.get(name) != value:
            raise ConfigurationError(
                f"the value of {name} cannot be kept in {path}; set it by hand"
            )
    try:
        _replace(path.resolve(), text)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error}") from error
    return changed


def _set(lines: list[str], name: str, value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    quoted = value if _PLAIN.match(value) else f"'{escaped}'"
    own = re.compile(rf"\s*(?:export\s+)?{re.escape(name)}\s*=")
    places = [number for number, line in enumerate(lines) if own.match(line)]
    if places:
        # The last one is in force.
        lines[places[-1]] = f"{name}={quoted}"
    else:
        lines.append(f"{name}={quoted}")


def _replace(path: Path, text: str) -> None:
    """Write the whole file or nothing; a temporary file has mode 0600 from its first moment."""
    descriptor, temporary = tempfile.mkstemp(prefix=".env-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
