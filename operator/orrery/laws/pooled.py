"""One forecaster above the laws for learning curves over training-set size.

It says what each of n models would score after tuning on more examples, from whatever was measured:

1. **The course of the task.** Every curve is fitted by the rectified law under a prior learned from other tasks and moved
   by what this task's curves have in common (``empirical_bayes.adapt``); the average of these fits is the course all
   models of the task share, from before the first measured size to the size asked for. It needs no common grid, and with
   no or one measured size it is all there is.
2. **How each model leaves it.** Deviations from the course follow the catch-up dynamics (``catch_up``), whose pull is
   inferred from the task itself: no other task and no feature of a model enters.
3. **A model that was never measured** borrows from its family and from models of its size, as far as the measured
   models show that these tell anything. Measured models never borrow that way: it made forecasts worse.

The variance adds the deviation's and the course's, which is that of one curve's fit, and nothing for sampling noise of a
new measurement. docs/decisions holds what lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.laws import catch_up, rectified
from orrery.laws.borrowing import borrow
from orrery.laws.empirical_bayes import adapt
from orrery.laws.observations import check_curves, check_targets, merge_repeats
from orrery.laws.pooled_prior import PooledPrior
from orrery.laws.posterior import Array, Link, Posterior
from orrery.laws.priors import shipped_pooled_prior

_COURSE_FROM = 64  # curves the course is the average of; more change nothing but the time
_ADAPT_FROM = 32  # curves that the task's own prior is learned from; likewise
#: Deviations of accuracies on the logit scale are this much larger than those of log losses.
_SCALE = {Link.LOG: 1.0, Link.LOGIT: 6.0}


def forecast(
    sizes: ArrayLike,
    scores: ArrayLike,
    at: ArrayLike,
    *,
    link: Link,
    noise_sd: ArrayLike | None = None,
    zero_shot: ArrayLike | None = None,
    parameters: ArrayLike | None = None,
    family: Sequence[str] | None = None,
    prior: PooledPrior | None = None,
    chance: float = 0.0,
    seed: int = 0,
) -> Posterior:
    """Forecast scores of n models at training sizes ``at`` (p,), shape (n, p).

    Args:
        sizes: (m,) or (n, m); training examples > 0, any order.
        scores: (n, m); losses (``Link.LOG``) or shares such as accuracy (``Link.LOGIT``), NaN where not measured. Rows
            and columns may be empty: fewer measurements give wider intervals, never an error.
        noise_sd: (n, m), optional; standard errors on the link scale.
        zero_shot: (n,), optional; scores before tuning, NaN where not measured; they only start the curve.
        parameters, family: (n,), optional; model sizes and family names. They serve models without a measured size.
        prior: optional; what other tasks teach; the shipped one if not given.
        chance: score of guessing.

    >>> sizes = [200, 400, 800, 1600]
    >>> p = forecast(sizes, [[3.0, 2.9, 2.8, 2.7], [2.4, 2.35, 2.3, 2.26]], [100_000], link=Link.LOG)
    >>> p.mean.shape, bool((p.median() < [[2.7], [2.26]]).all())
    ((2, 1), True)
    """
    data = check_curves(sizes, scores, link=link, noise_sd=noise_sd)
    target = check_targets(at)
    if (data.sizes[data.seen] == 0).any():
        raise ValueError("sizes hold 0; give scores before tuning as zero_shot, a curve starts at its first example")
    prior = shipped_pooled_prior(link) if prior is None else prior
    unique, on_grid, grid_noise = merge_repeats(data)
    missing = ~np.isfinite(grid_noise)
    on_grid[missing], grid_noise[missing] = np.nan, 0.0
    wanted = np.concatenate([unique, target])
    x, values, noise = _with_zero_shot(data.sizes, scores, data.noise_sd, zero_shot)
    measured: NDArray[np.bool_] = np.asarray(data.seen.any(axis=1))
    count = int(measured.sum())
    asked = np.flatnonzero(measured) if count else np.arange(len(measured))
    if count:
        asked = _spread_out(asked, _COURSE_FROM)
        few = _spread_out(asked, _ADAPT_FROM)
        law = adapt(prior.law, x[few], values[few], link=link, noise_sd=noise[few], chance=chance, seed=seed)
    else:
        law = prior.law
    own = rectified.fit(
        x[asked], values[asked], link=link, noise_sd=noise[asked], prior=law, chance=chance, seed=seed
    ).predict(wanted)
    if not count:
        return own
    split = len(unique)
    course = own.mean.mean(axis=0)
    # All curves of a task go astray together, so an average over them is no surer than one of them.
    variance = prior.widening * (own.sd[:, split:] ** 2).mean(axis=0)
    start = min(unique[0], target.min())
    deviations = catch_up.forecast(
        np.log2(unique / start),
        on_grid - course[:split],
        grid_noise,
        np.log2(target / start),
        scale=_SCALE[link],
        mean_pull=prior.mean_pull,
    )
    apart, spread = deviations.mean.copy(), deviations.variance * (1 - 1 / count)
    if not measured.all():
        guess, guess_variance = borrow(apart, spread, measured, parameters, family, scale=_SCALE[link])
        apart[~measured], spread[~measured] = guess, guess_variance
    return Posterior(course[split:] + apart, np.sqrt(variance + spread), link)


def _spread_out(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the rows, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.int64)]


def preference(ahead: Posterior, present: Posterior, share: float) -> Array:
    """What to choose one curve by, on the link scale, the shape of ``ahead``: its forecast, drawn back to where it is now.

    Whoever picks the best of many forecasts picks the luckiest error too, and the errors of those that are to overtake the
    others are the largest. A share of the present decides better than the forecast alone, on each task that was tried
    and whichever task the share is read from (docs/decisions/learning-curves.md); as a forecast it is worse.

    Args:
        ahead, present: forecasts of the same curves at the sizes asked for and at the largest measured size, (n, p) and
            (n, 1).
        share: weight of the present, such as ``PooledPrior.present``.
    """
    return np.asarray((1 - share) * ahead.mean + share * present.mean)


def _with_zero_shot(
    sizes: Array, scores: ArrayLike, noise_sd: Array, zero_shot: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """The curves with the score before tuning as size 0; a score of exactly guessing nothing is as good as none."""
    y = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    noise = np.where(np.isfinite(noise_sd), noise_sd, 0.0)
    if zero_shot is None:
        return sizes, y, noise
    start = np.asarray(zero_shot, dtype=np.float64)
    if start.shape != (len(y),):
        raise ValueError(f"zero_shot has shape {start.shape}; give one score a curve, {len(y)}, NaN where not measured")
    column = np.zeros((len(y), 1))
    return np.hstack([column, sizes]), np.hstack([start[:, None], y]), np.hstack([column, noise])
