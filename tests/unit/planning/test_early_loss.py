"""A grid of trainings ranked by the first tenth of each: the designer by name, its price, and what forecasts make of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.special import logit
from scipy.stats import spearmanr

from orrery.api.probe import Method, Outcome, Parameter, ProbeSpec, Trial, TrialResult
from orrery.cli.explain import _measured
from orrery.costs.flops import Training
from orrery.laws.posterior import Link
from orrery.planning.advance import advance
from orrery.planning.designers.early_loss import PERCENT, PROMOTED
from orrery.planning.evidence import gather
from orrery.planning.types import Facts, ProbeRecord
from orrery.strategies.tuning_curves import Points, TuningCurves
from tests.unit.planning.world import Run, World, drive, make_plan, make_prices, model

pytestmark = pytest.mark.unit

PRICES = make_prices()
FACTS = Facts(task=World().task_facts)
RATES = ["1e-6", "1e-5", "1e-4", "3e-4", "1e-3", "1e-2"]
#: Eighteen ways to train one model, most of them bad.
GRID: dict[str, Any] = {
    "models": [model("small")],
    "strategies": [
        {"name": "zero-shot", "type": "ZeroShot"},
        {
            "name": "lora",
            "type": "LoRA",
            "grid": [
                {"name": "learningRate", "values": RATES},
                {"name": "epochs", "values": ["2"]},
                {"name": "rank", "values": ["4", "8", "16"]},
            ],
        },
    ],
    "objective": {"goal": "MaximizeQuality"},
    "budget": {"maxProbeCost": "10"},
}


def run(world: World, **changes: Any) -> Run:
    probing = {"designer": "EarlyLoss"} | changes.pop("probing", {})
    return drive(make_plan(**(GRID | changes | {"probing": probing})), PRICES, world, facts=changes.get("facts", FACTS))


def trials(records: Sequence[ProbeRecord]) -> list[tuple[str, Trial, TrialResult]]:
    return [
        (r.spec.model.name, t, next(x for x in r.report.trials if x.name == t.name))
        for r in records
        if r.report is not None
        for t in r.spec.trials
    ]


def whole(records: Sequence[ProbeRecord]) -> list[Trial]:
    return [t for _, t, _ in trials(records) if t.fidelity.method is Method.DIRECT and t.strategy == "LoRA"]


def test_everyone_is_begun_and_the_best_ninth_is_trained() -> None:
    world = World(seed=3)
    done = run(world)
    early = [t for _, t, _ in trials(done.records) if t.fidelity.method is Method.EARLY]
    assert len(early) == 18 and {t.fidelity.schedule_percent for t in early} == {PERCENT}
    assert {t.fidelity.training_examples for t in early} == {400}, "the schedule is that of the whole training"
    begun = [r for r in done.records if any(t.fidelity.method is Method.EARLY for t in r.spec.trials)]
    assert len(begun) == 2, "all are wanted, and a probe reports sixteen"
    truth = sorted((world.quality("small", t) for t in early), reverse=True)
    assert len(whole(done.records)) == 18 // PROMOTED
    assert all(world.quality("small", t) >= truth[3] for t in whole(done.records))
    answer = done.last.status.recommendation
    assert answer is not None and answer.strategy == "lora" and answer.measured
    assert done.last.reason == "AnswerSettled" and "train loss was ahead early" in done.last.message


def test_it_costs_a_tenth_of_the_search_and_what_was_promoted() -> None:
    done = run(World(seed=3))
    spent = sum(float(r.train_flops or 0) for _, _, r in trials(done.records))
    of_one = max(float(r.train_flops or 0) for _, _, r in trials(done.records))
    assert spent == pytest.approx((18 * PERCENT / 100 + 18 // PROMOTED) * of_one, rel=0.05)
    asked = [r for step in done.steps for r in step.start]
    begun = max((r for r in asked if r.spec.trials[0].fidelity.schedule_percent), key=lambda r: len(r.spec.trials))
    full = next(r for r in asked if r.spec.trials[0] in whole(done.records))
    per_trial = [float(r.expected_cost) / len(r.spec.trials) for r in (begun, full)]
    assert per_trial[0] < 0.35 * per_trial[1], "stopped trainings are priced as such"


def test_forecasts_move_by_the_early_losses() -> None:
    """Eight ranks: the lower the loss of one, the more its forecast gains on what it was."""
    ranks = [str(r) for r in range(4, 36, 4)]
    axes = {"learningRate": ["1e-3"], "epochs": ["2"], "rank": ranks}
    grid = [{"name": k, "values": v} for k, v in axes.items()]
    plan = make_plan(
        **GRID | {"strategies": [{"name": "lora", "type": "LoRA", "grid": grid}]}, probing={"designer": "EarlyLoss"}
    )
    world = World(seed=3)
    records: list[ProbeRecord] = []
    while (asked := advance(plan, records, PRICES, FACTS).start) and asked[0].spec.trials[0].fidelity.schedule_percent:
        records.append(world.run(asked[0], Decimal("0.00001"))[0])
    loss = {_rank(t.parameters): float(r.train_loss[-1]) for _, t, r in trials(records)}
    before, after = (
        {
            dict(row.configuration)["rank"]: row.quality.median
            for row in advance(plan, known, PRICES, FACTS).rows
            if row.quality is not None
        }
        for known in ([], records)
    )
    assert set(loss) == set(ranks) == set(after)
    gained = [logit(after[r]) - logit(before[r]) for r in ranks]
    assert spearmanr([loss[r] for r in ranks], gained).statistic < -0.99


def _rank(parameters: Sequence[Parameter]) -> str:
    return next(p.value for p in parameters if p.name == "rank")


def test_losses_of_two_models_are_not_compared() -> None:
    """The encoder's losses are a hundredth of the other's, and each model's best is trained all the same."""

    class Units(World):
        def losses(self, name: str, trial: Trial, truth: float) -> tuple[float, float]:
            scale = 0.01 if name == "encoder" else 1.0
            before, now = super().losses(name, trial, truth)
            return scale * before, scale * now

    done = run(Units(seed=3), models=[model("small"), model("encoder", "Encoder")])
    by_model = {name for name, t, _ in trials(done.records) if t in whole(done.records)}
    assert by_model == {"small", "encoder"}


def test_a_training_that_diverges_early_is_out_and_holds_up_nobody() -> None:
    class Diverging(World):
        def measure(self, spec: ProbeSpec, trial: Trial) -> TrialResult:
            result = super().measure(spec, trial)
            bad = any(p.value == "0.01" for p in trial.parameters) and trial.fidelity.method is Method.EARLY
            return TrialResult(name=trial.name, outcome=Outcome.DIVERGED, message="loss nan") if bad else result

    done = run(Diverging(seed=3))
    assert done.last.finished and len(whole(done.records)) == 2
    said = [r.reason for r in done.last.rows if dict(r.configuration).get("learningRate") == "0.01"]
    assert len(said) == 3 and all("diverged when it was probed" in s for s in said)


def test_without_the_data_s_size_one_trial_brings_it_first() -> None:
    only = GRID | {"strategies": GRID["strategies"][1:], "probing": {"designer": "EarlyLoss"}}
    first = advance(make_plan(**only), [], PRICES).start
    assert [len(r.spec.trials) for r in first] == [1]
    assert first[0].spec.trials[0].fidelity.method is Method.DIRECT
    done = drive(make_plan(**only), PRICES, World(seed=3))
    assert {t.fidelity.training_examples for _, t, _ in trials(done.records) if t.fidelity.method is Method.EARLY} == {
        400
    }


def test_a_report_without_the_losses_is_refused() -> None:
    done = run(World(seed=3))
    record = next(r for r in done.records if r.spec.trials[-1].fidelity.method is Method.EARLY)
    assert record.report is not None
    for losses, sentence in (([], "without a train loss"), ([Decimal(-1), Decimal(1)], "train loss below zero")):
        bad = [r.model_copy(update={"train_loss": losses}) for r in record.report.trials]
        lying = replace(record, report=record.report.model_copy(update={"trials": bad}))
        plan = make_plan(**GRID, probing={"designer": "EarlyLoss", "retries": 0})
        known = gather(plan.spec, [lying], FACTS)
        assert sentence in " ".join(known.refused.values())
        assert all(e.result.outcome is Outcome.FAILED for e in known.evidence["small"])


def test_a_slope_is_learned_from_what_was_trained() -> None:
    """Where low early losses end badly, whole trainings say so, and the order turns."""

    signal = np.linspace(-0.6, 0.6, 9)
    points = Points.of([Training.ADAPTER] * 9, [0.1] * 9, [2.0] * 9, [8.0] * 9, [400.0] * 9, signal.tolist())
    few = points.take(np.array([0, 1, 4, 7, 8]))
    nothing = points.take(np.zeros(0, dtype=np.intp))
    noise = np.full(5, 0.1)
    before, _ = TuningCurves(False, (0.0, 0.1), nothing, np.zeros(0), np.zeros(0), Link.LOGIT, 0.5).predict(points)
    assert (np.diff(before) < 0).all()
    after, sd = TuningCurves(False, (0.0, 0.1), few, 1.0 + 0.9 * few.signal, noise, Link.LOGIT, 0.5).predict(points)
    assert (np.diff(after) > 0).all() and (sd > 0).all()


def test_people_read_the_loss_where_there_is_no_score() -> None:
    console = Console(width=200, file=io.StringIO())
    console.print(_measured(run(World(seed=3)).records))
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO above
    assert shown.count("first 10 % of the steps, 400 examples") == 18 == shown.count("train loss ")
