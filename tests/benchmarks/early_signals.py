"""What the first steps of whole trainings tell of their scores: beyond the forecast, by how much, and what EarlyLoss would choose.

    python -m tests.benchmarks.early_signals --data tests/benchmarks/measured [--runs DIR] --json OUT

DIR is as in ``tests.benchmarks.early_pick``; without it, only the project's own grids are read. Nothing is run.

prefix.P     of whole trainings that kept their train loss, over models and tasks: correlation of -ln loss in the P-th percent of the
             schedule with the score, and with what the ensemble is off by that has seen zero-shot, the proxy and trainings on 5 % of
             the examples; both within a model and task
slopes       score (logit) by ln early loss among trainings of one model and task, on as many examples for as many epochs, and the
             mean and sd over models and tasks that make the slopes likeliest: what ``strategies.tuning_curves`` expects
early_loss   cost and regret where everyone is stopped after a tenth and the best ninth (or the best one) is trained on, in all runs and
             in 200 random dozens
"""

from __future__ import annotations

import argparse
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.stats import pearsonr

from orrery.api.probe import TrialResult
from orrery.laws import early
from orrery.laws.posterior import Array, Link
from orrery.planning.designers.early_loss import PERCENT, PROMOTED
from orrery.strategies.tuning_curves import _SEED_SD
from tests.benchmarks import harness
from tests.benchmarks.early_pick import Pool, read_pool
from tests.benchmarks.predictors import SHARES, Case, cases, score
from tests.benchmarks.tables import InputError

#: Sixteenths of the schedule that are looked at, as trainings report them.
SIXTEENTHS = (1, 2, 3, 4, 8)
#: The one that slopes are read from, nearest to where the designer stops.
SLOPE_AT = 2
_SUB_POOLS, _SUB_POOL = 200, 12


def _losses(case: Case) -> dict[str, tuple[dict[str, Any], TrialResult]]:
    """Full rows of the grid that kept sixteen train losses, by trial."""
    found = {r["trial"]["name"]: (r, TrialResult.model_validate(r["result"])) for r in case.rows if "candidate" in r}
    return {name: (row, result) for name, (row, result) in found.items() if len(result.train_loss) == 16}


def prefixes(data: Path) -> list[harness.Row]:
    """A row for each sixteenth."""
    told = []
    for case in cases(data):
        off: list[tuple[str, float, float]] = []
        score(case, "Ensemble", SHARES[0], off)
        kept = _losses(case)
        told.append([(kept[name][1], residual, real) for name, residual, real in off if name in kept])
    rows = []
    for k in SIXTEENTHS:
        tables = [np.array([(np.log(float(r.train_loss[k - 1])), b, c) for r, b, c in t]) for t in told if len(t) >= 3]
        loss, residual, real = np.concatenate([t - t.mean(0) for t in tables]).T
        rows.append(
            {
                "percent": 100 * k / 16,
                "with_score": float(pearsonr(-loss, real).statistic),
                "with_residual": float(pearsonr(-loss, residual).statistic),
                "n": len(loss),
            }
        )
    return rows


def _slope(groups: list[tuple[Array, Array, Array]]) -> tuple[float, float, int]:
    """Slope, its error and the number of points of (ln loss, logit score, variance) tables that share nothing else."""
    x = np.concatenate([g[0] - g[0].mean() for g in groups])
    y = np.concatenate([g[1] - g[1].mean() for g in groups])
    noise = np.concatenate([g[2] for g in groups]).mean()
    return float(x @ y / (x @ x)), float((noise / (x @ x)) ** 0.5), len(x)


def slopes(data: Path, pool: Pool | None) -> list[harness.Row]:
    """A row for each model and task, and one for the runs."""
    rows = []
    for case in cases(data):
        alike: dict[tuple[int, str], list[tuple[float, float, float]]] = {}
        for row, result in _losses(case).values():
            epochs = next(p["value"] for p in row["trial"]["parameters"] if p["name"] == "epochs")
            right, n = float(result.score or 0) * result.items, result.items
            point = np.log(float(result.train_loss[SLOPE_AT - 1])), np.log((right + 0.5) / (n - right + 0.5))
            variance = 1 / (right + 0.5) + 1 / (n - right + 0.5) + _SEED_SD**2
            alike.setdefault((row["trial"]["fidelity"]["trainingExamples"], epochs), []).append((*point, variance))
        groups = [tuple(np.array(g).T) for g in alike.values() if len(g) > 1]
        slope, error, n = _slope(groups)
        rows.append({"task": case.task.rpartition("/")[2], "model": case.model, "slope": slope, "error": error, "n": n})
    if pool is not None:
        level = early.forecast(pool.loss[:, : _checkpoints(pool)]).mean
        # Far from what a logit can tell apart, a hopeless run would decide the slope.
        usable = pool.accuracy > 0.25
        value = Link.LOGIT.forward(pool.accuracy[usable])
        x = level[usable] - level[usable].mean()
        spread = np.var(value - value.mean() - x * (x @ value) / (x @ x))
        slope, error, n = _slope([(level[usable], value, np.full(len(value), spread))])
        rows.append({"task": "runs", "model": "", "slope": slope, "error": error, "n": n})
    return rows


def _checkpoints(pool: Pool) -> int:
    return max(1, round(PERCENT / 100 * int(pool.loss.shape[1])))


def expected(rows: list[harness.Row]) -> tuple[float, float]:
    """Mean and sd over models and tasks that make the slopes likeliest."""
    slope, error = (np.array([r[k] for r in rows]) for k in ("slope", "error"))

    def loss(u: Array) -> float:
        variance = np.exp(2 * u[1]) + error**2
        return float(np.sum(np.log(variance) + (slope - u[0]) ** 2 / variance))

    found = minimize(loss, np.array([-0.5, -1.0]), method="Nelder-Mead").x
    return float(found[0]), float(np.exp(found[1]))


def promote(pool: Pool, one_in: int) -> tuple[float, float]:
    """Regret in points, and the share of all runs' seconds, of everyone's first tenth and the best in full from the start."""
    k, n = _checkpoints(pool), len(pool.accuracy)
    best = np.argsort(early.forecast(pool.loss[:, :k]).mean, kind="stable")[: ceil(n / one_in)]
    spent = pool.seconds[:, :k].sum() + pool.seconds[best].sum()
    return 100 * float(pool.accuracy.max() - pool.accuracy[best].max()), float(spent / pool.seconds.sum())


def choices(pool: Pool, seed: int) -> list[harness.Row]:
    """A row for each way to promote."""
    random = np.random.default_rng(seed)
    dozens = [random.choice(len(pool.names), _SUB_POOL, replace=False) for _ in range(_SUB_POOLS)]
    rows = []
    for name, one_in in (("best ninth in full (EarlyLoss)", PROMOTED), ("best one in full", len(pool.names))):
        regret, cost = promote(pool, one_in)
        parts = [promote(pool.take(d), one_in) for d in dozens]
        few = {"regret_subpools": fmean(r for r, _ in parts), "cost_subpools": fmean(c for _, c in parts)}
        rows.append({"promoted": name, "cost_share": cost, "regret": regret, **few})
    return rows


def measure(data: Path, runs: Path | None, seed: int) -> harness.Outcome:
    """All tables."""
    pool = None if runs is None else read_pool(runs)
    if pool is not None and len(pool.names) < _SUB_POOL:
        raise InputError(f"{runs}: {len(pool.names)} usable runs; sub-pools of {_SUB_POOL} need as many")
    first, second = prefixes(data), slopes(data, pool)
    third = [] if pool is None else choices(pool, seed)
    mean, sd = expected(second)
    summary = {f"prefix.{r['percent']:g}.{k}": float(r[k]) for r in first for k in ("with_score", "with_residual", "n")}
    summary |= {"slope.mean": mean, "slope.sd": sd}
    if third:
        summary |= {f"early_loss.{k}": float(v) for k, v in third[0].items() if k != "promoted"}
    tables = [("first steps against scores", first), ("slopes", second)] + ([("promoted", third)] if third else [])
    return harness.Outcome([*first, *second, *third], summary, tables)


def main() -> None:
    """See the module's docstring."""

    def extra(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--runs", type=Path, metavar="DIR", help="folder with runs.csv and curves.csv")

    args = harness.arguments(
        __doc__, data="folder with grid/ and probes/, such as tests/benchmarks/measured", extra=extra
    )
    harness.run("early_signals", args, lambda: measure(args.data, args.runs, args.seed))


if __name__ == "__main__":
    main()
