"""The wheel: that the SDK works from it with the base requirements alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path
from zipfile import Path as ZipPath
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
HEAVY = ("temporalio", "psycopg", "sqlmodel", "sqlalchemy", "fastapi", "typer", "orjson")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def bare_venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with the wheel and what its metadata requires without extras, and nothing else.

    The requirements are linked from the environment that runs the tests: no network, no copies.
    """
    home = tmp_path_factory.mktemp("bare")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    site = next((home / "lib").glob("python*/site-packages"))
    for required in _required(_of_wheel(wheel)):
        _link(required, site)
    install = ["uv", "pip", "install", "--offline", "--no-deps", "--no-cache", "--quiet"]
    tool = [sys.executable, "-m", *install, "--python", str(python), str(wheel)]
    subprocess.run(tool, check=True, capture_output=True)
    return home


def test_the_wheel_carries_types_sql_and_migrations(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    for kind in (r"tracker/py\.typed", r"tracker/store/queries/.*\.sql", r".*/versions/.*\.sql"):
        assert any(re.fullmatch(kind, name) for name in names), kind


def test_the_sdk_imports_with_the_base_requirements_alone(bare_venv: Path) -> None:
    python = bare_venv / "bin" / "python"
    found = _imported(python, "import tracker.client, tracker.errors", cwd=bare_venv)
    assert str(bare_venv) in found["tracker"]


def test_the_console_script_says_what_to_install(bare_venv: Path) -> None:
    script = subprocess.run(
        [bare_venv / "bin" / "flowtrail", "runs", "list"], capture_output=True, text=True
    )
    assert (script.returncode, script.stdout) == (2, "")
    assert "pip install 'flowtrail[server]'" in script.stderr
    assert "Traceback" not in script.stderr


def test_importing_the_sdk_loads_nothing_heavy_even_where_it_is_installed() -> None:
    found = _imported(Path(sys.executable), "import tracker.client", cwd=ROOT)
    assert [name for name in HEAVY if name in found] == []


def _imported(python: Path, statement: str, *, cwd: Path) -> dict[str, str]:
    """Top-level modules that are loaded after a statement in a fresh interpreter → their file."""
    code = (
        f"{statement}; import json, sys; "
        "print(json.dumps({n: str(getattr(m, '__file__', '')) for n, m in sys.modules.items()}))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _of_wheel(wheel: Path) -> Distribution:
    metadata = next(p for p in ZipPath(wheel).iterdir() if p.name.endswith(".dist-info"))
    return PathDistribution(metadata)


def _required(root: Distribution) -> Iterator[Distribution]:
    """Everything that a distribution needs without extras, directly or not."""
    seen, pending = set[str](), [root]
    while pending:
        for text in pending.pop().requires or []:
            requirement = Requirement(text)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if not wanted or requirement.name in seen:
                continue
            seen.add(requirement.name)
            found = distribution(requirement.name)
            pending.append(found)
            yield found


def _link(installed: Distribution, site: Path) -> None:
    tops = {file.parts[0] for file in installed.files or [] if file.parts[0] != ".."}
    for top in sorted(tops - {"__pycache__"}):
        target = site / top
        if not target.exists():
            target.symlink_to(Path(str(installed.locate_file(top))))
