"""Rules that find the ref of a run which nobody started by ref: from its workflow id, its input or
a search attribute.

Recorder, projection and `flowtrail refs` apply the same rules and must agree, so one that needs
what is not known here (a recorder sees no search attributes) ends the search: a later rule might
find another ref than the projection will. A rule never raises at work: odd input is no match, and
the next rule is asked. What it finds yields to a ref in the run's memo (`core.fold`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, cast, get_args

from tracker.core.ids import Ref
from tracker.core.pattern_cost import pattern_cost
from tracker.errors import ConfigurationError, InvalidRequest

WORKFLOW_ID_MAX = 1000
"""Characters of a workflow id; Temporal's own limit (`limit.maxIDLength`)."""
COST_MAX = (WORKFLOW_ID_MAX + 1) ** 3
"""Ways of trying a pattern: at most three unbounded quantifiers, under a second at the worst."""

Source = Literal["workflow_id", "input", "search_attribute"]
Search = Callable[[str, Any], Any]
"""Evaluates a JMESPath expression on a JSON value; may raise."""


@dataclass(frozen=True, slots=True)
class RefRule:
    """Where the runs of some workflow types carry their ref.

    Exactly one of `workflow_id`, `input` and `search_attribute` says where the ref id is.

    Args:
        workflow_type: Shell pattern (`*`, `?`) on the workflow type.
        ref_type: Type of the refs; optional if `workflow_id` has a group `ref_type`.
        workflow_id: Regular expression that must match the whole workflow id; its group `ref_id`
            is the ref id.
        input: JMESPath on the input: on the argument if there is exactly one, else on their list.
            Must give a string or a whole number.
        search_attribute: Name of the attribute whose value (or single list entry) is the ref id.

    Raises:
        ConfigurationError: If a rule is ambiguous or its pattern invalid or dangerously slow.
    """

    workflow_type: str = "*"
    ref_type: str | None = None
    workflow_id: str | None = None
    input: str | None = None
    search_attribute: str | None = None
    _pattern: re.Pattern[str] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = [name for name in get_args(Source) if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigurationError(
                f"a ref rule needs exactly one of {', '.join(get_args(Source))}, "
                f"got {' and '.join(given) or 'none'}"
            )
        if self.workflow_id is not None:
            object.__setattr__(self, "_pattern", _compiled(self.workflow_id))
        named = self._pattern is not None and "ref_type" in self._pattern.groupindex
        if (self.ref_type is not None) == named:
            raise ConfigurationError(
                "a ref rule needs ref_type, or a group (?P<ref_type>…) in workflow_id, not both"
            )
        if self.ref_type is not None:
            _check_ref_type(self.ref_type)

    @property
    def source(self) -> Source:
        """What the rule looks at."""
        if self.workflow_id is not None:
            return "workflow_id"
        return "input" if self.input is not None else "search_attribute"

    def fits(self, workflow_type: str) -> bool:
        """Whether the rule speaks about runs of this type."""
        return fnmatchcase(workflow_type, self.workflow_type)

    def find(self, facts: RuleSubject, search: Search) -> Ref | None:
        """The ref that this rule finds, whatever the workflow type; None where it finds none."""
        if self._pattern is not None:
            return self._from_id(self._pattern, facts.workflow_id)
        if self.input is not None:
            return self._ref(_searched(search, self.input, facts.input_args or ()))
        attributes = facts.search_attributes or {}
        return self._ref(_single(attributes.get(self.search_attribute or "")))

    def _from_id(self, pattern: re.Pattern[str], workflow_id: str) -> Ref | None:
        if len(workflow_id) > WORKFLOW_ID_MAX:
            return None
        match = pattern.fullmatch(workflow_id)
        if match is None:
            return None
        groups = match.groupdict()
        return self._ref(groups["ref_id"], groups.get("ref_type"))

    def _ref(self, value: Any, found_type: str | None = None) -> Ref | None:
        ref_type = self.ref_type or found_type
        if isinstance(value, int) and not isinstance(value, bool):
            value = _digits(value)
        if ref_type is None or not isinstance(value, str):
            return None
        try:
            return Ref(ref_type, value)
        except InvalidRequest:
            return None


@dataclass(frozen=True, slots=True)
class RuleSubject:
    """What is known of a run.

    Attributes:
        input_args: Its decoded arguments; None where they are not known here.
        search_attributes: Name to value; None where they are not known here.
    """

    workflow_type: str
    workflow_id: str
    input_args: Sequence[Any] | None = None
    search_attributes: Mapping[str, Any] | None = None

    def know(self, source: Source) -> bool:
        """Whether a rule with this source can be asked."""
        known = {"input": self.input_args, "search_attribute": self.search_attributes}
        return source == "workflow_id" or known[source] is not None


@dataclass(frozen=True, slots=True)
class Finding:
    """What the rules say of a run.

    Attributes:
        ref: None where they find none, or cannot know.
        rule: The rule that found it, or that could not be asked.
        missing: What that rule needs and is not known.
    """

    ref: Ref | None = None
    rule: RefRule | None = None
    missing: Source | None = None


def find_ref(rules: Iterable[RefRule], facts: RuleSubject, search: Search) -> Finding:
    """Ask the rules in order; the first that fits the type and finds a ref decides.

    Args:
        search: JMESPath evaluator (`tracker.temporal.ref_rules.search`).
    """
    for rule in rules:
        if not rule.fits(facts.workflow_type):
            continue
        if not facts.know(rule.source):
            return Finding(rule=rule, missing=rule.source)
        ref = rule.find(facts, search)
        if ref is not None:
            return Finding(ref, rule)
    return Finding()


def _compiled(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigurationError(
            f"workflow_id {text!r} is no regular expression: {error}"
        ) from None
    if "ref_id" not in pattern.groupindex:
        raise ConfigurationError(f"workflow_id {text!r} needs a group (?P<ref_id>…)")
    if pattern_cost(text, WORKFLOW_ID_MAX) > COST_MAX:
        raise ConfigurationError(
            f"workflow_id {text!r} could take very long on some ids: use at most three of * and +, "
            "none around a group that holds a quantifier or alternatives; possessive ones such as "
            r"[^-]++ are free"
        )
    return pattern


def _check_ref_type(ref_type: str) -> None:
    try:
        Ref(ref_type, "any")
    except InvalidRequest as error:
        raise ConfigurationError(f"ref rule: {error.message}") from None


def _searched(search: Search, expression: str, input_args: Sequence[Any]) -> Any:
    if not input_args:
        return None
    try:
        return search(expression, input_args[0] if len(input_args) == 1 else list(input_args))
    except Exception:  # JMESPath's own errors, and whatever users' input provokes in it.
        return None


def _single(value: Any) -> Any:
    if isinstance(value, list | tuple):
        values = cast("Sequence[Any]", value)
        return values[0] if len(values) == 1 else None
    return value


def _digits(value: int) -> str | None:
    # Python refuses to print integers beyond 4,300 digits; a ref id has 200 at most.
    return str(value) if value.bit_length() < 1000 else None
