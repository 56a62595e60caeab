"""Ref rules: which rule decides, that odd input never raises, that patterns cannot run for ever."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.core.ids import Ref
from tracker.core.pattern_cost import pattern_cost
from tracker.core.ref_rules import COST_MAX, WORKFLOW_ID_MAX, RefRule, RuleSubject, find_ref
from tracker.errors import ConfigurationError
from tracker.temporal.history.runs import RunStart
from tracker.temporal.ref_rules import history_rules, live_rules, load_rules, search

BY_ID = RefRule(workflow_type="Order*", workflow_id=r"order-(?P<ref_id>.+)", ref_type="order")
BY_TYPED_ID = RefRule(workflow_id=r"(?P<ref_type>[a-z]++)/(?P<ref_id>.+)")
BY_INPUT = RefRule(workflow_type="Ship?", input="order.id", ref_type="order")
BY_ATTRIBUTE = RefRule(search_attribute="CustomerId", ref_type="customer")
RULES = (BY_ID, BY_TYPED_ID, BY_INPUT, BY_ATTRIBUTE)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def find(
    workflow_type: str,
    workflow_id: str,
    args: Sequence[Any] | None = (),
    attributes: Mapping[str, Any] | None = None,
    rules: Sequence[RefRule] = RULES,
) -> Ref | None:
    facts = RuleSubject(workflow_type, workflow_id, args, {} if attributes is None else attributes)
    return find_ref(rules, facts, search).ref


@pytest.mark.parametrize(
    ("workflow_type", "workflow_id", "args", "attributes", "ref"),
    [
        ("OrderFulfilment", "order-o-1", (), {}, "order/o-1"),
        ("OrderFulfilment", "xorder-o-1", (), {}, None),
        ("Refund", "order-o-1", (), {}, None),
        ("Refund", "invoice/2026/7", (), {}, "invoice/2026/7"),
        ("Ship1", "s", ({"order": {"id": "o-2"}},), {}, "order/o-2"),
        ("Ship1", "s", ({"order": {"id": 42}},), {}, "order/42"),
        ("Ship1", "s", ({"order": {"id": True}},), {}, None),
        ("Ship1", "s", ({"order": {"id": 1.5}},), {}, None),
        ("Ship1", "s", ({"order": {"id": "x" * 201}},), {}, None),
        ("Ship12", "s", ({"order": {"id": "o-2"}},), {}, None),
        ("Any", "a", (), {"CustomerId": "c-1"}, "customer/c-1"),
        ("Any", "a", (), {"CustomerId": ["c-1"]}, "customer/c-1"),
        ("Any", "a", (), {"CustomerId": ["c-1", "c-2"]}, None),
        ("Ship1", "s", ({},), {"CustomerId": 7}, "customer/7"),
    ],
)
def test_the_first_rule_that_finds_a_ref_decides(
    workflow_type: str, workflow_id: str, args: Any, attributes: Any, ref: str | None
) -> None:
    expected = None if ref is None else Ref.parse(ref)
    assert find(workflow_type, workflow_id, args, attributes) == expected


def test_several_arguments_are_a_list() -> None:
    rule = RefRule(input="[1].id", ref_type="order")
    assert find("Any", "a", ("x", {"id": "o-1"}), rules=[rule]) == Ref("order", "o-1")


def test_a_rule_that_cannot_be_asked_ends_the_search() -> None:
    rules = (BY_INPUT, RefRule(workflow_id="(?P<ref_id>.+)", ref_type="any"))
    finding = find_ref(rules, RuleSubject("Ship1", "s"), search)
    assert (finding.ref, finding.rule, finding.missing) == (None, BY_INPUT, "input")
    finding = find_ref(rules, RuleSubject("Other", "s"), search)
    assert (finding.ref, finding.missing) == (Ref("any", "s"), None)


@settings(deadline=None, max_examples=200)
@given(
    workflow_type=st.sampled_from(["Order", "Ship1", "Any"]),
    workflow_id=st.text(max_size=30) | st.from_regex(r"order-.*"),
    args=st.lists(json_values, max_size=3),
    attributes=st.dictionaries(st.sampled_from(["CustomerId", "x"]), json_values),
)
def test_what_the_recorder_finds_the_projection_finds_too(
    workflow_type: str, workflow_id: str, args: list[Any], attributes: dict[str, Any]
) -> None:
    live = live_rules(RULES)(workflow_type, workflow_id)
    start = RunStart(workflow_type, workflow_id, tuple(args), attributes)
    assert live in (None, history_rules(RULES)(start))


@pytest.mark.parametrize(
    "expression", ["order.id", "[*].id", "length(@)", "to_number(a) || b", "sort_by(@, &x)[0]"]
)
@given(value=json_values)
def test_odd_input_never_raises(expression: str, value: Any) -> None:
    ref = find("Any", "a", (value,), rules=[RefRule(input=expression, ref_type="order")])
    assert ref is None or ref.ref_type == "order"


def test_huge_values_are_no_match() -> None:
    deep: Any = "o-1"
    for _ in range(5000):
        deep = [deep]
    rule = RefRule(input="@", ref_type="order")
    assert find("Any", "a", (10**5000,), rules=[rule]) is None
    assert find("Any", "a", (deep,), rules=[rule]) is None
    assert find("Order", "order-" + "x" * WORKFLOW_ID_MAX) is None


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"ref_type": "a"}, "exactly one of"),
        ({"ref_type": "a", "input": "x", "search_attribute": "y"}, "input and search_attribute"),
        ({"input": "x"}, "needs ref_type"),
        ({"workflow_id": "(?P<ref_id>.)"}, "needs ref_type"),
        ({"workflow_id": "(?P<ref_type>.)(?P<ref_id>.)", "ref_type": "a"}, "not both"),
        ({"workflow_id": "(?P<other>.)", "ref_type": "a"}, "needs a group"),
        ({"workflow_id": "(", "ref_type": "a"}, "no regular expression"),
        ({"input": "x", "ref_type": "a/b"}, "without '/'"),
        ({"workflow_id": "(?P<ref_id>(?:a+)+)", "ref_type": "a"}, "very long"),
    ],
)
def test_a_wrong_rule_says_what_to_change(options: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        RefRule(**options)


# Patterns


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "(a|aa)+b",
        "(a|a)*b",
        "(.*a){11}",
        "(?:a?){30}a{30}",
        "((a)|b)*",
        "(x+x+)+y",
        ".*.*.*.*b",
        "a?" * 40 + "a" * 40,
        "(a|a)" * 40,
        "(?x) a+ # )",
        "(?i:(a*)*)",
        r"(?:[\])]+)+",
    ],
)
def test_catastrophic_patterns_cost_too_much(pattern: str) -> None:
    re.compile(pattern)
    assert pattern_cost(pattern, WORKFLOW_ID_MAX) > COST_MAX


@pytest.mark.parametrize(
    ("pattern", "cost"),
    [
        ("order-1", 1),
        (r"\(\+\*[)+*]", 1),
        ("[]+*]a", 1),
        ("a{3}", 1),
        ("a{x}", 1),
        ("a{2,4}", 3),
        ("a?b??", 4),
        ("a|b|c", 3),
        ("a+", 1000),
        ("(?:ab)+", 1000),
        ("(?P<x>a+)b*(?#c+)", 1000 * 1001),
        (r"\w++-\d*+", 1),
        ("(?i)(?=a)(?<!b)(?P<y>c)(?P=y)", 1),
    ],
)
def test_pattern_cost(pattern: str, cost: float) -> None:
    re.compile(pattern)
    assert pattern_cost(pattern, WORKFLOW_ID_MAX) == cost


@pytest.mark.parametrize("pattern", [".*.*.*X", ".+-.+-.+-X", r"(?:\w+-)(?:\d+)-.*X"])
def test_the_costliest_patterns_allowed_end_within_seconds(pattern: str) -> None:
    assert pattern_cost(pattern, WORKFLOW_ID_MAX) <= COST_MAX
    compiled, began = re.compile(pattern), time.process_time()
    assert compiled.fullmatch("-" * WORKFLOW_ID_MAX) is None
    assert compiled.fullmatch("1-" * (WORKFLOW_ID_MAX // 2)) is None
    assert time.process_time() - began < 10


# Files


def test_rules_come_from_toml_in_order(tmp_path: Path) -> None:
    path = tmp_path / "flowtrail.toml"
    path.write_text(
        """
        [[refs]]
        workflow_type = "Order*"
        workflow_id = 'order-(?P<ref_id>.+)'
        ref_type = "order"

        [[refs]]
        input = "order.id"
        workflow_type = "Ship?"
        ref_type = "order"
        """
    )
    assert load_rules(path) == (BY_ID, BY_INPUT)
    path.write_text("")
    assert load_rules(path) == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("refs = 1", r"expected \[\[refs\]\] tables"),
        ("[[refs]]\ncolour = 'red'", "rule 1: unknown 'colour', expected workflow_type"),
        ("[[refs]]\nref_type = 1", "must be a string"),
        ("[[refs]]\ninput = 'a['\nref_type = 'order'", "rule 1: input 'a.' is no JMESPath"),
        ("[[refs]]\nref_type = 'a'", "rule 1: a ref rule needs exactly one"),
        ("= nonsense", "cannot be read"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "flowtrail.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=complaint):
        load_rules(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        load_rules(tmp_path / "nowhere.toml")
