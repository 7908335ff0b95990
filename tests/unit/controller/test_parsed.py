"""Parsed once for every version that says something else."""

from __future__ import annotations

from typing import Any

import pytest

from orrery.api.load import ManifestError
from orrery.api.plan import AdaptationPlan
from orrery.controller.parsed import Parsed
from tests.unit.controller import factory

pytestmark = pytest.mark.unit


def manifest(name: str = "a", version: str = "1", **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": version}
    return {"metadata": meta, "spec": factory.plan(**spec).to_wire()["spec"]}


def test_the_same_manifest_is_parsed_once_whatever_its_status_says() -> None:
    parsed = Parsed(AdaptationPlan, 2)
    first = parsed(manifest())
    assert first.spec.budget.max_probe_cost == 5
    again = {**manifest(version="2"), "status": {"phase": "Unheard of", "spend": 3}}
    assert parsed(again) is first


def test_whatever_else_changes_is_read_anew() -> None:
    parsed = Parsed(AdaptationPlan, 2)
    first = parsed(manifest())
    dearer = parsed(manifest(version="2", budget={"maxProbeCost": "7"}))
    assert dearer.spec.budget.max_probe_cost == 7
    labelled = manifest(version="3", budget={"maxProbeCost": "7"})
    labelled["metadata"]["labels"] = {"team": "red"}
    assert parsed(labelled).metadata.model_extra == {"labels": {"team": "red"}}
    assert parsed(manifest()) == first
    made_again = manifest()
    made_again["metadata"]["uid"] = "another"
    assert parsed(made_again).metadata.uid == "another"


def test_what_cannot_be_read_is_said_each_time_and_the_oldest_are_left() -> None:
    parsed = Parsed(AdaptationPlan, 2)
    broken = manifest()
    broken["spec"]["budget"]["maxProbeCost"] = "much"
    for _ in range(2):
        with pytest.raises(ManifestError, match="maxProbeCost"):
            parsed(broken)
    a, b = parsed(manifest("a")), parsed(manifest("b"))
    assert parsed(manifest("a")) is a
    parsed(manifest("c"))
    assert parsed(manifest("a")) is a and parsed(manifest("b")) is not b
