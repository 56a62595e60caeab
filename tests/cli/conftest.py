"""The command line in a folder of its own, with nothing of the surrounding environment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from tracker.cli.app import build_app
from tracker.client import TrackerClient


@dataclass
class CommandLine:
    """Runs commands, in process, with settings from the environment."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self.monkeypatch.setenv(f"FLOWTRAIL_{name.upper()}", value)

    def answer_with(self, handler: Callable[[httpx.Request], httpx.Response]) -> None:
        """Put a scripted API in the place of the real one."""
        client = partial(TrackerClient, transport=httpx.MockTransport(handler))
        self.monkeypatch.setattr("tracker.cli.settings.TrackerClient", client)

    def run(self, *arguments: str, code: int = 0, answers: Sequence[str] = ()) -> Result:
        """A command, which must end with this exit code and never with a traceback."""
        typed = "".join(f"{answer}\n" for answer in answers)
        result = CliRunner().invoke(build_app(), list(arguments), input=typed)
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    for name in list(os.environ):
        if name.startswith(("FLOWTRAIL_", "TEMPORAL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "no-profiles.toml"))
    monkeypatch.chdir(tmp_path)
    return CommandLine(tmp_path, monkeypatch)
