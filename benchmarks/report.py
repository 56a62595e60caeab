"""How a benchmark ends: a table for people, then one JSON line for programs, then the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from rich.console import Console
from rich.table import Table

MISSED = 1
"""Exit code if a bar was missed."""


@dataclass(frozen=True)
class Bar:
    """A limit that a figure has to keep.

    Attributes:
        kind: `most`: the value may not exceed the limit; `least`: it may not fall below.
    """

    name: str
    value: float
    kind: Literal["most", "least"]
    limit: float
    unit: str = ""

    @property
    def ok(self) -> bool:
        """Whether the limit is kept."""
        return self.value <= self.limit if self.kind == "most" else self.value >= self.limit


def finish(
    bench: str,
    figures: dict[str, object],
    bars: Sequence[Bar],
    *,
    void: str | None = None,
) -> NoReturn:
    """Print the bars and the JSON line, and end the program.

    Args:
        figures: What was measured, JSON-able.
        void: Why this run proves nothing (the machine was too uneven); no bar counts then.
    """
    table = Table("bar", "value", "limit", "", title=f"{bench}: bars")
    for bar in bars:
        sign = "≤" if bar.kind == "most" else "≥"
        verdict = "void" if void else "ok" if bar.ok else "MISSED"
        table.add_row(bar.name, f"{bar.value:.3g} {bar.unit}", f"{sign} {bar.limit:g}", verdict)
    console = Console()
    console.print(table)
    if void:
        console.print(f"[yellow]void: {void}")
    ok = {bar.name: bar.ok and not void for bar in bars}
    summary = {
        "bench": bench,
        "figures": figures | ({"void": void} if void else {}),
        "bars": {
            bar.name: {"value": round(bar.value, 4), "limit": bar.limit, "ok": ok[bar.name]}
            for bar in bars
        },
    }
    sys.stdout.write(json.dumps(summary) + "\n")
    sys.exit(0 if all(ok.values()) else MISSED)
