"""Identity of measurements: what is measured, never what it is called or in which order it is asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.load import parse_model
from orrery.api.probe import ProbeSpec, probe_name, trial_key
from tests.unit.api.manifests import PROBE, changed

pytestmark = pytest.mark.unit

NAMES = st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True)
TRIAL = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(["ZeroShot", "InContext", "LoRA"]),
        "parameters": st.dictionaries(st.sampled_from(["rank", "shots", "epochs"]), st.integers(1, 64), max_size=3),
        "seed": st.integers(0, 3),
        "evaluationItems": st.integers(1, 500),
    }
)


def wire(trials: list[dict[str, Any]], names: list[str], order: Any = None) -> dict[str, Any]:
    made = [
        {
            "name": name,
            "strategy": trial["strategy"],
            "seed": trial["seed"],
            "parameters": [
                {"name": n, "value": v} for n, v in sorted(trial["parameters"].items(), reverse=bool(order))
            ],
            "fidelity": {"evaluationItems": trial["evaluationItems"]},
        }
        for name, trial in zip(names, trials, strict=True)
    ]
    if order is not None:
        order.shuffle(made)
    return changed(PROBE, "spec.trials", made)["spec"]


@settings(max_examples=40, deadline=None)
@given(st.lists(TRIAL, min_size=1, max_size=4), st.data(), st.randoms(use_true_random=False))
def test_names_and_order_change_nothing(trials: list[dict[str, Any]], data: st.DataObject, order: Any) -> None:
    names = st.lists(NAMES, min_size=len(trials), max_size=len(trials), unique=True)
    one = parse_model(ProbeSpec, wire(trials, data.draw(names)))
    renamed = wire(trials, data.draw(names), order)
    renamed["model"] = {**renamed["model"], "name": "another", "family": "another"}
    other = parse_model(ProbeSpec, renamed)
    assert probe_name(one) == probe_name(other)
    assert {trial_key(one.model, one.task, t, one.accelerator) for t in one.trials} == {
        trial_key(other.model, other.task, t, other.accelerator) for t in other.trials
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.model.source", {"builtin": {"name": "minilm"}}),
        ("spec.model.architecture", "Encoder"),
        ("spec.model.precision", "Int8"),
        ("spec.task.template.instruction", "Another."),
        ("spec.task.dataset.source.huggingFace.revision", "other"),
        ("spec.task.metric", {"name": "NegativeLogLikelihood"}),
        ("spec.trials.0.parameters.0.value", "4"),
        ("spec.trials.0.parameters.0.name", "other"),
        ("spec.trials.0.fidelity.evaluationItems", 100),
        ("spec.trials.0.fidelity.trainingExamples", 16),
        ("spec.trials.0.fidelity.method", "Proxy"),
        ("spec.trials.0.seed", 1),
        ("spec.trials.0.strategy", "LoRA"),
        ("spec.accelerator", "h100"),
    ],
)
def test_whatever_changes_the_measurement_changes_its_name(path: str, value: Any) -> None:
    one, other = (parse_model(ProbeSpec, p["spec"]) for p in (PROBE, changed(PROBE, path, value)))
    assert probe_name(one) != probe_name(other)


@pytest.mark.parametrize(
    ("path", "value"),
    [("deadlineSeconds", 601), ("task.metric", {"direction": "Maximize"}), ("model.precision", "Bf16")],
)
def test_what_changes_nothing_that_is_measured_changes_no_name(path: str, value: Any) -> None:
    same = changed(PROBE, f"spec.{path}", value)["spec"]
    assert probe_name(parse_model(ProbeSpec, same)) == probe_name(parse_model(ProbeSpec, PROBE["spec"]))


def test_a_name_is_a_name_and_the_same_on_every_machine() -> None:
    name = probe_name(parse_model(ProbeSpec, PROBE["spec"]))
    assert name == probe_name(parse_model(ProbeSpec, json.loads(json.dumps(PROBE["spec"]))))
    assert len(name) == 22 and name.startswith("probe-")
