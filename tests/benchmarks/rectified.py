"""Forecast the loss of language models at full data from a fraction of it: ``rectified``.

Every csv in DIR is a task: models in rows, losses after tuning on 0 (zero-shot), 200, 400, ... examples in columns, and
``size`` and ``family``. For every task and every budget 1/8 ... 1/512 of the largest size, only sizes up to the budget
(and zero-shot) are seen, and the loss at the largest size is forecast. Nothing of a task is in its prior.

Metrics a cell, as in arXiv 2402.02314: PearCorr, Pearson correlation of forecast and true loss over models; RelAcc, (worst -
picked) / (worst - best) for the model picked, which is the one forecast as best, and for ours the one of the best
``pooled.preference`` (``relacc_by_forecast``: without it); mean |ln error|; coverage of the 90 % interval where there is one.
Where a loss was not measured, zero-shot ranks the model last, sub-tuning takes the last one seen, and the laws fit what there
is; a model of which nothing is seen is the last of every baseline. PearCorr needs two models, RelAcc two different losses: where
they are undefined, the mean leaves the cell out. Budgets below the smallest size are skipped. Both are said.
``relacc_subpools``: RelAcc over 200 random pools of half the models, which one lucky or unlucky pick moves less.
Every difference of PearCorr to a baseline comes with its standard error over bootstrapped models (paired).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares, minimize

from orrery.laws import accept_then_stop, pooled, power, priors, rectified
from orrery.laws.pooled_prior import PooledPrior
from orrery.laws.posterior import Array, Link, Posterior
from tests.benchmarks.curves import Task, read_tasks
from tests.benchmarks.harness import Outcome, Row, arguments, run
from tests.benchmarks.tables import InputError, say

BUDGETS = (8, 16, 32, 64, 128, 256, 512)
_BOOTSTRAP, _AT_ONCE = 1000, 50
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
    fingerprints: list[frozenset[str]]
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


def ours(s: Seen, prior: PooledPrior | None = None) -> tuple[Posterior, Array]:
    """The forecast (n, 1), and what a model is picked by (n,); under the shipped prior that never saw the task."""
    prior = prior or priors.shipped_pooled_prior(Link.LOG, task=s.task, seen=s.fingerprints)
    known = np.isfinite(s.parameters)
    typical = np.exp(np.log(s.parameters[known]).mean()) if known.any() else 1.0
    both = pooled.forecast(
        s.sizes,
        s.losses,
        [s.sizes[-1], s.target],
        link=Link.LOG,
        zero_shot=s.zero_shot,
        parameters=np.where(known, s.parameters, typical),
        family=s.families,
        prior=prior,
        seed=s.seed,
    )
    present, ahead = (Posterior(both.mean[:, [j]], both.sd[:, [j]], both.link) for j in (0, 1))
    return ahead, pooled.preference(ahead, present, prior.present)[:, 0]


def bayesian_rectified(s: Seen) -> Posterior:
    prior = priors.shipped_prior(Link.LOG, task=s.task, seen=s.fingerprints)
    return rectified.fit(s.sizes, s.losses, link=Link.LOG, prior=prior, seed=s.seed).predict([s.target])


def _law(p: Array, log_size: Array | float) -> Array:
    """ln L of B / (D_l + D^beta) + E for p = (ln B, ln D_l, beta, ln E)."""
    return np.asarray(np.logaddexp(p[0] - np.logaddexp(p[1], p[2] * log_size), p[3]))


def sloppy_rectified(s: Seen) -> Array:
    """The law by 200 steps of Nelder-Mead from one start: stopped long before it converges, which acts as a prior."""
    goal = np.log(s.target)

    def one(x: Array, z: Array) -> float:
        found = minimize(
            lambda p: ((_law(p, x) - z) ** 2).sum(), _START, method="Nelder-Mead", options={"maxiter": 200}
        )
        return float(_law(found.x, goal))

    return _one_by_one(s, one)


def bounded_rectified(s: Seen) -> Array:
    """The law by least squares within bounds, to convergence."""
    goal = np.log(s.target)

    def one(x: Array, z: Array) -> float:
        bounds = ([-10, -10, 0.01, -6], [20, 20, 2, z.min() + 1e-6])
        start = np.append(_START[:3], min(_START[3], z.min() - 0.1))
        return float(_law(least_squares(lambda p: _law(p, x) - z, start, bounds=bounds, max_nfev=100).x, goal))

    return _one_by_one(s, one)


def _one_by_one(s: Seen, forecast: Callable[[Array, Array], float]) -> Array:
    """Losses forecast from the log sizes and log losses that each curve has; NaN where it has none."""
    has = np.isfinite(s.losses)
    logs = np.log(np.where(has, s.losses, 1.0))
    return np.array(
        [np.exp(forecast(np.log(s.sizes[h]), z[h])) if h.any() else np.nan for h, z in zip(has, logs, strict=True)]
    )


def last_seen(s: Seen) -> Array:
    """The loss at the largest size seen of each curve."""
    has = np.isfinite(s.losses)
    column = np.where(has, np.arange(len(s.sizes)), -1).max(axis=1)
    return np.where(column >= 0, s.losses[np.arange(len(column)), column], np.nan)


def _batch(s: Seen, fit: Callable[[Array], Posterior]) -> Array:
    """Median losses of a fit of those curves of which something is seen; NaN for the others."""
    has = np.isfinite(s.losses).any(axis=1)
    out = np.full(len(has), np.nan)
    if has.any():
        out[has] = _losses(fit(s.losses[has]))
    return out


def _losses(p: Posterior) -> Array:
    return p.median()[:, 0]


Baseline = tuple[Callable[[Seen], Array], bool]
#: Forecast losses, or any score that ranks models (``scale`` False: no error in losses is meant); NaN: nothing to say.
BASELINES: dict[str, Baseline] = {
    "zero_shot": (lambda s: s.zero_shot, True),
    "sub_tuning": (last_seen, True),
    "size": (lambda s: -np.log(s.parameters), False),
    "power": (lambda s: _batch(s, lambda y: power.fit(s.sizes, y, link=Link.LOG).predict([s.target])), True),
    "law": (sloppy_rectified, True),
    "law_bounded": (bounded_rectified, True),
    "bayes": (lambda s: _losses(bayesian_rectified(s)), True),
    "ats": (lambda s: _batch(s, lambda y: accept_then_stop.fit(s.sizes, y, link=Link.LOG).predict([s.target])), True),
    "last2": (
        lambda s: _batch(s, lambda y: accept_then_stop.last_points(s.sizes, y, link=Link.LOG).predict([s.target])),
        True,
    ),
}


#: Baselines that fit one curve at a time, and the most models they are asked for: they take a minute for a hundred.
ONE_BY_ONE = ("law", "law_bounded")
_MOST_ONE_BY_ONE = 500


def pearson(forecast: Array, truth: Array) -> Array:
    """Correlation in percent, over the last axis; 0 where a forecast is constant, NaN where the truth is."""
    a, b = (v - v.mean(axis=-1, keepdims=True) for v in (forecast, truth))
    spread = (b**2).sum(axis=-1)
    norm = np.sqrt((a**2).sum(axis=-1) * spread)
    return np.where(spread > 0, 100 * (a * b).sum(axis=-1) / np.where(norm > 0, norm, np.inf), np.nan)


def relative_accuracy(forecast: Array, truth: Array) -> float:
    """In percent; NaN where all models are equally good."""
    spread = truth.max() - truth.min()
    return float(100 * (truth.max() - truth[np.argmin(forecast)]) / spread) if spread > 0 else np.nan


def _mean(values: Iterable[float]) -> float:
    """The mean of what is defined; NaN where nothing is."""
    defined = [v for v in values if np.isfinite(v)]
    return float(np.mean(defined)) if defined else np.nan


def _resampled(ranked: Mapping[str, Array], truth: Array, rng: np.random.Generator) -> Array:
    """Correlations (methods, draws) over bootstrapped models, the same for each method."""
    draws = rng.integers(0, len(truth), (_AT_ONCE, len(truth)))
    return np.stack([pearson(f[draws], truth[draws]) for f in ranked.values()])


def cell(
    task: Task,
    budget: int,
    seed: int,
    *,
    prior: PooledPrior | None = None,
    baselines: Mapping[str, Baseline] = BASELINES,
) -> list[Row]:
    """One row a method: ours, under the prior of ``ours`` if none is given, and the baselines."""
    s = seen(task, budget, seed)
    truth = task.losses[:, -1]
    if len(truth) > _MOST_ONE_BY_ONE:
        baselines = {name: b for name, b in baselines.items() if name not in ONE_BY_ONE}
    posterior, choice = ours(s, prior)
    low, high = (v[:, 0] for v in posterior.interval(0.9))
    forecasts: dict[str, tuple[Array, bool]] = {"orrery": (_losses(posterior), True)}
    forecasts |= {name: (method(s), scale) for name, (method, scale) in baselines.items()}
    # Who says nothing of any model is no rival here; a model of which a rival says nothing is the last of its ranking.
    forecasts = {name: found for name, found in forecasts.items() if np.isfinite(found[0]).any()}
    ranked = {name: np.where(np.isfinite(f), f, f[np.isfinite(f)].max()) for name, (f, _) in forecasts.items()}
    rng = np.random.default_rng(seed)
    draws = np.concatenate([_resampled(ranked, truth, rng) for _ in range(_BOOTSTRAP // _AT_ONCE)], axis=1)
    resampled = dict(zip(ranked, draws, strict=True))
    half = max(2, len(truth) // 2)
    pools = [np.random.default_rng(seed + i).permutation(len(truth))[:half] for i in range(_SUBPOOLS)]
    rows = []
    for name, (forecast, scale) in forecasts.items():
        picked_by = choice if name == "orrery" else ranked[name]
        gap = resampled["orrery"] - resampled[name]
        rows.append(
            {
                "task": task.name,
                "budget": budget,
                "method": name,
                "pearcorr": float(pearson(ranked[name], truth)),
                "relacc": relative_accuracy(picked_by, truth),
                "relacc_subpools": _mean(relative_accuracy(picked_by[p], truth[p]) for p in pools),
                "relacc_by_forecast": relative_accuracy(ranked[name], truth) if name == "orrery" else np.nan,
                "abs_ln_error": _mean(np.abs(np.log(forecast / truth))) if scale else np.nan,
                "coverage90": float(np.mean((low <= truth) & (truth <= high))) if name == "orrery" else np.nan,
                "behind_orrery": float(pearson(ranked["orrery"], truth) - pearson(ranked[name], truth)),
                "behind_orrery_se": float(np.std(gap[np.isfinite(gap)])) if np.isfinite(gap).any() else np.nan,
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
                value = _mean(r[metric] for r in chosen)
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
                if here:
                    found = {r["method"]: r[metric] for r in here}
                    named = {m: found.get(m, np.nan) for m in ("orrery", *BASELINES)}
                    lines.append({"task": task, "budget": f"1/{budget}", **named})
        out.append((metric, lines))
    return out


def measure(tasks: list[Task], seed: int) -> Outcome:
    """Every task at every budget that reaches its smallest size.

    Raises:
        InputError: there is no such budget.
    """
    rows: list[Row] = []
    for task in tasks:
        if len(task.models) > _MOST_ONE_BY_ONE:
            say(
                f"{task.name}: {' and '.join(ONE_BY_ONE)} are left out, which fit {len(task.models):,} curves one by one"
            )
        budgets = [b for b in BUDGETS if task.sizes[0] <= task.sizes[-1] / b]
        if skipped := [f"1/{b}" for b in BUDGETS if b not in budgets]:
            say(f"{task.name}: no size within {', '.join(skipped)} of {task.sizes[-1]:,.0f}: these budgets are skipped")
        for budget in budgets:
            rows += cell(task, budget, seed)
    if not rows:
        raise InputError("no task has a size within 1/8 of its largest: nothing can be forecast from a fraction")
    for metric in ("pearcorr", "relacc"):
        undefined = [f"{r['task']} 1/{r['budget']}" for r in rows if r["method"] == "orrery" and np.isnan(r[metric])]
        if undefined:
            say(
                f"{metric} is undefined and left out of the mean in {', '.join(undefined)}: it needs models that differ"
            )
    return Outcome(rows, summarise(rows), tables(rows))


def main() -> None:
    args = arguments(__doc__, data="folder with one csv a task")
    run("rectified", args, lambda: measure(read_tasks(args.data), args.seed))


if __name__ == "__main__":
    main()
