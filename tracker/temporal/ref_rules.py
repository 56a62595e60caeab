"""Ref rules in use: read from a TOML file, and in the forms that recorder and projection take.

[[refs]]
workflow_type = "Order*"
workflow_id = 'order-(?P<ref_id>.+)'
ref_type = "order"
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from tracker.core.ids import Ref
from tracker.core.ref_rules import RefRule, RuleSubject, find_ref
from tracker.errors import ConfigurationError

if TYPE_CHECKING:  # The commands that read rules need not load temporalio for it.
    from tracker.temporal.history.runs import RunStart

RULES_FILE = "flowtrail.toml"
"""Where `flowtrail refs` looks by default, in the current directory."""


def load_rules(path: Path | str) -> tuple[RefRule, ...]:
    """Read the `[[refs]]` tables of a TOML file, in their order.

    Raises:
        ConfigurationError: If the file cannot be read, or a rule is wrong; the message says which.
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"ref rules cannot be read from {path}: {error}") from error
    tables = document.get("refs", [])
    if not isinstance(tables, list):
        raise ConfigurationError(f"{path}: expected [[refs]] tables, got refs = {tables!r}")
    return tuple(
        _rule(f"{path}: rule {number}", table)
        for number, table in enumerate(cast("list[Any]", tables), start=1)
    )


def check_rules(rules: Sequence[RefRule]) -> None:
    """Make sure that every JMESPath expression can be compiled.

    Raises:
        ConfigurationError: If one cannot.
    """
    for rule in rules:
        if rule.input is None:
            continue
        try:
            _compiled(rule.input)
        except JMESPathError as error:
            reason = str(error).splitlines()[0]
            raise ConfigurationError(f"input {rule.input!r} is no JMESPath: {reason}") from error


def live_rules(rules: Sequence[RefRule]) -> Callable[[str, str], Ref | None]:
    """The rules as workers apply them, (workflow type, workflow id) → ref. A run whose ref depends
    on its input or a search attribute gets it from history.

    Raises:
        ConfigurationError: See `check_rules`.
    """
    check_rules(rules)

    def ref_of(workflow_type: str, workflow_id: str) -> Ref | None:
        return find_ref(rules, RuleSubject(workflow_type, workflow_id), search).ref

    return ref_of


def history_rules(rules: Sequence[RefRule]) -> Callable[[RunStart], Ref | None]:
    """The rules as the projection of a history applies them.

    Raises:
        ConfigurationError: See `check_rules`.
    """
    check_rules(rules)

    def ref_of(start: RunStart) -> Ref | None:
        facts = RuleSubject(
            start.workflow_type, start.workflow_id, start.arguments, start.search_attributes
        )
        return find_ref(rules, facts, search).ref

    return ref_of


def search(expression: str, value: Any) -> Any:
    """Evaluate a JMESPath expression on a JSON value.

    Raises:
        JMESPathError: If it cannot be compiled or does not suit the value.
    """
    return _compiled(expression).search(value)


@lru_cache(maxsize=256)
def _compiled(expression: str) -> ParsedResult:
    return jmespath.compile(expression)


def _rule(where: str, table: Any) -> RefRule:
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{where}: expected a table, got {table!r}")
    given = cast("Mapping[str, Any]", table)
    known = [item.name for item in fields(RefRule) if item.init]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigurationError(f"{where}: unknown {unknown[0]!r}, expected {', '.join(known)}")
    if not all(isinstance(value, str) for value in given.values()):
        raise ConfigurationError(f"{where}: every value must be a string")
    try:
        rule = RefRule(**given)
        check_rules([rule])
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.message}") from error
    return rule
