"""Adaptation that makes a model worse: its probability, on candidates that were measured in full."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orrery.api.probe import Method, TaskFacts, Trial, TrialResult
from orrery.planning import status
from orrery.planning.candidates import expand
from orrery.planning.evidence import gather
from orrery.planning.forecasts import Groups
from orrery.planning.types import Facts
from orrery.strategies.base import Evidence
from tests.benchmarks.grids import TASKS, plan
from tests.unit.planning.world import World, drive, make_plan, make_prices, model
from tests.unit.strategies.test_forecasts import forecast, group, lora, seen, shots, zero

pytestmark = pytest.mark.unit

MEASURED = Path(__file__).parents[2] / "benchmarks" / "measured"


@cache
def _rows(folder: str, task: str) -> list[dict[str, Any]]:
    path = MEASURED / folder / f"{task.rpartition('/')[2]}.json"
    return list(json.loads(path.read_text())["rows"].values()) if path.exists() else []


@cache
def said_and_was(kind: str) -> tuple[tuple[float, bool], ...]:
    """P(worse than zero-shot) of every candidate of a kind of strategy, from zero-shot and the proxy; and what it was."""
    found = []
    for task in TASKS:
        spec = plan(task).spec
        space, known = expand(spec), gather(spec, [], Facts())
        known.task_facts = TaskFacts.model_validate(
            json.loads((MEASURED / "grid" / f"{task.rpartition('/')[2]}.json").read_text())["task_facts"]
        )
        truth = {r["candidate"]: float(r["result"]["score"]) for r in _rows("grid", task)}
        for row in [*_rows("grid", task), *_rows("probes", task)]:
            e = Evidence(Trial.model_validate(row["trial"]), TrialResult.model_validate(row["result"]), "cpu")
            if e.trial.strategy == "ZeroShot" or e.trial.fidelity.method is Method.PROXY:
                known.evidence.setdefault(row["model"], []).append(e)
        groups = Groups(spec, space, known)
        for g, of in enumerate(space.groups):
            if of.refusal is not None or of.strategy.name not in kind.split():
                continue
            hurts = of.plugin.forecast(groups.build(g)).hurts
            assert hurts is not None and ((hurts >= 0) & (hurts <= 1)).all()
            start = truth[f"{of.model.name}/zero-shot(calibration=none)@cpu"]
            found += [(float(hurts[i]), truth[space.label(of.first + i)] < start) for i in range(of.size)]
    return tuple(found)


def test_trainings_that_harm_are_told_from_those_that_do_not() -> None:
    """168 trainings on six tasks, five of them near chance, a third worse than the model as it was.

    Each is called with the numbers that its own task had no part in. The chances are too low on average: on metaphors, where
    every training harms, .43 is said.
    """
    p, y = (np.array(v, dtype=float) for v in zip(*said_and_was("lora qlora full"), strict=True))
    assert len(p) == 168 and y.sum() == 56
    assert 0 < y.mean() - p.mean() < 0.15
    assert ((p - y) ** 2).mean() < 0.75 * y.mean() * (1 - y.mean()), "better than the base rate for everyone"
    worth_saying = p > status._WORTH_SAYING
    assert y[worth_saying].mean() > 0.6 and y[~worth_saying].mean() < 0.05 and worth_saying.mean() < 0.6


def test_demonstrations_that_were_not_measured_are_called_with_caution() -> None:
    p, y = (np.array(v, dtype=float) for v in zip(*said_and_was("in-context"), strict=True))
    assert len(p) == 60 and y.sum() == 39
    assert 0.05 < p.mean() < 0.5 and p.max() < 0.7
    assert p[y > 0].mean() > p[y == 0].mean()


def test_one_measured_dip_makes_the_next_likely_and_does_not_condemn_eight() -> None:
    """SmolLM2-135M on seven intents: .33 as it is, .27 with one at random, .15 with two, .195 with four, .56 with eight."""
    g = group("InContext", [zero(0.33), shots(1, 0.27), shots(2, 0.15)], shots=[1, 2, 4, 8], retriever=["random"])
    hurts = forecast(g, "InContext").hurts
    assert hurts is not None
    assert hurts[1] > 0.97 and (np.diff(hurts[1:]) < 0).all(), "two shots hurt for sure, eight may be past the dip"
    assert hurts[2] > 0.5 and hurts[3] < 0.9


@pytest.mark.parametrize("kind", ["LoRA", "InContext", "FineTuneThenInContext"])
def test_losses_that_rise_are_called_harmful_and_those_that_fall_are_not(kind: str) -> None:
    grid: dict[str, Any] = {"shots": [4], "retriever": ["random"]} if kind != "LoRA" else {}
    grid |= {"learningRate": ["1e-3"], "epochs": [3]} if kind != "InContext" else {}
    for score, low, high in ((3.0, 0.85, 1.0), (0.5, 0.0, 0.15)):
        extra = {"learningRate": "0.001", "epochs": "3", "rank": "8", "shots": "4", "retriever": "random"}
        evidence = [zero(1.5), lora(400, score), shots(4, score), seen("FineTuneThenInContext", score, 400, **extra)]
        hurts = forecast(group(kind, evidence, metric="NegativeLogLikelihood", **grid), kind).hurts
        assert hurts is not None and low <= hurts[0] <= high


def test_a_candidate_that_likely_hurts_says_so_in_its_reason() -> None:
    world = World(seed=1, overrides={("small", "zero"): 0.9, ("small", "LoRA"): 0.4})
    strategies = [{"name": "zero-shot", "type": "ZeroShot"}, {"name": "lora", "type": "LoRA"}]
    asked = make_plan(
        models=[model("small")],
        strategies=strategies,
        objective={"goal": "MaximizeQuality"},
        probing={"designer": "Uniform"},  # it measures LoRA, whatever that is worth
    )
    last = drive(asked, make_prices(), world).last
    assert last.status.recommendation is not None and last.status.recommendation.strategy == "zero-shot"
    rejected = [r for r in last.rows if r.type == "LoRA"]
    assert any("Likely worse than the model as it is, with probability" in r.reason for r in rejected)


def test_a_chance_of_harm_is_said_before_it_is_likely() -> None:
    """Training on this task brought nothing so far, and zero-shot was good: three in ten is worth knowing."""
    world = World(seed=1, overrides={("small", "zero"): 0.75, ("small", "LoRA"): 0.75})
    strategies = [{"name": "zero-shot", "type": "ZeroShot"}, {"name": "lora", "type": "LoRA"}]
    asked = make_plan(models=[model("small")], strategies=strategies, objective={"goal": "MaximizeQuality"})
    said = [r.reason for r in drive(asked, make_prices(), world).last.rows if r.type == "LoRA"]
    assert any(". Worse than the model as it is, with probability " in s for s in said)
