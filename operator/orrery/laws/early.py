"""Early signals of a run: which configuration to trust after a few per cent of the steps.

Train loss early in a run ranks configurations well (arXiv 2412.13337), better than validation accuracy, which early on
is a small sample of a score that has not moved yet. Two things are needed to use it below the cost of a checkpoint for
everyone: whom to let go on, and how to place those who stopped among those who went on.

Whom: breadth first. The best so far go one checkpoint further until the money is spent; deeper rungs for fewer runs
(successive halving) rank worse at the same cost. Where the stopped ones stand: their loss at the next checkpoint is
forecast from the present one and from the number of trained parameters by a regression on the runs that went on, in the
same pool. Of two runs with the same loss now, the one that fell faster ends lower, so the forecast looks a little ahead.

``go_on`` is for pools of runs that can be stopped and gone on with (``python -m tests.benchmarks.early_pick``). Plans look once, since a
probe that ended cannot go on, and rank by ``forecast`` (``probing.designer: EarlyLoss``; docs/decisions/early-signals.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.laws.observations import check_curves
from orrery.laws.posterior import Array, Link, Posterior

# Ridge of the regression, as pseudo-observations around "the next loss moves one to one with this one, whatever the
# size": the one to three runs that reach a rung first cannot tell what a parameter is worth. Halved or doubled, nothing
# changes; with a tenth of a pseudo-observation, more money ranked worse (docs/benchmarks/early_pick.md).
_PER_LOSS, _PER_PARAMETERS = 1e-2, 3.0
_LEAST_SD = 0.01
#: Share of its last fall that a run still gains on the others. Measured PEFT runs fall .1 to .25 of it at the next
#: checkpoint, but as much as that prefers fast runs to good ones: half of the least is safe to halve and to double.
MOMENTUM = 0.05


def forecast(losses: ArrayLike, *, parameters: ArrayLike | None = None) -> Posterior:
    """Posterior (n,) of every run's train loss shortly after the furthest checkpoint any run has reached; lower is better.

    Args:
        losses: (n, k); mean train loss of the steps up to each checkpoint since the last; NaN where a run has not got
            to.
        parameters: (n,), optional; number of trained parameters: with few of them a run stalls earlier.

    >>> p = forecast([[1.0, 0.7], [1.1, 0.8], [1.2, 0.9], [1.3, float("nan")]])
    >>> p.median().round(1).tolist()
    [0.7, 0.8, 0.9, 1.0]
    """
    data = check_curves(
        np.arange(1.0, np.atleast_2d(np.asarray(losses, dtype=np.float64)).shape[1] + 1), losses, link=Link.LOG
    )
    seen = data.seen
    if not len(seen) or not seen[:, 0].all():
        raise ValueError("every run needs its train loss at the first checkpoint; leave out runs that have not begun")
    if (seen[:, 1:] & ~seen[:, :-1]).any():
        raise ValueError("losses have a gap: a run that reached a checkpoint has a loss at all before it")
    count = _log_parameters(parameters, len(seen))
    mean, variance, fall = data.values[:, 0], np.full(len(seen), _LEAST_SD**2), np.zeros(len(seen))
    for k in range(1, seen.shape[1]):
        there = seen[:, k]
        if not there.any():
            break
        before = mean
        mean, variance = _step(mean, variance, data.values[:, k], there, count)
        fall = before - mean
    return Posterior(mean - MOMENTUM * fall, np.sqrt(variance), Link.LOG)


def go_on(
    losses: ArrayLike, cost: ArrayLike, budget: float, *, parameters: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Runs that get one more checkpoint now, best first: as many of the least advanced as ``budget`` still pays.

    ``cost`` (n,) is what a checkpoint of each run costs, in the unit of ``budget``; ``losses`` (n, k) has a column for
    every checkpoint there is. Call again with the new losses until it returns none.
    """
    y = np.atleast_2d(np.asarray(losses, dtype=np.float64))
    price = np.asarray(cost, dtype=np.float64)
    if price.shape != (len(y),) or not (np.isfinite(price).all() and (price > 0).all()):
        raise ValueError(f"cost must be one positive number a run, {len(y)} in all; found shape {price.shape}")
    reached = np.isfinite(y).sum(axis=1)
    order = np.argsort(forecast(y, parameters=parameters).mean, kind="stable")
    waiting = order[(reached[order] == reached.min()) & (reached[order] < y.shape[1])]
    chosen: NDArray[np.int64] = waiting[np.cumsum(price[waiting]) <= budget * (1 + 1e-9)]
    return chosen


def _step(
    before: Array, variance: Array, now: Array, there: NDArray[np.bool_], count: Array | None
) -> tuple[Array, Array]:
    """One checkpoint on: measured where there, elsewhere regressed on the value before and the trained parameters."""
    columns = [np.ones(len(before)), before - before[there].mean()]
    penalty = [1e-6, _PER_LOSS]
    if count is not None:
        columns.append(count - count[there].mean())
        penalty.append(_PER_PARAMETERS)
    design, ridge = np.stack(columns, axis=1), np.diag(penalty)
    used = design[there]
    centre = np.zeros(design.shape[1])
    centre[1] = 1.0
    inverse = np.linalg.inv(used.T @ used + ridge)
    weights = centre + inverse @ used.T @ (now[there] - used @ centre)
    residual = now[there] - used @ weights
    # Three pseudo-observations of a spread of a tenth: two runs on a line prove nothing.
    noise = (residual @ residual + 3 * 0.1**2) / (len(used) + 3)
    own = noise * (1 + np.einsum("ni,ij,nj->n", design, inverse, design)) + weights[1] ** 2 * variance
    return np.where(there, now, design @ weights), np.where(there, _LEAST_SD**2, own)


def _log_parameters(parameters: ArrayLike | None, runs: int) -> Array | None:
    if parameters is None:
        return None
    count = np.asarray(parameters, dtype=np.float64)
    if count.shape != (runs,) or not (np.isfinite(count).all() and (count > 0).all()):
        raise ValueError(f"parameters must be one positive number a run, {runs} in all; found shape {count.shape}")
    return np.log(count)
