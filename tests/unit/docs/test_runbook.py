"""The runbook has a place for every alert of the chart and every reason that the code can write."""

from __future__ import annotations

import re

import pytest

from tests.unit.charts.rendering import CHART, objects, of_kind
from tests.unit.docs.markdown import anchors
from tests.unit.docs.reasons import reasons

pytestmark = pytest.mark.unit

RUNBOOK = CHART.parents[1] / "docs" / "runbook.md"


def test_every_alert_links_to_its_own_heading() -> None:
    values = {"metrics": {"prometheusRule": {"enabled": True, "runbook": "https://example.com/runbook.md"}}}
    (rule,) = of_kind(objects(values), "PrometheusRule")
    alerts = [r for group in rule["spec"]["groups"] for r in group["rules"] if "alert" in r]
    known = anchors(RUNBOOK.read_text())
    for alert in alerts:
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert page == "https://example.com/runbook.md" and anchor == alert["alert"].lower()
        assert anchor in known, f"docs/runbook.md has no heading '### {alert['alert']}'"
    headings = {line.removeprefix("### ") for line in RUNBOOK.read_text().splitlines() if line.startswith("### Orrery")}
    assert headings == {alert["alert"] for alert in alerts}, "a heading of an alert that is no more"


def test_every_reason_of_the_code_has_an_entry_and_every_entry_a_reason() -> None:
    written = reasons()
    assert len(written) > 60, "the search for reasons finds too few to be believed"
    entries = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)*)`", RUNBOOK.read_text()))
    missing = {word: place for word, place in written.items() if word not in entries}
    assert not missing, f"docs/runbook.md has no entry for {missing}"
    first_cells = re.findall(r"^\| (`[^|]*) \|", RUNBOOK.read_text(), re.MULTILINE)
    listed = {word for cell in first_cells for word in re.findall(r"`([^`]+)`", cell)}
    # words of the kubelet and of the Job controller, passed on, and a phase that is an Event's reason
    elsewhere = {
        "ImagePullBackOff",
        "ErrImagePull",
        "CreateContainerConfigError",
        "FailedCreate",
        "FailedMount",
        "Answered",
    }
    assert listed - set(written) <= elsewhere, "an entry that nothing writes any more"
