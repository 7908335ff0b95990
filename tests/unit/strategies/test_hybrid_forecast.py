"""FineTuneThenInContext: forecast from the tuned and the demonstrated part, mended by a joint measurement."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from orrery.planning.types import Step
from orrery.strategies import registry
from orrery.strategies.base import Evidence
from orrery.strategies.trials import identity
from tests.unit.planning.world import World, drive, make_plan, make_prices, model
from tests.unit.strategies.test_forecasts import forecast, group, lora, seen, shots, zero

pytestmark = pytest.mark.unit

KIND = "FineTuneThenInContext"
ONE: dict[str, Any] = {"learningRate": ["1e-3"], "epochs": [3], "shots": [4], "retriever": ["random"]}


def joint(n: int, k: int, score: float, retriever: str = "random", rate: str = "0.001") -> Evidence:
    return seen(KIND, score, n, learningRate=rate, epochs="3", rank="8", shots=str(k), retriever=retriever)


def test_it_lies_between_tuning_alone_and_both_gains_added() -> None:
    evidence = [zero(0.1), lora(400, 0.7), shots(4, 0.6)]
    both = forecast(group(KIND, evidence, **ONE), KIND).posterior
    tuned = forecast(group("LoRA", evidence, learningRate=["1e-3"], epochs=[3]), "LoRA").posterior
    added = tuned.mean[0] + np.log(0.6 / 0.4) - np.log(0.1 / 0.9)
    assert tuned.mean[0] < both.mean[0] < added
    assert both.sd[0] > tuned.sd[0], "how much the gains overlap is not known yet"


def test_its_parts_are_enough_to_narrow_it_and_one_joint_measurement_pins_it() -> None:
    nothing, parts = [], [zero(0.3), lora(400, 0.7), shots(4, 0.5)]
    told = [*parts, joint(400, 4, 0.62)]
    sd = [float(forecast(group(KIND, e, **ONE), KIND).posterior.sd[0]) for e in (nothing, parts, told)]
    assert sd[0] > sd[1] > sd[2]
    f = forecast(group(KIND, told, **ONE), KIND)
    assert f.measured.all() and float(f.posterior.median()[0]) == pytest.approx(0.62, abs=0.04)


def test_a_joint_measurement_speaks_for_other_shots_and_sizes() -> None:
    evidence = [zero(0.3), lora(64, 0.55), lora(400, 0.7), shots(4, 0.5), shots(8, 0.55)]
    grid = ONE | {"shots": [4, 8]}
    before = forecast(group(KIND, evidence, **grid), KIND).posterior
    after = forecast(group(KIND, [*evidence, joint(64, 4, 0.35)], **grid), KIND).posterior
    assert (after.mean < before.mean - 0.1).all() and (after.sd < before.sd).all()


def test_demonstrations_that_hurt_the_tuned_model_are_said() -> None:
    evidence = [zero(0.3), lora(400, 0.9), shots(4, 0.5)]
    unknown = forecast(group(KIND, evidence, **ONE), KIND)
    said = re.match(
        r"Demonstrations hurt the tuned model with probability (\d+)% \(not yet measured together\)", unknown.remarks[0]
    )
    assert said is not None and 50 < int(said[1]) < 75
    helpful = [zero(0.1), lora(400, 0.5), shots(4, 0.9)]
    assert not forecast(group(KIND, [*helpful, joint(400, 4, 0.8)], **ONE), KIND).remarks
    hurt = forecast(group(KIND, [*evidence, joint(400, 4, 0.7)], **ONE), KIND)
    said = re.match(
        r"Demonstrations hurt the tuned model with probability (\d+)% \(as measured together\)", hurt.remarks[0]
    )
    assert said is not None and int(said[1]) > 95
    assert "tuning without them is likely better" in hurt.remarks[0]
    broken = forecast(group(KIND, [zero(0.8), lora(400, 0.5), shots(4, 0.7), joint(400, 4, 0.5)], **ONE), KIND)
    assert broken.remarks[0].startswith(f"{KIND} likely hurts: even its best configuration falls below the untuned")


def test_it_costs_the_adaptation_of_the_one_and_the_prompts_of_the_other() -> None:
    both = registry.get(KIND).work(group(KIND, **ONE), None, None)
    tuned = registry.get("LoRA").work(group("LoRA", learningRate=["1e-3"], epochs=[3]), None, None)
    shown = registry.get("InContext").work(group("InContext", shots=[4], retriever=["random"]), None, None)
    for name in ("adaptation_flops", "adaptation_tokens", "adaptation_memory"):
        assert getattr(both, name).tolist() == getattr(tuned, name).tolist()
    for name in ("request_flops", "request_input_tokens", "serving_memory", "evaluation_flops"):
        assert getattr(both, name).tolist() == getattr(shown, name).tolist()


def test_it_asks_for_its_parts_and_for_joint_trials_at_every_rung() -> None:
    g = group(KIND, [zero(0.3)], **ONE)
    asked = registry.get(KIND).proposals(g)
    kinds = {p.trial.strategy for p in asked}
    assert kinds == {"LoRA", "InContext", KIND}
    mine = [p for p in asked if p.trial.strategy == KIND]
    assert [p.trial.fidelity.training_examples for p in mine] == [16, 64, 400]
    assert all(p.training_flops > 0 for p in mine) and (np.diff([p.training_flops for p in mine]) > 0).all()
    parts = [identity(p.trial) for p in asked if p.trial.strategy == "LoRA"]
    assert parts == [
        identity(p.trial)
        for p in registry.get("LoRA").proposals(group("LoRA", [zero(0.3)], learningRate=["1e-3"], epochs=[3]))
    ], "a trial that LoRA would ask too is one and the same"
    full = max(mine, key=lambda p: p.trial.fidelity.training_examples)
    assert full.shift[0] > max(abs(p.shift[0]) for p in asked if p is not full)


def test_many_configurations_are_proposed_within_bounds() -> None:
    g = group(KIND, [zero(0.3), joint(64, 4, 0.5)], shots=[1, 2, 4, 8], rank=[4, 8, 16], dataPercent=[10, 25, 50, 100])
    mine = [p for p in registry.get(KIND).proposals(g) if p.trial.strategy == KIND]
    assert g.size == 384 and 16 <= len(mine) <= 32
    assert identity(joint(64, 4, 0.5).trial) not in {identity(p.trial) for p in mine}


def test_encoders_are_refused() -> None:
    plan = make_plan(models=[model("e", "Encoder")])
    refusal = registry.get(KIND).refusal(plan.spec.models[0], plan.spec.task)
    assert refusal is not None and "does not learn from demonstrations" in refusal


@pytest.mark.parametrize("alone", [True, False])
def test_plans_with_it_are_answered(alone: bool) -> None:
    grid = [{"name": "shots", "values": [2, 4]}, {"name": "retriever", "values": ["random"]}]
    strategies: list[dict[str, Any]] = [{"name": "both", "type": KIND, "grid": grid}]
    if not alone:
        strategies += [{"name": n.lower(), "type": n} for n in ("ZeroShot", "InContext", "LoRA")]
    plan = make_plan(models=[model("small")], strategies=strategies, objective={"goal": "MaximizeQuality"})
    run = drive(plan, make_prices(), World(seed=3))
    assert run.last.status.recommendation is not None
    rows = [r for r in run.last.rows if r.type == KIND]
    assert len(rows) == 8 and all(r.quality is not None and r.adaptation_cost is not None for r in rows)


def test_a_plan_forecasts_it_from_its_parts_and_asks_one_joint_measurement() -> None:
    grid = [{"name": "shots", "values": [2, 4]}, {"name": "retriever", "values": ["random"]}]
    strategies: list[dict[str, Any]] = [{"name": n.lower(), "type": n} for n in ("ZeroShot", "InContext", "LoRA")]
    plan = make_plan(
        models=[model("small")],
        strategies=[*strategies, {"name": "both", "type": KIND, "grid": grid}],
        objective={"goal": "MaximizeQuality"},
    )
    run = drive(plan, make_prices(), World(seed=2))
    jointly = [t for r in run.records for t in r.spec.trials if t.strategy == KIND]
    assert len(jointly) == 1 and jointly[0].fidelity.training_examples < 400, "a small one tells the overlap of all"
    asked = next(i for i, s in enumerate(run.steps) for r in s.start for t in r.spec.trials if t.strategy == KIND)

    def widths(step: Step) -> dict[str, float]:
        return {
            r.candidate: float(r.quality.upper - r.quality.lower) for r in step.rows if r.type == KIND and r.quality
        }

    blind, parts, after = widths(run.steps[0]), widths(run.steps[asked]), widths(run.last)
    assert len(parts) == 8 and all(parts[c] < blind[c] for c in blind), "its parts alone say something of it"
    assert sum(after[c] < parts[c] for c in parts) >= 6
    assert not any(r.measured for r in run.last.rows if r.type == KIND)
