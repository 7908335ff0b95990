"""What other stopping rates and other rules of choice would give, on the measured grids and in a made-up world.

    python -m tests.benchmarks.choices --json OUT [--rate POINTS ...] [--seeds N]

rates   the end-to-end figures of ``ExpectedValue`` where the whole search must bring so many points
rules   which candidate is taken from the forecasts at which the plans end: regret of the choice, and its mean in 1,000 random pools of
        12 of the 40 candidates, which says more of the rule and less of luck than one choice a task
world   cost, regret and error by true qualities in ``tests/unit/planning/world.py``, whose models share no task's difficulty
        and whose curves are not the law's

Probes that no earlier run asked for are measured for real, as in ``tests.benchmarks.end_to_end``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import numpy as np

from orrery.api.probe import Fidelity, Parameter, Trial
from orrery.costs.prices import Prices
from orrery.laws.posterior import Array, Link
from orrery.planning.advance import advance
from orrery.planning.decision import mean_on_metric
from orrery.planning.designers import expected_value
from orrery.planning.types import Facts, ProbeRecord, ResultRow
from tests.benchmarks import harness
from tests.benchmarks.end_to_end import heldout_regret, score, truths
from tests.benchmarks.grids import TASKS, plan
from tests.benchmarks.recorded import World, answer
from tests.unit.planning import world as made_up

RATES = (40.0, 60.0, 80.0, 100.0, 140.0)
SHOWN = ("cost_share", "mae", "regret", "regret_heldout", "coverage90")
POOLS, POOL = 1000, 12
_Z90 = 1.6449

Rule = Callable[[Array, Array], int]  #: link-scale means and sds to the place of the choice


@contextmanager
def rate(points: float) -> Iterator[None]:
    """``ExpectedValue`` with another stopping rate."""
    before = expected_value.POINTS_FOR_EXHAUSTIVE
    expected_value.POINTS_FOR_EXHAUSTIVE = points
    try:
        yield
    finally:
        expected_value.POINTS_FOR_EXHAUSTIVE = before


def tied(width: float, sds: float) -> Rule:
    """Qualities within ``width`` are the same: of those the one whose mean less ``sds`` standard deviations is highest."""

    def choose(mean: Array, sd: Array) -> int:
        quality = mean_on_metric(mean, sd, Link.LOGIT)
        return int(np.argmax(np.where(quality >= quality.max() - width, mean - sds * sd, -np.inf)))

    return choose


RULES: dict[str, Rule] = {
    "best mean": tied(0.0, 0.0),
    "within .5 points, best at 95 %": tied(0.005, _Z90),
    "within 1 point, best at 95 % (shipped)": tied(0.01, _Z90),
    "within 2 points, best at 95 %": tied(0.02, _Z90),
    "within 4 points, best at 95 %": tied(0.04, _Z90),
    "mean less half an sd": tied(2.0, 0.5),
    "mean less an sd": tied(2.0, 1.0),
    "mean and half an sd": tied(2.0, -0.5),
}


def rates(points: list[float], seed: int) -> list[harness.Row]:
    """A row for each rate: means over the measured tasks."""
    rows = []
    for p in points:
        found = []
        with rate(p):
            for task in TASKS:
                step, records = answer(world := World(task), plan(task))
                found.append(score(world, truths(task), step, records, seed))
        rows.append({"rate": p} | {name: fmean(f[name] for f in found) for name in SHOWN})
    return rows


def rules(seed: int) -> list[harness.Row]:
    """A row for each rule: means over the measured tasks."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in RULES}
    for task in TASKS:
        known = truths(task)
        step, _ = answer(World(task), plan(task))
        rows = [r for r in step.rows if r.candidate in known and r.quality is not None]
        low, high = (Link.LOGIT.forward(np.clip(_ends(rows, i), 1e-4, 1 - 1e-4)) for i in (0, 1))
        mean, sd = (low + high) / 2, (high - low) / (2 * _Z90)
        real = np.array([known[r.candidate].score for r in rows])
        rng = np.random.default_rng(seed)
        pools = [rng.choice(len(rows), POOL, replace=False) for _ in range(POOLS)]
        for name, rule in RULES.items():
            chosen = rule(mean, sd)
            lost = fmean(real[p].max() - real[p][rule(mean[p], sd[p])] for p in pools)
            truth = known[rows[chosen].candidate]
            found[name].append((100 * (real.max() - real[chosen]), heldout_regret(known, truth, seed), 100 * lost))
    names = ("regret", "regret_heldout", "regret_pools")
    return [
        {"rule": n} | {k: fmean(c) for k, c in zip(names, zip(*f, strict=True), strict=True)} for n, f in found.items()
    ]


def _ends(rows: list[ResultRow], end: int) -> Array:
    return np.array([(float(r.quality.lower), float(r.quality.upper))[end] for r in rows if r.quality is not None])


def _axes(**values: list[Any]) -> list[dict[str, Any]]:
    return [{"name": k, "values": v} for k, v in values.items()]


#: 24 fine-tuned and 11 other candidates a model.
STRATEGIES = [
    {"name": "zero-shot", "type": "ZeroShot"},
    {"name": "in-context", "type": "InContext", "grid": _axes(shots=[1, 2, 4, 8, 16], retriever=["random", "bm25"])},
    {"name": "lora", "type": "LoRA", "grid": _axes(learningRate=["1e-4", "3e-4", "1e-3"], epochs=[1, 3], rank=[4, 16])},
    {
        "name": "full",
        "type": "FullFineTuning",
        "grid": _axes(learningRate=["1e-5", "5e-5", "2e-4"], epochs=[1, 3], dataPercent=[25, 100]),
    },
]


def invented(seed: int) -> dict[str, float]:
    """Cost share, regret and mean |error| of one made-up task, in shares and points of true quality."""
    asked = made_up.make_plan(
        strategies=STRATEGIES, objective={"goal": "MaximizeQuality"}, budget={"maxProbeCost": "100"}
    )
    world, prices = made_up.World(seed=seed), made_up.make_prices()
    second = Prices(prices).per_second(asked.spec.accelerators[0])
    facts, records = Facts(task=world.task_facts), list[ProbeRecord]()
    while (step := advance(asked, records, prices, facts)).start:
        records += [world.run(request, second)[0] for request in step.start]
    real = {r.candidate: _true(world, r) for r in step.rows if r.quality is not None}
    chosen = next(r.candidate for r in step.rows if r.status == "Recommended")
    spend = step.status.spend
    assert spend is not None and spend.exhaustive_cost is not None
    errors = [abs(float(r.quality.median) - real[r.candidate]) for r in step.rows if r.quality and not r.measured]
    return {
        "cost_share": sum(float(r.cost) for r in records) / float(spend.exhaustive_cost),
        "regret": 100 * (max(real.values()) - real[chosen]),
        "mae": 100 * fmean(errors),
    }


def _true(world: made_up.World, row: ResultRow) -> float:
    inside = row.candidate.partition("(")[2].partition(")")[0]
    parameters = dict(pair.split("=") for pair in inside.split(","))
    share = int(parameters.pop("dataPercent", "100"))
    trained = row.type not in ("ZeroShot", "InContext")
    trial = Trial(
        name="full",
        strategy=row.type,
        parameters=[Parameter(name=k, value=v) for k, v in parameters.items()],
        fidelity=Fidelity(training_examples=share * world.train // 100 if trained else 0, evaluation_items=200),
    )
    return world.quality(row.model, trial)


def measure(points: list[float], seeds: int, seed: int) -> harness.Outcome:
    """All three tables."""
    by_rate, by_rule, made = rates(points, seed), rules(seed), []
    for p in points:
        with rate(p):
            found = [invented(s) for s in range(seeds)]
        made.append({"rate": p} | {k: fmean(f[k] for f in found) for k in found[0]})
    summary = {f"rate{r['rate']:g}.{k}": v for r in by_rate for k, v in r.items() if k != "rate"}
    summary |= {f"world{r['rate']:g}.{k}": v for r in made for k, v in r.items() if k != "rate"}
    tables = [("stopping rates", by_rate), ("rules of choice", by_rule), ("made-up world", made)]
    return harness.Outcome([*by_rate, *by_rule, *made], summary, tables)


def main() -> None:
    """See the module's docstring."""

    def extra(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--rate", type=float, action="append", help=f"default: {', '.join(map(str, RATES))}")
        parser.add_argument("--seeds", type=int, default=6, help="made-up tasks (default 6)")

    args = harness.arguments(__doc__, data=None, extra=extra)
    harness.run("choices", args, lambda: measure(args.rate or list(RATES), args.seeds, args.seed))


if __name__ == "__main__":
    main()
