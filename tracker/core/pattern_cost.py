"""An upper bound for the work of matching a regular expression, found by reading it.

Python's engine backtracks and cannot be interrupted, so a pattern from a settings file must be
judged before it ever runs. The bound counts in how many ways the pattern could be tried: each
quantifier and each alternative multiplies it. Possessive quantifiers (`++`, `*+`) of a single
character or class never backtrack and count as one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf

_TOKEN = re.compile(
    r"""
      (?P<open>   \( (?: \?P<\w+> | \?(?:[:=!>]|<=|<!) | \?[aiLmsux]*-?[imsx]*: | \?\([^)]*\) )?
                  (?!\?) )
    | (?P<flags>  \(\?[aiLmsux]+\) )
    | (?P<aside>  \(\?\#[^)]*\) )
    | (?P<close>  \) )
    | (?P<or>     \| )
    | (?P<repeat> (?: [*+?] | \{(?P<low>\d*)(?P<comma>,?)(?P<high>\d*)\} ) (?P<mode>[?+]?) )
    | (?P<atom>   \(\?P=\w+\) | \\. | \[\^?\]?(?:\\.|[^\]\\])*\] | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_VERBOSE = re.compile(r"\(\?[a-zA-Z]*x")


@dataclass(slots=True)
class _Group:
    """Ways of what was read so far: of the branches before, of this branch, of its last item."""

    branches: float = 0
    branch: float = 1
    item: float = 1

    def ways(self) -> float:
        return self.branches + self.branch * self.item

    def add(self, ways: float) -> None:
        self.branch, self.item = self.branch * self.item, ways


def pattern_cost(pattern: str, length: int) -> float:
    """Ways in which a pattern may be tried on a text.

    Args:
        pattern: One that `re.compile` accepts.
        length: Longest text on which it will be used.

    Returns:
        An upper bound; infinite where a group that itself can match in several ways is repeated,
        which is where exponential time comes from, and for verbose patterns, which are not read.
    """
    groups = [_Group()]
    for token in _TOKEN.finditer(pattern):
        group = groups[-1]
        match token.lastgroup:
            case "open" | "flags" if _VERBOSE.match(token[0]):
                return inf
            case "open":
                groups.append(_Group())
            case "close":
                groups.pop()
                groups[-1].add(group.ways())
            case "or":
                group.branches, group.branch, group.item = group.ways(), 1, 1
            case "repeat":
                group.item = _repeated(group.item, token, length)
            case "atom":
                group.add(1)
            case _:
                pass
    return groups[0].ways()


def _repeated(item: float, token: re.Match[str], length: int) -> float:
    low, high = _bounds(token, length)
    if high > 1 and item > 1:
        return inf
    possessive = token["mode"] == "+"
    return item if possessive else item * (high - low + 1)


def _bounds(token: re.Match[str], length: int) -> tuple[int, int]:
    if token["low"] is None:
        return {"*": (0, length), "+": (1, length), "?": (0, 1)}[token["repeat"][0]]
    low = int(token["low"] or 0)
    if not token["comma"]:
        return low, low
    high = int(token["high"]) if token["high"] else length
    return low, max(low, min(high, length))
