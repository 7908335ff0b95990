"""Named predictors: one learning-curve law instead of the ensemble, in the same strategies and plans."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from orrery.api.probe import Method
from orrery.laws.curve_laws import names
from orrery.planning.candidates import PREDICTORS, InvalidPlan, expand
from orrery.strategies import registry
from orrery.strategies.base import Evidence, Group, Sibling
from tests.unit.planning.world import World, drive, make_plan, make_prices, model
from tests.unit.strategies.test_forecasts import group, lora, proxy, shots, zero

pytestmark = pytest.mark.unit
GRID: dict[str, Any] = {"learningRate": ["1e-3", "2e-4"], "epochs": [3]}


def by(predictor: str, kind: str, *evidence: Evidence, metric: str = "Accuracy") -> Group:
    g = group(kind, evidence, metric=metric, **GRID)
    return replace(g, probing=g.probing.model_copy(update={"predictor": predictor}))


def kernel() -> Evidence:
    """Half of the residual lies along a direction that is learnt in a step, half along one that is learnt slowly."""
    e = lora(400, 0.5)
    fidelity = e.trial.fidelity.model_copy(update={"method": Method.KERNEL})
    result = e.result.model_copy(update={"score": None, "items": 0, "kernel": [Decimal(v) for v in (50, 1, 4, 4)]})
    return replace(e, trial=e.trial.model_copy(update={"fidelity": fidelity}), result=result)


@pytest.mark.parametrize(("predictor", "kind"), [*((n, "LoRA") for n in names()), ("Pooled", "FineTuneThenInContext")])
@pytest.mark.parametrize("metric", ["Accuracy", "NegativeLogLikelihood"])
def test_every_law_answers_what_the_ensemble_answers(predictor: str, kind: str, metric: str) -> None:
    value = 0.4 if metric == "Accuracy" else 1.4
    for evidence in ([], [zero(value)], [zero(value), shots(4, value), lora(16, value), lora(64, value * 1.1)]):
        g = by(predictor, kind, *evidence, metric=metric)
        strategy = registry.get(kind)
        f = strategy.forecast(g)
        assert np.isfinite(f.posterior.mean).all() and (f.posterior.sd > 0).all()
        assert f.hurts is None or ((f.hurts >= 0) & (f.hurts <= 1)).all()
        for p in strategy.proposals(g):
            assert p.trial.fidelity.method is not Method.PROXY, "no law has a place for a proxy"
            assert p.shift.shape == (g.size,) and (np.abs(p.shift) <= f.posterior.sd + 1e-3).all()


@pytest.mark.parametrize("predictor", names())
def test_a_measured_configuration_is_what_was_measured_and_says_nothing_of_another(predictor: str) -> None:
    g = by(predictor, "LoRA", zero(0.3), lora(16, 0.4), lora(64, 0.6), lora(400, 0.88))
    before = by(predictor, "LoRA", zero(0.3))
    f, prior = (registry.get("LoRA").forecast(x) for x in (g, before))
    assert f.measured.tolist() == [True, False]
    assert float(f.posterior.median()[0]) == pytest.approx(0.88, abs=0.04)
    if predictor != "Pooled":
        assert f.posterior.mean[1] == pytest.approx(prior.posterior.mean[1], abs=1e-6)


@pytest.mark.parametrize("predictor", names())
def test_an_asked_size_moves_its_own_configuration(predictor: str) -> None:
    g = by(predictor, "LoRA", zero(0.3), lora(16, 0.4))
    asked = [p for p in registry.get("LoRA").proposals(g) if p.trial.fidelity.method is Method.DIRECT]
    mine = [p for p in asked if any(q.value == "0.001" for q in p.trial.parameters)]
    assert [p.trial.fidelity.training_examples for p in mine] == [64, 400]
    assert mine[1].shift[0] > abs(mine[1].shift[1]) and mine[1].shift[0] > 0.1


def test_lines_go_on_and_the_ensemble_knows_where_they_must_bend() -> None:
    evidence = [zero(0.3), proxy(400, 0.7), lora(16, 0.4), lora(64, 0.62)]
    straight = registry.get("LoRA").forecast(by("LastTwoPoints", "LoRA", *evidence)).posterior
    slope = (np.log(0.62 / 0.38) - np.log(0.4 / 0.6)) / np.log(64 / 16)
    assert straight.mean[0] == pytest.approx(np.log(0.62 / 0.38) + slope * np.log(400 / 64), abs=0.05)
    assert registry.get("LoRA").forecast(by("Ensemble", "LoRA", *evidence)).posterior.mean[0] < straight.mean[0]


def test_the_kernel_is_asked_for_by_the_law_that_reads_it_alone_and_moves_it() -> None:
    def kernels(*evidence: Evidence, predictor: str = "NTKRectified") -> int:
        asked = registry.get("LoRA").proposals(by(predictor, "LoRA", *evidence))
        return sum(p.trial.fidelity.method is Method.KERNEL for p in asked)

    assert kernels(zero(0.3)) == 1 and kernels(zero(0.3), predictor="PowerLaw") == 0
    assert kernels(zero(0.3), kernel()) == 0
    points = [zero(0.3), lora(16, 0.4), lora(64, 0.6)]
    plain, told = (registry.get("LoRA").forecast(by("NTKRectified", "LoRA", *e)) for e in (points, [*points, kernel()]))
    assert abs(plain.posterior.mean[0] - told.posterior.mean[0]) > 1e-3


def test_an_unknown_predictor_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        InvalidPlan, match=r"spec.probing.predictor is 'Linear': write one of Ensemble, AcceptThenStop, "
    ):
        expand(make_plan(probing={"predictor": "Linear"}).spec)
    assert set(PREDICTORS) == {"Ensemble", *names()}


@pytest.mark.parametrize("predictor", ["LastTwoPoints", "NTKRectified"])
def test_plans_that_name_a_law_are_answered(predictor: str) -> None:
    strategies = [{"name": "zero-shot", "type": "ZeroShot"}, {"name": "lora", "type": "LoRA"}]
    goal = {"objective": {"goal": "MaximizeQuality"}, "probing": {"predictor": predictor}}
    plan = make_plan(models=[model("small")], strategies=strategies, **goal)
    assert drive(plan, make_prices(), World(seed=2)).last.status.recommendation is not None


def test_the_hierarchical_law_reads_the_other_models_by_size_and_family() -> None:
    """Eight models of two families were trained; the one at hand was not: it goes where its family and size go."""

    def told(families: list[str], sizes: list[int], **own: Any) -> np.ndarray:
        g = by("Pooled", "LoRA", zero(0.3), lora(16, 0.4))
        relatives = []
        for i, (name, size) in enumerate(zip(families, sizes, strict=True)):
            high = 0.85 if name == "good" or size > 10**9 else 0.55
            facts = g.model.facts.model_copy(update={"parameters": size})  # type: ignore[union-attr]
            peer = g.model.model_copy(update={"name": f"p{i}", "family": name, "facts": facts})
            relatives.append(Sibling(peer, facts, [lora(16, 0.4 + i / 100), lora(64, high - 0.1), lora(400, high)]))
        facts = g.model.facts.model_copy(update={"parameters": own.get("parameters", 10**8)})  # type: ignore[union-attr]
        me = g.model.model_copy(update={"family": own.get("family"), "facts": facts})
        post = registry.get("LoRA").forecast(replace(g, model=me, facts=facts, peers=relatives)).posterior
        return post.median()

    alone = registry.get("LoRA").forecast(by("Pooled", "LoRA", zero(0.3), lora(16, 0.4))).posterior
    small = [10**8] * 8
    mixed = ["good", "bad"] * 4
    good, bad = told(mixed, small, family="good"), told(mixed, small, family="bad")
    assert good[1] > bad[1] + 0.03, "its family tells of a configuration that was never trained"
    sizes = [10**8, 3 * 10**9] * 4
    large, little = (told(["x"] * 8, sizes, family="x", parameters=p) for p in (3 * 10**9, 10**8))
    assert large[1] > little[1] + 0.03, "and so does its size"
    assert abs(good[0] - float(alone.median()[0])) > 0.02, "the task's course is everyone's"
