"""The shipped alerts ask for metrics that are really exported."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from api.metrics import STATE
from tracker.temporal import metrics

ALERTS = Path(__file__).parent.parent / "deploy" / "prometheus" / "alerts.yml"
OPERATIONS = (ALERTS.parents[2] / "docs" / "operations.md").read_text()


def test_every_metric_of_an_alert_is_exported() -> None:
    exported = {f"flowtrail_{name}" for name in STATE}
    exported |= set(re.findall(r'"(flowtrail_\w+)"', Path(metrics.__file__).read_text()))
    exported |= {f"flowtrail_events_{what}" for what in metrics.EVENTS}
    exported |= {"flowtrail_http_requests_total", "flowtrail_live_leading"}
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    asked: set[str] = set()
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        found = set(re.findall(r"flowtrail_\w+", rule["expr"]))
        assert found, rule
        asked |= found
        assert f"### {rule['alert']}\n" in OPERATIONS
    assert asked <= exported


def test_every_metric_is_described() -> None:
    exported = {f"flowtrail_{name}" for name in STATE}
    exported |= {f"flowtrail_events_{what}" for what in metrics.EVENTS}
    exported |= set(re.findall(r'"(flowtrail_\w+)"', Path(metrics.__file__).read_text()))
    assert {name for name in exported if f"`{name}`" not in OPERATIONS} == set()
