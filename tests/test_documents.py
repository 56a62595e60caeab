"""The documents tell the truth: links, files, commands, settings, tables, statuses, error codes and
every SQL query of docs/sql.md are compared with the code or run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from tracker.cli.app import build_app

CHECKOUT = Path(__file__).parents[1]
FOLDERS = (
    "activities",
    "api",
    "benchmarks",
    "deploy",
    "docs",
    "examples",
    "requirements",
    "tests",
    "tracker",
    "workers",
    "workflows",
)
"""A path in backticks that begins with one of these must exist."""

PAGES = sorted(
    path
    for path in CHECKOUT.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(CHECKOUT).parts)
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|[\s`/(])flowtrail ((?:[a-z][a-z-]*\b|--[a-z-]+)[^\n`|;)]*)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def _name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def _without_fences(text: str) -> str:
    return FENCE.sub("", text)


def _anchor(heading: str) -> str:
    """As Git hosts make anchors of headings."""
    kept = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return kept.replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(_without_fences(page.read_text())):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target} is not there"
        if anchor:
            headings = HEADING.findall(_without_fences(linked.read_text()))
            assert anchor in map(_anchor, headings), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_file_named_is_there(page: Path) -> None:
    missing = [
        path
        for path in CODE.findall(_without_fences(page.read_text()))
        if _looks_like_a_path(path) and not list(CHECKOUT.glob(path.rstrip("/")))
    ]
    assert missing == []


def _looks_like_a_path(text: str) -> bool:
    folder, slash, _ = text.partition("/")
    return bool(slash) and folder in FOLDERS and re.fullmatch(r"[\w./*-]+", text) is not None


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_command_exists(page: Path) -> None:
    program = typer.main.get_command(build_app())
    for line in _commands(page.read_text()):
        _check_command(program, line.split())


def _commands(text: str) -> Iterator[str]:
    """Everything that reads like a call of our program, in code spans and shell blocks."""
    blocks = [body for language, body in FENCE.findall(text) if language in ("sh", "console")]
    for code in [*CODE.findall(_without_fences(text)), *blocks]:
        for found in COMMAND.findall(code.replace("\\\n", " ")):
            yield found


def _check_command(command: click.Command, words: list[str]) -> None:
    used: list[str] = []
    for word in words:
        if isinstance(command, click.Group) and not word.startswith("-"):
            found = command.commands.get(word)
            assert found is not None, f"there is no command {' '.join([*used, word])!r}"
            command = found
            used.append(word)
        elif word.startswith("--"):
            options = {name for param in command.params for name in param.opts}
            option = word.partition("=")[0]
            assert option in options | {"--help"}, f"{' '.join(used)!r} has no option {option}"
