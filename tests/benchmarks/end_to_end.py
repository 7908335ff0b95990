"""Plans against the exhaustive search: what the search costs, how well it forecasts, and what its choice loses.

    python -m tests.benchmarks.end_to_end --json OUT [--task TASK ...]

The full grid of every task is measured once (``tests.benchmarks.exhaustive``) and read from ``measured/``. The plan then asks
for probes of its own; they are real, and remembered too. Summary, over all tasks and as ``TASK.name`` for each:

cost_share           CPU-seconds of all probes, starts included, over those of the exhaustive search (one start a model)
cost_share_flops     the same in FLOPs
mae                  mean |forecast - measured| quality of the candidates that were not measured in full, in points
sampling_error       mean |measured - true| that the evaluation's own finite items cause, in points
mae_beyond_sampling  what is left of mae when sampling error is taken out in quadrature, in points
regret               best measured quality less that of the recommendation, in points
coverage90           share of those candidates whose measured quality lies in the forecast's 90 % interval
coverage90_predictive  the same, the interval widened by the measurement's own sampling error
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from scipy.special import expit, logit

from orrery.api.probe import TrialResult
from orrery.planning.types import ProbeRecord, Step
from tests.benchmarks import exhaustive, harness
from tests.benchmarks.grids import TASKS, full_trials, plan
from tests.benchmarks.recorded import World, answer, flops, seconds

Z90 = 1.6448536269514722


@dataclass(frozen=True)
class Truth:
    """A candidate's full measurement."""

    model: str
    score: float
    items: int
    seconds: float
    flops: float


def truths(task: str) -> dict[str, Truth]:
    """Full measurements by candidate; those that could not run on this machine are left out."""
    found, asked = {}, {f.candidate for f in full_trials(plan(task))}
    for row in exhaustive.load(task)["rows"].values():
        if row["candidate"] not in asked:
            continue
        result = TrialResult.model_validate(row["result"])
        if result.score is not None:
            found[row["candidate"]] = Truth(
                row["model"], float(result.score), result.items, seconds(result), flops(result)
            )
    return found


def score(task: str, world: World, step: Step, records: list[ProbeRecord]) -> dict[str, Any]:
    """One task's figures."""
    known = truths(task)
    total = sum(t.seconds for t in known.values()) + sum(
        world.start_seconds(m) for m in {t.model for t in known.values()}
    )
    work = sum(t.flops for t in known.values())
    spent = sum(r.seconds for r in records)
    spent_flops = sum(flops(t) for r in records if r.report for t in r.report.trials)
    errors, noise, inside, predictive = [], [], [], []
    chosen = None
    for row in step.rows:
        truth = known.get(row.candidate)
        if truth is None or row.quality is None:
            continue
        if row.status == "Recommended":
            chosen = truth
        if row.measured:
            continue
        se = math.sqrt(max(truth.score * (1 - truth.score), 0.25 / truth.items) / truth.items)
        errors.append(100 * abs(row.quality.median - truth.score))
        noise.append(100 * se * math.sqrt(2 / math.pi))
        inside.append(row.quality.lower <= truth.score <= row.quality.upper)
        predictive.append(_predictive(row.quality.lower, row.quality.upper, truth))
    best = max(t.score for t in known.values())
    beyond = math.sqrt(max(float(np.mean(np.square(errors))) - float(np.mean(np.square(noise))) * math.pi / 2, 0.0))
    return {
        "task": task.removeprefix("bigbench/"),
        "cost_share": spent / total,
        "cost_share_flops": spent_flops / work,
        "mae": fmean(errors),
        "sampling_error": fmean(noise),
        "mae_beyond_sampling": beyond * math.sqrt(2 / math.pi),
        "regret": 100 * (best - (chosen.score if chosen else 0.0)),
        "coverage90": fmean(inside),
        "coverage90_predictive": fmean(predictive),
        "candidates": len(known),
        "unmeasured": len(errors),
        "probes": len(records),
        "search_seconds": spent,
        "exhaustive_seconds": total,
        "best": best,
        "chosen": chosen.score if chosen else 0.0,
    }


def _predictive(lower: float, upper: float, truth: Truth) -> bool:
    """Whether the measured score lies in the interval of what would be measured on as many items."""
    low, high = (float(logit(min(max(v, 1e-6), 1 - 1e-6))) for v in (lower, upper))
    middle, sd = (low + high) / 2, (high - low) / (2 * Z90)
    p = float(expit(middle))
    wide = math.sqrt(sd**2 + 1 / (truth.items * max(p * (1 - p), 0.25 / truth.items)))
    measured = min(max(truth.score, 0.5 / truth.items), 1 - 0.5 / truth.items)
    return abs(float(logit(measured)) - middle) <= Z90 * wide


NAMES = (
    "cost_share",
    "cost_share_flops",
    "mae",
    "sampling_error",
    "mae_beyond_sampling",
    "regret",
    "coverage90",
    "coverage90_predictive",
)


def measure(tasks: list[str]) -> harness.Outcome:
    """All tasks."""
    rows = []
    for task in tasks:
        missing = [
            f.candidate for f in full_trials(plan(task)) if exhaustive.key_of(f) not in exhaustive.load(task)["rows"]
        ]
        if missing:
            raise SystemExit(
                f"{len(missing)} full trials of {task} were never measured: run "
                f"python -m tests.benchmarks.exhaustive --task {task} first"
            )
        world = World(task)
        step, records = answer(world, plan(task))
        rows.append(score(task, world, step, records))
    summary = {name: fmean(row[name] for row in rows) for name in NAMES}
    summary |= {f"{row['task']}.{name}": row[name] for row in rows for name in NAMES}
    return harness.Outcome(rows, summary, [("end to end", rows)])


def main() -> None:
    """See the module's docstring."""

    def extra(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--task", action="append", choices=sorted(TASKS), help="default: all")

    args = harness.arguments(__doc__, data=None, extra=extra)
    harness.run("end_to_end", args, lambda: measure(args.task or list(TASKS)))


if __name__ == "__main__":
    main()
