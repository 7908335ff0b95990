"""The dashboard: as its generator writes it, of series that exist, with every panel in a place of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import combinations
from typing import Any

import pytest

from orrery.controller.metrics import Metrics
from tests.unit.charts.rendering import CHART, VARIANTS, objects, of_kind

pytestmark = pytest.mark.unit

FILE = CHART / "dashboards" / "orrery.json"
ROOT = CHART.parents[1]


def exposed() -> set[str]:
    """Every name that a scrape of the operator can show."""
    return {
        name
        for family in Metrics().registry.collect()
        for name in (family.name, *(f"{family.name}_{end}" for end in ("total", "info", "bucket", "sum", "count")))
    }


def recorded() -> set[str]:
    """Every name that the chart's rules record."""
    (rule,) = of_kind(objects(VARIANTS["everything"]), "PrometheusRule")
    return {r["record"] for group in rule["spec"]["groups"] for r in group["rules"] if "record" in r}


def asked(expression: str) -> set[str]:
    """Names of the series that an expression asks for."""
    return set(re.findall(r"(?:[a-z_]+:)?orrery_\w+(?::\w+)?", expression))


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(FILE.read_text())["panels"] if panel["type"] != "row"]


def test_it_is_what_its_generator_writes() -> None:
    done = subprocess.run(
        [sys.executable, "config/dashboard.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "config/dashboard.py" in (ROOT / "Makefile").read_text(), "make generate leaves the dashboard out"


def test_panels_ask_for_series_that_are_exposed_or_recorded() -> None:
    known = exposed() | recorded()
    for panel in panels():
        assert panel["targets"] and panel["description"], panel["title"]
        for target in panel["targets"]:
            names = asked(target["expr"])
            assert names and names <= known, f"{panel['title']} asks for {names - known}, which nothing exposes"


def test_rules_and_alerts_ask_for_series_that_are_exposed_or_recorded() -> None:
    (rule,) = of_kind(objects(VARIANTS["everything"]), "PrometheusRule")
    known, before = exposed(), set()
    for group in rule["spec"]["groups"]:
        for r in group["rules"]:
            names = asked(r["expr"])
            assert names and names <= known | before | {r.get("record")}, r
            before |= {r["record"]} if "record" in r else set()
    alerts = [r for group in rule["spec"]["groups"] for r in group["rules"] if "alert" in r]
    assert len({alert["alert"] for alert in alerts}) == len(alerts) >= 10
    for alert in alerts:
        assert alert["annotations"]["summary"] and alert["labels"]["severity"] in ("info", "warning", "critical")


def test_panels_have_names_and_places_of_their_own() -> None:
    found = panels()
    assert len({panel["title"] for panel in found}) == len(found) >= 20
    for one, other in combinations((panel["gridPos"] for panel in found), 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


def test_the_sidecar_finds_it_where_it_is_wanted() -> None:
    assert not [d for d in of_kind(objects({}), "ConfigMap") if "dashboard" in d["metadata"]["name"]]
    labels = {"labels": {"grafana_dashboard": "1", "team": "ml"}, "annotations": {"grafana_folder": "Models"}}
    (made,) = of_kind(objects({"metrics": {"dashboard": {"enabled": True, **labels}}}), "ConfigMap")
    assert made["metadata"]["labels"].items() >= labels["labels"].items()
    assert made["metadata"]["annotations"] == {"grafana_folder": "Models"}
    assert json.loads(made["data"]["orrery.json"]) == json.loads(FILE.read_text())
