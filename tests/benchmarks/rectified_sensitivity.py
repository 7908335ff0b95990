"""How far the forecasts of ``rectified`` hang on numbers that were chosen, not learned: ``rectified_sensitivity``.

Each number is halved and doubled (the even odds of no pull become one to two and two to one; counts stay whole), and the
cells of ``rectified`` are forecast again. ``learned`` ones (mean pull, weight of the present) are moved in the prior itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

from orrery.laws import catch_up, empirical_bayes, pooled_prior, priors
from orrery.laws.pooled_prior import PooledPrior
from orrery.laws.posterior import Link
from tests.benchmarks.curves import Task, read_tasks
from tests.benchmarks.harness import Outcome, Row, arguments, run
from tests.benchmarks.rectified import BUDGETS, cell

_METRICS = ("pearcorr", "relacc", "relacc_subpools", "abs_ln_error", "coverage90")
#: Constants of modules, by what they are.
CHOSEN: dict[str, tuple[ModuleType, str]] = {
    "sd of a model's deviation": (catch_up, "_LEVEL_SD"),
    "sd of its slope": (catch_up, "_SLOPE_SD"),
    "slope noises": (catch_up, "_SLOPE_NOISES"),
    "noises": (catch_up, "_NOISES"),
    "sd of a step": (catch_up, "_STEP_SD"),
    "rounds of adapting": (empirical_bayes, "_ADAPTING"),
    "curves the others' covariance is worth": (empirical_bayes, "_CURVES_WORTH"),
}
#: Defaults of arguments of ``catch_up.forecast``.
ARGUMENTS = {"probability of a step": "step_probability"}
#: Fields of the rectified law's prior that are not learned.
FIELDS = ("misfit_sd", "drift_sd", "drift_length", "zero_shot_gap", "zero_shot_sd")
LEARNED = ("mean_pull", "present")


@contextmanager
def changed(name: str, factor: float) -> Iterator[Any]:
    """What turns a prior into the one to use, with a constant changed meanwhile."""

    def same(prior: PooledPrior) -> PooledPrior:
        return prior

    if name in CHOSEN:
        module, attribute = CHOSEN[name]
        value = getattr(module, attribute) * factor
        with mock.patch.object(module, attribute, round(value) if attribute == "_ADAPTING" else value):
            yield same
    elif name in ARGUMENTS or name == "probability of no pull":
        plain = catch_up.forecast
        known = ARGUMENTS.get(name, "no_pull")
        value = catch_up.STEP_PROBABILITY * factor if name in ARGUMENTS else factor / (1 + factor)
        with mock.patch.object(catch_up, "forecast", lambda *a, **k: plain(*a, **{**k, known: value})):
            yield same
    elif name == "widening beyond 1":
        wide = pooled_prior.PooledPrior.widening.fget  # type: ignore[attr-defined]
        with mock.patch.object(PooledPrior, "widening", property(lambda p: 1 + factor * (wide(p) - 1))):
            yield same
    elif name in LEARNED:
        yield lambda p: replace(p, **{name: getattr(p, name) * factor})
    else:
        yield lambda p: replace(p, law=replace(p.law, **{name: getattr(p.law, name) * factor}))


def scores(tasks: list[Task], seed: int, name: str = "present", factor: float = 1.0) -> dict[str, float]:
    """Means over the cells of all tasks."""
    with changed(name, factor) as moved:
        cells = [
            cell(task, budget, seed, prior=moved(prior), baselines={})[0]
            for task in tasks
            for prior in [priors.shipped_pooled_prior(Link.LOG, task=task.name, seen=priors.fingerprints(task.losses))]
            for budget in BUDGETS
            if task.sizes[0] <= task.sizes[-1] / budget
        ]
    return {metric: float(np.nanmean([c[metric] for c in cells])) for metric in _METRICS}


def measure(tasks: list[Task], seed: int) -> Outcome:
    """A row for every number and factor."""
    names = (*CHOSEN, *ARGUMENTS, "probability of no pull", "widening beyond 1", *FIELDS, *LEARNED)
    rows: list[Row] = [{"number": "as shipped", "factor": 1.0, **scores(tasks, seed)}]
    for name in names:
        rows += [{"number": name, "factor": f, **scores(tasks, seed, name, f)} for f in (0.5, 2.0)]
    summary = {
        f"{metric}.{end}": float(pick([r[metric] for r in rows]))
        for metric in _METRICS
        for end, pick in (("least", min), ("most", max))
    }
    return Outcome(rows, summary, [("rectified_sensitivity", rows)])


def main() -> None:
    """See the module's docstring."""
    args = arguments(__doc__, data="folder with one csv a task")
    run("rectified_sensitivity", args, lambda: measure(read_tasks(args.data), args.seed))


if __name__ == "__main__":
    main()
