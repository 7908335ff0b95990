"""Fits a second, beside a plain loop over ``scipy.optimize`` on the same curves: ``speed``.

Curves are the whole ones of DIR, each measured at the sizes up to 1/64 of the largest (up to 1/8 or all, where those are
fewer than the law's four unknowns), repeated with a little noise to the number asked for (without DIR: drawn from the shipped
prior). The loop fits one law to one curve at a time from one start, least
squares on log losses (``scipy.optimize.curve_fit``), and gives a point; everything of ours gives a posterior and the
forecast at the largest size. Times are processor seconds, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit

from orrery.laws import accept_then_stop, pooled, power, rectified
from orrery.laws.posterior import Array, Link
from orrery.laws.priors import shipped_prior
from tests.benchmarks.curves import Task, read_tasks
from tests.benchmarks.harness import Outcome, Row, arguments, run
from tests.benchmarks.tables import InputError

_UNKNOWNS = 4  # of the rectified law; MINPACK wants as many points
_LOOPED = 300  # curves of the loop; its rate does not depend on their number


def curves(folder: Path | None, count: int, seed: int) -> tuple[Array, Array, float]:
    """Sizes (m,), losses (count, m) at those that are seen, and the largest size."""
    rng = np.random.default_rng(seed)
    if folder is None:
        sizes = 200.0 * 2.0 ** np.arange(14)
        prior = shipped_prior(Link.LOG)
        logs = rectified.curve(rng.multivariate_normal(prior.mean, prior.covariance, count), sizes, Link.LOG)
        seen = sizes <= sizes[-1] / 64
    else:
        sizes, seen, measured = _whole(read_tasks(folder))
        logs = np.log(measured)[np.arange(count) % len(measured)]
    return sizes[seen], np.exp(logs[:, seen] + rng.normal(0, 0.003, (count, int(seen.sum())))), float(sizes[-1])


def _whole(tasks: list[Task]) -> tuple[Array, NDArray[np.bool_], Array]:
    """Sizes (m,), which of them are seen, and the losses (n, m) of the curves of one grid that are measured at all of it."""
    for share in (64, 8, 1):
        grids: dict[tuple[float, ...], list[Array]] = {}
        for t in tasks:
            whole = t.losses[np.isfinite(t.losses).all(axis=1)]
            if len(whole) and (t.sizes <= t.sizes[-1] / share).sum() >= _UNKNOWNS:
                grids.setdefault(tuple(t.sizes), []).append(whole)
        if grids:
            common = max(grids, key=lambda g: sum(map(len, grids[g])))
            sizes = np.array(common)
            return sizes, sizes <= sizes[-1] / share, np.vstack(grids[common])
    raise InputError(f"no task has a curve measured at each of its sizes, and {_UNKNOWNS} or more of them")


def loop(law: Callable[..., Array], start: list[float], sizes: Array, losses: Array) -> float:
    """Curves a processor second."""
    x, failed = np.log(sizes), 0
    begun = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        for y in np.log(losses):
            try:
                curve_fit(law, x, y, p0=start, maxfev=1000)
            except RuntimeError:
                failed += 1
    return len(losses) / (time.process_time() - begun)


def batch(fit: Callable[[], object], count: int) -> float:
    """Curves a processor second, the best of three runs."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        fit()
        times.append(time.process_time() - begun)
    return count / min(times)


def _rectified(x: Array, b: float, worth: float, beta: float, floor: float) -> Array:
    return np.asarray(np.logaddexp(b - np.logaddexp(worth, beta * x), floor))


def _power(x: Array, b: float, beta: float, floor: float) -> Array:
    return np.asarray(np.logaddexp(b - beta * x, floor))


def measure(folder: Path | None, count: int, seed: int) -> Outcome:
    sizes, losses, target = curves(folder, count, seed)
    some = losses[:_LOOPED]
    rates = {
        "rectified": loop(_rectified, [2.0, 2.0, 0.3, 0.0], sizes, some),
        "power": loop(_power, [1.0, 0.3, 0.0], sizes, some),
    }
    ours: dict[str, tuple[str, Callable[[], object]]] = {
        "pooled": ("rectified", lambda: pooled.forecast(sizes, losses, [target], link=Link.LOG)),
        "rectified": ("rectified", lambda: rectified.fit(sizes, losses[:2000], link=Link.LOG).predict([target])),
        "power": ("power", lambda: power.fit(sizes, losses[:2000], link=Link.LOG).predict([target])),
        "ats": ("power", lambda: accept_then_stop.fit(sizes, losses, link=Link.LOG).predict([target])),
    }
    rows: list[Row] = []
    for name, (beside, fit) in ours.items():
        fitted = min(count, 2000) if name in ("rectified", "power") else count
        rate = batch(fit, fitted)
        rows.append(
            {
                "fit": name,
                "curves": fitted,
                "sizes": len(sizes),
                "per_second": rate,
                "scipy_loop": beside,
                "scipy_per_second": rates[beside],
                "ratio": rate / rates[beside],
            }
        )
    summary = {"ratio": rows[0]["ratio"]}
    summary |= {f"{r['fit']}.{k}": r[k] for r in rows for k in ("ratio", "per_second")}
    summary |= {f"scipy.{name}.per_second": rate for name, rate in rates.items()}
    return Outcome(rows, summary, [("speed", rows)])


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with one csv a task (default: planted curves)")
    parser.add_argument("--curves", type=int, default=10_000, metavar="N", help="curves to fit (default 10000)")


def main() -> None:
    args = arguments(__doc__, data=None, extra=_options)
    run("speed", args, lambda: measure(args.data, args.curves, args.seed))


if __name__ == "__main__":
    main()
