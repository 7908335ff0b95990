"""Forecast the loss of language models at full data from a fraction of it: ``rectified``.

Every csv in DIR is a task: models in rows, losses after tuning on 0 (zero-shot), 200, 400, ... examples in columns, and
``size`` and ``family``. For every task and every budget 1/8 ... 1/512 of the largest size, only sizes up to the budget
(and zero-shot) are seen, and the loss at the largest size is forecast. Nothing of a task is in its prior.

Metrics a cell, as in arXiv 2402.02314: PearCorr, Pearson correlation of forecast and true loss over models; RelAcc, (worst -
picked) / (worst - best) for the model picked, which is the one forecast as best, and for ours the one of the best
``pooled.preference`` (``relacc_by_forecast``: without it); mean |ln error|; coverage of the 90 % interval where there is one.
``relacc_subpools``: RelAcc over 200 random pools of half the models, which one lucky or unlucky pick moves less.
Every difference of PearCorr to a baseline comes with its standard error over bootstrapped models (paired).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares, minimize

from orrery.laws import accept_then_stop, pooled, power, priors, rectified
from orrery.laws.posterior import Array, Link, Posterior
from tests.benchmarks.curves import Task, read_tasks
from tests.benchmarks.harness import Outcome, Row, arguments, run

BUDGETS = (8, 16, 32, 64, 128, 256, 512)
_BOOTSTRAP = 1000
_SUBPOOLS = 200
_METRICS = ("pearcorr", "relacc", "relacc_subpools", "relacc_by_forecast", "abs_ln_error", "coverage90")
_START = np.array([2.0, 2.0, 0.3, 0.0])


@dataclass(frozen=True)
class Seen:
    """What a method may look at."""

    task: str
    sizes: Array
    losses: Array
    zero_shot: Array
    parameters: Array
    families: list[str]
    target: float
    fingerprints: list[str]
    seed: int


def seen(task: Task, budget: float, seed: int) -> Seen:
    full = task.sizes[-1]
    within = task.sizes <= full / budget
    return Seen(
        task.name,
        task.sizes[within],
        task.losses[:, within],
        task.zero_shot,
        task.parameters,
        task.families,
        float(full),
        priors.fingerprints(task.losses),
        seed,
    )


def ours(s: Seen) -> tuple[Posterior, Array]:
    """The forecast (n, 1), and what a model is picked by (n,)."""
    prior = priors.shipped_prior(Link.LOG, task=s.task, seen=s.fingerprints)
    both = pooled.forecast(
        s.sizes,
        s.losses,
        [s.sizes[-1], s.target],
        link=Link.LOG,
        zero_shot=s.zero_shot,
        parameters=s.parameters,
        family=s.families,
        prior=prior,
        seed=s.seed,
    )
    present, ahead = (Posterior(both.mean[:, [j]], both.sd[:, [j]], both.link) for j in (0, 1))
    return ahead, pooled.preference(ahead, present)[:, 0]


def bayesian_rectified(s: Seen) -> Posterior:
    prior = priors.shipped_prior(Link.LOG, task=s.task, seen=s.fingerprints)
    return rectified.fit(s.sizes, s.losses, link=Link.LOG, prior=prior, seed=s.seed).predict([s.target])


def _law(p: Array, log_size: Array | float) -> Array:
    """ln L of B / (D_l + D^beta) + E for p = (ln B, ln D_l, beta, ln E)."""
    return np.asarray(np.logaddexp(p[0] - np.logaddexp(p[1], p[2] * log_size), p[3]))


def sloppy_rectified(s: Seen) -> Array:
    """The law by 200 steps of Nelder-Mead from one start: stopped long before it converges, which acts as a prior."""
    x, goal = np.log(s.sizes), np.log(s.target)

    def one(z: Array) -> float:
        found = minimize(
            lambda p: ((_law(p, x) - z) ** 2).sum(), _START, method="Nelder-Mead", options={"maxiter": 200}
        )
        return float(_law(found.x, goal))

    return np.exp([one(z) for z in np.log(s.losses)])


def bounded_rectified(s: Seen) -> Array:
    """The law by least squares within bounds, to convergence."""
    x, goal = np.log(s.sizes), np.log(s.target)

    def one(z: Array) -> float:
        bounds = ([-10, -10, 0.01, -6], [20, 20, 2, z.min() + 1e-6])
        start = np.append(_START[:3], min(_START[3], z.min() - 0.1))
        return float(_law(least_squares(lambda p: _law(p, x) - z, start, bounds=bounds, max_nfev=100).x, goal))

    return np.exp([one(z) for z in np.log(s.losses)])


def _losses(p: Posterior) -> Array:
    return p.median()[:, 0]


#: Forecast losses, or any score that ranks models (``scale`` False: no error in losses is meant).
BASELINES: dict[str, tuple[Callable[[Seen], Array], bool]] = {
    "zero_shot": (lambda s: s.zero_shot, True),
    "sub_tuning": (lambda s: s.losses[:, -1], True),
    "size": (lambda s: -np.log(s.parameters), False),
    "power": (lambda s: _losses(power.fit(s.sizes, s.losses, link=Link.LOG).predict([s.target])), True),
    "law": (sloppy_rectified, True),
    "law_bounded": (bounded_rectified, True),
    "bayes": (lambda s: _losses(bayesian_rectified(s)), True),
    "ats": (lambda s: _losses(accept_then_stop.fit(s.sizes, s.losses, link=Link.LOG).predict([s.target])), True),
    "last2": (
        lambda s: _losses(accept_then_stop.last_points(s.sizes, s.losses, link=Link.LOG).predict([s.target])),
        True,
    ),
}


def pearson(forecast: Array, truth: Array) -> Array:
    """Correlation in percent, over the last axis; 0 where a forecast is constant."""
    a, b = (v - v.mean(axis=-1, keepdims=True) for v in (forecast, truth))
    norm = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.asarray(100 * (a * b).sum(axis=-1) / np.where(norm > 0, norm, np.inf))


def relative_accuracy(forecast: Array, truth: Array) -> float:
    return float(100 * (truth.max() - truth[np.argmin(forecast)]) / (truth.max() - truth.min()))


def cell(task: Task, budget: int, seed: int) -> list[Row]:
    s = seen(task, budget, seed)
    truth = task.losses[:, -1]
    posterior, choice = ours(s)
    low, high = (v[:, 0] for v in posterior.interval(0.9))
    forecasts: dict[str, tuple[Array, bool]] = {"orrery": (_losses(posterior), True)}
    forecasts |= {name: (method(s), scale) for name, (method, scale) in BASELINES.items()}
    draws = np.random.default_rng(seed).integers(0, len(truth), (_BOOTSTRAP, len(truth)))
    resampled = {name: pearson(f[draws], truth[draws]) for name, (f, _) in forecasts.items()}
    pools = [np.random.default_rng(seed + i).permutation(len(truth))[: len(truth) // 2] for i in range(_SUBPOOLS)]
    rows = []
    for name, (forecast, scale) in forecasts.items():
        picked_by = choice if name == "orrery" else forecast
        gap = resampled["orrery"] - resampled[name]
        rows.append(
            {
                "task": task.name,
                "budget": budget,
                "method": name,
                "pearcorr": float(pearson(forecast, truth)),
                "relacc": relative_accuracy(picked_by, truth),
                "relacc_subpools": float(np.mean([relative_accuracy(picked_by[p], truth[p]) for p in pools])),
                "relacc_by_forecast": relative_accuracy(forecast, truth) if name == "orrery" else np.nan,
                "abs_ln_error": float(np.abs(np.log(forecast / truth)).mean()) if scale else np.nan,
                "coverage90": float(np.mean((low <= truth) & (truth <= high))) if name == "orrery" else np.nan,
                "behind_orrery": float(pearson(forecasts["orrery"][0], truth) - pearson(forecast, truth)),
                "behind_orrery_se": float(np.std(gap)),
            }
        )
    return rows


def summarise(rows: list[Row]) -> dict[str, float]:
    """``pearcorr``, ``TASK.pearcorr``, ``BASELINE.pearcorr``, ``BASELINE.TASK.pearcorr`` and so on: means over cells."""
    summary: dict[str, float] = {}
    tasks = list(dict.fromkeys(r["task"] for r in rows))
    for method in dict.fromkeys(r["method"] for r in rows):
        prefix = "" if method == "orrery" else f"{method}."
        for task in (None, *tasks):
            chosen = [r for r in rows if r["method"] == method and task in (None, r["task"])]
            for metric in _METRICS:
                value = float(np.mean([r[metric] for r in chosen]))
                if np.isfinite(value):
                    summary[f"{prefix}{task + '.' if task else ''}{metric}"] = value
    for method in ("ats", "last2"):
        behind = [r for r in rows if r["method"] == method and r["behind_orrery"] < 0]
        summary[f"{method}.cells_ahead"] = len(behind)
        summary[f"{method}.cells_ahead_beyond_noise"] = sum(
            -r["behind_orrery"] > 2 * r["behind_orrery_se"] for r in behind
        )
    return summary


def tables(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    out = []
    for metric in ("pearcorr", "relacc", "abs_ln_error"):
        lines: list[Row] = []
        for task in dict.fromkeys(r["task"] for r in rows):
            for budget in dict.fromkeys(r["budget"] for r in rows):
                here = [r for r in rows if r["task"] == task and r["budget"] == budget]
                lines.append({"task": task, "budget": f"1/{budget}", **{r["method"]: r[metric] for r in here}})
        out.append((metric, lines))
    return out


def measure(tasks: list[Task], seed: int) -> Outcome:
    rows = [row for task in tasks for budget in BUDGETS for row in cell(task, budget, seed)]
    return Outcome(rows, summarise(rows), tables(rows))


def main() -> None:
    args = arguments(__doc__, data="folder with one csv a task")
    run("rectified", args, lambda: measure(read_tasks(args.data), args.seed))


if __name__ == "__main__":
    main()
