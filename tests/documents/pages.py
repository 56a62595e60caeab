"""Reads our Markdown: pages, links, code, fenced blocks, sections and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_COMMAND = re.compile(r"(?:^|[\s`/(])flowtrail ((?:[a-z][a-z-]*\b|--[a-z-]+)[^\n`|;)#]*)")
_FOLDERS = {
    entry.name for entry in CHECKOUT.iterdir() if entry.is_dir() and not entry.name.startswith(".")
}

Rows = list[list[str]]
"""A table: its header, then its rows, cell by cell."""


def pages() -> list[Path]:
    """Every Markdown page of the project."""
    found = CHECKOUT.rglob("*.md")
    hidden = {path for path in found if any(p[0] == "." for p in path.relative_to(CHECKOUT).parts)}
    return sorted(set(CHECKOUT.rglob("*.md")) - hidden)


def read(name: str) -> str:
    """Text of a page, by its path from the root of the project."""
    return (CHECKOUT / name).read_text(encoding="utf-8")


def links(text: str) -> list[str]:
    """Targets of relative links."""
    found = _LINK.findall(FENCE.sub("", text))
    return [link for link in found if not link.startswith(("http://", "https://", "mailto:"))]


def anchors(text: str) -> set[str]:
    """Anchors of the headings, as Git hosts make them."""
    kept = (re.sub(r"[^\w\- ]", "", h.lower()) for _, h in _HEADING.findall(FENCE.sub("", text)))
    return {heading.replace(" ", "-") for heading in kept}


def codes(text: str) -> list[str]:
    """Texts in backticks."""
    return _CODE.findall(FENCE.sub("", text))


def paths(text: str) -> list[str]:
    """Texts in backticks that are paths into one of our folders."""
    return [code for code in codes(text) if _is_path(code)]


def blocks(text: str, language: str) -> list[str]:
    """Bodies of fenced blocks of a language."""
    return [body for found, body in FENCE.findall(text) if found == language]


def commands(text: str) -> Iterator[str]:
    """What follows `flowtrail` wherever it is called, in backticks and in shell blocks."""
    shell = [block.replace("\\\n", " ") for block in blocks(text, "sh")]
    for code in (*codes(text), *shell):
        yield from _COMMAND.findall(code)


def requests(text: str) -> Iterator[tuple[str, str]]:
    """(method, path) wherever our API is spoken of: `GET /v1/runs`, and calls of curl."""
    for code in codes(text):
        if found := re.match(r"(GET|POST) (/[\w/{}<>.-]*)", code):
            yield found[1], found[2]
    for block in blocks(text, "sh"):
        for call in re.findall(r"curl (?:[^\n]|\n(?! *curl))*", block):
            path = re.search(r"localhost:8080(/[\w/.-]*)", call)
            if path:
                yield "POST" if " -d " in call else "GET", path[1]


def section(text: str, heading: str) -> str:
    """A heading's text, down to the next heading of its level or above."""
    bare = FENCE.sub("", text)
    headings = list(_HEADING.finditer(bare))
    start = next(found for found in headings if found[2] == heading)
    ends = [
        found.start()
        for found in headings
        if found.start() > start.start() and len(found[1]) <= len(start[1])
    ]
    return bare[start.end() : ends[0] if ends else len(bare)]


def tables(text: str) -> list[Rows]:
    """The tables of a text."""
    found: list[Rows] = []
    for block in re.findall(r"(?:^\|.*\n)+", text + "\n", re.MULTILINE):
        lines = [line.strip().strip("|").split(" | ") for line in block.splitlines()]
        rows = [[cell.strip() for cell in line] for line in lines]
        found.append([rows[0], *rows[2:]])
    return found


def _is_path(text: str) -> bool:
    folder, slash, _ = text.partition("/")
    return bool(slash) and folder in _FOLDERS and re.fullmatch(r"[\w./*-]+", text) is not None
