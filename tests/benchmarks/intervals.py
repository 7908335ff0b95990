"""How often the intervals at which plans end hold, and whether another calibration would do better.

    python -m tests.benchmarks.intervals --json OUT

Every recorded task is planned as in ``tests.benchmarks.end_to_end``; nothing is run. Of the candidates that were not measured in full,
by strategy and by what of their model was trained: the share whose measured score lies in the 90 % interval, the same with the
interval widened by the measurement's own sampling error (``predictive``), the mean width, and the interval score (Gneiting and Raftery 2007,
section 6.2: the width, and twenty times what lies outside), all in points. ``conformal`` rows are split-conformal intervals: sds times the number
(one, or one a strategy) with which nine in ten of the other five tasks' scores lie inside; ``none`` is the one that ships.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy.special import expit, logit

from orrery.api.probe import Method
from orrery.laws.posterior import Z90, Array
from orrery.planning.types import ProbeRecord
from tests.benchmarks import harness
from tests.benchmarks.end_to_end import truths
from tests.benchmarks.grids import TASKS, plan
from tests.benchmarks.recorded import World, answer

LEVEL = 0.9
#: Factors of the sd that are tried.
_FACTORS = np.arange(0.2, 3.0, 0.02)


@dataclass(frozen=True)
class Forecasts:
    """Candidates at the end of a plan: link-scale forecasts, and the scores that were measured on so many items."""

    task: list[str]
    strategy: list[str]
    known: list[str]
    mean: Array
    sd: Array
    score: Array
    items: Array

    def take(self, rows: Array) -> Forecasts:
        at = np.flatnonzero(rows)
        task, strategy, known = ([v[i] for i in at] for v in (self.task, self.strategy, self.known))
        return Forecasts(task, strategy, known, self.mean[at], self.sd[at], self.score[at], self.items[at])

    def bounds(self, factor: Array | float, *, predictive: bool) -> tuple[Array, Array]:
        """The interval on the metric, its sd times ``factor``, with or without the sampling error of the measurement."""
        p = expit(self.mean)
        sampling = 1 / (self.items * p * (1 - p) + 0.5) if predictive else 0.0
        wide = Z90 * np.sqrt((factor * self.sd) ** 2 + sampling)
        return expit(self.mean - wide), expit(self.mean + wide)


def gather() -> Forecasts:
    """All tasks' candidates that were not measured in full."""
    rows = []
    for task in TASKS:
        measured = truths(task)
        step, records = answer(World(task), plan(task))
        trained = _trained(records)
        for r in step.rows:
            truth = measured.get(r.candidate)
            if truth is None or r.quality is None or r.measured:
                continue
            low, high = (float(logit(np.clip(v, 1e-6, 1 - 1e-6))) for v in (r.quality.lower, r.quality.upper))
            untrained = r.type in ("ZeroShot", "InContext")
            what = "nothing is trained" if untrained else trained.get(r.model, "its model was never trained")
            sd = (high - low) / (2 * Z90)
            rows.append((task, r.type, what, (low + high) / 2, sd, truth.score, float(truth.items)))
    names = ([r[i] for r in rows] for i in range(3))
    return Forecasts(*names, *(np.array([r[i] for r in rows]) for i in range(3, 7)))  # type: ignore[arg-type]  # in order


def _trained(records: list[ProbeRecord]) -> dict[str, str]:
    """By model, the largest training that was measured of it."""
    sizes: dict[str, int] = {}
    total = max((r.report.task_facts.train_examples for r in records if r.report and r.report.task_facts), default=0)
    for r in records:
        for t in r.spec.trials:
            if t.fidelity.method is Method.DIRECT and t.fidelity.training_examples:
                sizes[r.spec.model.name] = max(sizes.get(r.spec.model.name, 0), t.fidelity.training_examples)
    return {
        m: "its model was trained in full" if n >= total else "its model was trained on less" for m, n in sizes.items()
    }


def figures(f: Forecasts, factor: Array | float = 1.0) -> dict[str, float]:
    """Coverage, width and interval score, as they are and against what would be measured."""
    out: dict[str, float] = {"n": float(len(f.score))}
    for name, predictive in (("", False), ("predictive_", True)):
        low, high = f.bounds(factor, predictive=predictive)
        outside = np.maximum(low - f.score, 0) + np.maximum(f.score - high, 0)
        out[f"{name}coverage"] = float(np.mean(outside == 0))
        out[f"{name}width"] = 100 * float(np.mean(high - low))
        out[f"{name}interval_score"] = 100 * float(np.mean(high - low + 2 / (1 - LEVEL) * outside))
    return out


def conformal(f: Forecasts, of: Callable[[str], str], *, predictive: bool) -> Array:
    """(n,) factors of the sd, each learned from the other tasks' candidates of the same class ``of`` strategies."""
    factor = np.ones(len(f.score))
    tasks, classes = np.array(f.task), np.array([of(s) for s in f.strategy])
    for task, kind in sorted({*zip(tasks.tolist(), classes.tolist(), strict=True)}):
        others = f.take((tasks != task) & (classes == kind))
        here = (tasks == task) & (classes == kind)
        for k in _FACTORS:
            low, high = others.bounds(k, predictive=predictive)
            if np.mean((low <= others.score) & (others.score <= high)) >= LEVEL:
                break
        factor[here] = k
    return factor


def measure() -> harness.Outcome:
    """All tables."""
    f = gather()
    strategy, known = np.array(f.strategy), np.array(f.known)
    groups = {"all": np.ones(len(strategy), dtype=bool)}
    groups |= {s: strategy == s for s in sorted(set(f.strategy))} | {k: known == k for k in sorted(set(f.known))}
    shown: list[harness.Row] = [{"candidates": name} | figures(f.take(rows)) for name, rows in groups.items()]
    ways: dict[str, Callable[[str], str]] = {
        "one number": lambda s: "",
        "one for trainings, one for the rest": lambda s: str(s in ("ZeroShot", "InContext")),
        "one a strategy": lambda s: s,
    }
    compared: list[harness.Row] = [{"calibration": "none", "factor": 1.0} | figures(f)]
    for name, of in ways.items():
        for predictive in (False, True):
            factor = conformal(f, of, predictive=predictive)
            label = f"conformal, {name}" + (", against what would be measured" if predictive else "")
            compared.append({"calibration": label, "factor": fmean(factor)} | figures(f, factor))
    summary = {
        f"{r['candidates']}.{k}".replace(" ", "_"): float(v) for r in shown for k, v in r.items() if k != "candidates"
    }
    summary |= {k: float(shown[0][k]) for k in ("coverage", "predictive_coverage", "width", "interval_score")}
    return harness.Outcome([*shown, *compared], summary, [("intervals", shown), ("other calibrations", compared)])


def main() -> None:
    """See the module's docstring."""
    args = harness.arguments(__doc__, data=None)
    harness.run("intervals", args, measure)


if __name__ == "__main__":
    main()
