"""The worked example of docs/adding-a-strategy.md answers the four questions as the built-in strategies do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orrery import plugins
from orrery.api.probe import Fidelity, Outcome, Parameter, Trial, TrialResult
from orrery.planning.candidates import InvalidPlan, expand
from orrery.planning.evidence import Known
from orrery.planning.forecasts import Groups
from orrery.strategies import registry
from orrery.strategies.base import Evidence, Group, Strategy
from tests.plugin import installed
from tests.unit.planning.world import World, make_plan, model

pytestmark = pytest.mark.unit


@pytest.fixture
def strategy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Strategy]:
    for path in installed(tmp_path):
        monkeypatch.syspath_prepend(path)
    plugins.entries.cache_clear()
    yield registry.get("NearestNeighbours")
    registry.get.cache_clear()
    plugins.entries.cache_clear()


def group(*evidence: Evidence, neighbours: tuple[int, ...] = (1, 5, 15), **task: Any) -> Group:
    plan = make_plan(
        models=[model("m", "Encoder")],
        strategies=[
            {"name": "s", "type": "NearestNeighbours", "grid": [{"name": "neighbours", "values": list(neighbours)}]}
        ],
        task={"dataset": {"source": {"builtin": {"name": "intents"}}}, "metric": {"name": "Accuracy"}, **task},
    )
    known = Known(task_facts=World(train=400).task_facts, evidence={"m": list(evidence)})
    known.model_facts["m"] = plan.spec.models[0].facts  # type: ignore[assignment]  # given above
    return Groups(plan.spec, expand(plan.spec), known).build(0)


def seen(neighbours: int, score: float) -> Evidence:
    trial = Trial(
        name="t",
        strategy="NearestNeighbours",
        parameters=[Parameter(name="neighbours", value=str(neighbours))],
        fidelity=Fidelity(evaluation_items=200),
    )
    return Evidence(
        trial, TrialResult(name="t", outcome=Outcome.MEASURED, score=Decimal(repr(score)), items=200), "cpu"
    )


def test_it_is_found_and_its_grid_is_checked(strategy: Strategy) -> None:
    assert "NearestNeighbours" in registry.installed() and strategy.type == "NearestNeighbours"
    for values, words in (((0,), "at least 1"), (("few",), "whole number|write a number")):
        with pytest.raises(InvalidPlan, match=words):
            group(neighbours=values)  # type: ignore[arg-type]
    g = group(metric={"name": "NegativeLogLikelihood"})
    assert "use it with task.type Classification" in (strategy.refusal(g.model, g.task) or "")
    assert strategy.refusal(g.model, group().task) is None


def test_one_measurement_bears_on_its_neighbours(strategy: Strategy) -> None:
    before, after = strategy.forecast(group()), strategy.forecast(group(seen(5, 0.9)))
    medians = after.posterior.median()
    assert list(after.measured) == [False, True, False] and not before.measured.any()
    assert abs(medians[1] - 0.9) < 0.02 and (medians > before.posterior.median()).all()
    assert after.posterior.sd[1] < after.posterior.sd[0] < before.posterior.sd[0]


def test_a_probe_tells_no_more_than_is_unknown_and_is_not_asked_twice(strategy: Strategy) -> None:
    g = group(seen(5, 0.9))
    proposals, sd = strategy.proposals(g), strategy.forecast(g).posterior.sd
    assert [p.trial.parameters[0].value for p in proposals] == ["1", "15"]
    assert all((np.abs(p.shift) <= sd + 1e-9).all() and p.inference_flops > 0 for p in proposals)


def test_adapting_costs_a_pass_over_the_examples_and_a_request_a_pass_over_its_words(strategy: Strategy) -> None:
    work = strategy.work(group(), 20.0, None)
    assert len(work) == 3 and (work.adaptation_tokens == 0).all() and (work.adaptation_flops > 0).all()
    longer: Callable[[float], float] = lambda tokens: float(strategy.work(group(), tokens, None).request_flops[0])  # noqa: E731
    assert longer(200.0) > 5 * longer(20.0)
