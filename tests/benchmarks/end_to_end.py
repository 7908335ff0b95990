"""Plans against the exhaustive search: what the search costs, how well it forecasts, and what its choice loses.

    python -m tests.benchmarks.end_to_end --json OUT [--data DIR] [--task TASK ...] [--repeats N]

The full grid of every task is measured once (``tests.benchmarks.exhaustive``) and read from DIR, ``measured/`` beside this file
by default: ``grid/TASK.json``, and the probes that plans asked for in ``probes/TASK.json``. What a plan asks for and DIR lacks is
measured by a real probe, and remembered there too. Summary, over all tasks and as ``TASK.name`` for each:

cost_share           CPU-seconds of all probes, starts included, over those of the exhaustive search (one start a model)
cost_share_flops     the same in FLOPs
mae                  mean |forecast - measured| quality of the candidates that were not measured in full, in points
sampling_error       mean |measured - true| that the evaluation's own finite items cause, in points
mae_beyond_sampling  what is left of mae when sampling error is taken out in quadrature, in points
regret               best measured quality less that of the recommendation, in points
regret_heldout       the same without the winner's curse: the best on one half of the items, both scored on the other half
coverage90           share of those candidates whose measured quality lies in the forecast's 90 % interval
coverage90_predictive  the same, the interval widened by the measurement's own sampling error

and, for the designers ``random``, ``uniform`` and ``halving`` with the same forecaster and, on average, the same money as the plan's own
search took, ``DESIGNER.name`` and ``TASK.DESIGNER.name``, means over ``--repeats`` orders of the plan's lists (their order is
all that is random in them): see ``tests.benchmarks.replay``.

**Two regrets.** The best of 40 scores on 120 to 200 items is several points above the best true quality, for luck picks it
as well as merit; ``regret`` charges that to every search but the exhaustive one. ``regret_heldout`` is what would be lost in
use: over 1,000 random splits of the items, the exhaustive search chooses on one half, and its choice and the plan's are
compared on the other. It may be negative, since choosing by half of the items is harder than by all of them.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from orrery.api.probe import TrialResult
from orrery.laws.posterior import Z90
from orrery.planning.types import ProbeRecord, Step
from tests.benchmarks import exhaustive, harness
from tests.benchmarks.grids import TASKS, full_trials, plan
from tests.benchmarks.recorded import World, answer, flops, seconds
from tests.benchmarks.replay import at_equal_money, item_scores
from tests.benchmarks.tables import InputError

SPLITS = 1000
#: Named in the summary: the designer in plans.
RIVALS = {"random": "Random", "uniform": "Uniform", "halving": "SuccessiveHalving"}


@dataclass(frozen=True)
class Truth:
    """A candidate's full measurement."""

    model: str
    score: float
    bits: NDArray[np.float64]  #: (items,) right or wrong
    seconds: float
    flops: float

    @property
    def items(self) -> int:
        """Evaluation items."""
        return len(self.bits)


def truths(task: str, folder: Path = exhaustive.MEASURED) -> dict[str, Truth]:
    """Full measurements by candidate; those that could not run on this machine are left out."""
    found, asked = {}, {f.candidate for f in full_trials(plan(task))}
    for row in exhaustive.load(task, folder)["rows"].values():
        if row["candidate"] not in asked:
            continue
        result = TrialResult.model_validate(row["result"])
        if result.score is not None:
            found[row["candidate"]] = Truth(
                row["model"], float(result.score), item_scores(result), seconds(result), flops(result)
            )
    return found


def exhaustive_seconds(world: World, known: dict[str, Truth]) -> float:
    """Seconds of measuring everything in full, one start a model."""
    return sum(t.seconds for t in known.values()) + sum(
        world.start_seconds(m) for m in sorted({t.model for t in known.values()})
    )


def heldout_regret(known: dict[str, Truth], chosen: Truth | None, seed: int) -> float:
    """Mean over splits of: score of the best of the other half, less that of the choice, in points."""
    table = np.stack([t.bits for t in known.values()])
    own = chosen.bits if chosen is not None else np.zeros(table.shape[1])
    rng, half = np.random.default_rng(seed), table.shape[1] // 2
    lost = []
    for _ in range(SPLITS):
        order = rng.permutation(table.shape[1])
        here, there = order[:half], order[half:]
        scores = table[:, here].sum(axis=1)
        # equals are equally likely to be taken
        best = table[np.ix_(np.flatnonzero(scores == scores.max()), there)].mean()
        lost.append(best - own[there].mean())
    return 100 * fmean(lost)


def score(
    world: World, known: dict[str, Truth], step: Step, records: Sequence[ProbeRecord], seed: int
) -> dict[str, float]:
    """The figures of one search."""
    total, work = exhaustive_seconds(world, known), sum(t.flops for t in known.values())
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
        "cost_share": spent / total,
        "cost_share_flops": spent_flops / work,
        "mae": fmean(errors),
        "sampling_error": fmean(noise),
        "mae_beyond_sampling": beyond * math.sqrt(2 / math.pi),
        "regret": 100 * (best - (chosen.score if chosen else 0.0)),
        "regret_heldout": heldout_regret(known, chosen, seed),
        "coverage90": fmean(inside),
        "coverage90_predictive": fmean(predictive),
        "unmeasured": float(len(errors)),
        "probes": float(len(records)),
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
    "regret_heldout",
    "coverage90",
    "coverage90_predictive",
)
#: What is said of the other designers.
COMPARED = ("cost_share", "mae", "mae_beyond_sampling", "regret", "regret_heldout", "coverage90")


def rivals(task: str, world: World, known: dict[str, Truth], money: float, repeats: int, seed: int) -> dict[str, Any]:
    """``DESIGNER.name`` of every other designer, for as many seconds as the plan's own search took."""
    out: dict[str, float] = {}
    for name, designer in RIVALS.items():
        found = []
        for r in range(repeats):
            step, records = at_equal_money(world, plan(task), designer, money, random.Random(seed + r))
            found.append(score(world, known, step, records, seed))
        out |= {f"{name}.{key}": fmean(f[key] for f in found) for key in COMPARED}
    return out


def measure(tasks: list[str], repeats: int, seed: int, folder: Path = exhaustive.MEASURED) -> harness.Outcome:
    """All tasks.

    Raises:
        InputError: the grid of a task is missing or has holes.
    """
    rows: list[harness.Row] = []
    compared: list[harness.Row] = []
    for task in tasks:
        missing = [
            f.candidate
            for f in full_trials(plan(task))
            if exhaustive.key_of(f) not in exhaustive.load(task, folder)["rows"]
        ]
        if missing:
            raise InputError(
                f"{len(missing)} full trials of {task} were never measured: run "
                f"python -m tests.benchmarks.exhaustive --task {task} first"
            )
        world, known = World(task, folder), truths(task, folder)
        step, records = answer(world, plan(task))
        label = task.removeprefix("bigbench/")
        rows.append({"task": label, "candidates": len(known)} | score(world, known, step, records, seed))
        compared.append({"task": label} | rivals(task, world, known, rows[-1]["search_seconds"], repeats, seed))
    summary = {name: fmean(row[name] for row in rows) for name in NAMES}
    columns = [k for k in compared[0] if k != "task"]
    summary |= {name: fmean(row[name] for row in compared) for name in columns}
    summary |= {f"{row['task']}.{name}": row[name] for row in rows for name in NAMES}
    summary |= {f"{row['task']}.{name}": row[name] for row in compared for name in columns}
    beside = [
        {"task": a["task"], "designer": who} | {c: (b[f"{who}.{c}"] if who in RIVALS else a[c]) for c in COMPARED}
        for a, b in zip(rows, compared, strict=True)
        for who in ("expected value", *RIVALS)
    ]
    return harness.Outcome([*rows, *beside], summary, [("end to end", rows), ("designers at equal money", beside)])


def main() -> None:
    """See the module's docstring."""

    def extra(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--data",
            type=Path,
            default=exhaustive.MEASURED,
            metavar="DIR",
            help="folder of measured grids and probes (default: the project's own)",
        )
        parser.add_argument("--task", action="append", choices=sorted(TASKS), help="default: all in DIR")
        parser.add_argument(
            "--repeats", type=int, default=3, metavar="N", help="orders each other designer is tried with (default 3)"
        )

    args = harness.arguments(__doc__, data=None, extra=extra)
    if args.repeats < 1:
        raise SystemExit(f"--repeats is {args.repeats}: write 1 or more")
    harness.run("end_to_end", args, lambda: measure(args.task or _held(args.data), args.repeats, args.seed, args.data))


def _held(folder: Path) -> list[str]:
    tasks = [t for t in TASKS if exhaustive.path_of(t, folder).exists()]
    if not tasks:
        raise InputError(f"--data {folder} holds no grid/TASK.json of {', '.join(TASKS)}: measure them first")
    return tasks


if __name__ == "__main__":
    main()
