"""Learn the prior of the rectified law from measured curves: of other tasks (``learn_prior``), and of the task at hand (``adapt``).

Parametric empirical Bayes (Morris 1983, JASA 78) by expectation-maximisation (Dempster, Laird and Rubin 1977) with Monte Carlo E-steps
(Wei and Tanner 1990): the posteriors of all curves under a prior give the next one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from orrery.laws import rectified
from orrery.laws.posterior import Array, Link
from orrery.laws.rectified import RectifiedPosterior, RectifiedPrior

_ROUNDS = 15
_ADAPTING = 5
_CURVES_WORTH = 10.0  # of the other tasks' covariance
_KEEP = 0.025  # share of the weak prior's variance that never goes: 30 curves do not prove a parameter constant


def learn_prior(
    sizes: ArrayLike, scores: ArrayLike, *, link: Link, start: RectifiedPrior | None = None
) -> RectifiedPrior:
    """Mean and covariance of the rectified law's parameters over the given curves (n, m), NaN where not measured.

    Expectation-maximisation: the moments of all curves' posteriors under one prior are the next prior. Curves of several
    tasks go in together, so that differences between tasks widen the prior as they should.
    """
    first = rectified.default_prior(link) if start is None else start
    y = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if np.isfinite(y).sum() < 8:
        raise ValueError("a prior is learned from measured curves; give at least eight scores")
    prior = first
    for _ in range(_ROUNDS):
        posterior = rectified.fit(sizes, y, link=link, prior=prior)
        mean = np.einsum("nk,nki->i", posterior.weights, posterior.draws) / len(y)
        prior = replace(
            prior, mean=mean, covariance=(1 - _KEEP) * _spread(posterior, mean) / len(y) + _KEEP * first.covariance
        )
    return prior


def adapt(
    prior: RectifiedPrior,
    sizes: ArrayLike,
    scores: ArrayLike,
    *,
    link: Link,
    noise_sd: ArrayLike | None = None,
    chance: float = 0.0,
    seed: int = 0,
) -> RectifiedPrior:
    """The prior of one task's curves (n, m): ``prior``, learned from other tasks, moved by what its own curves show.

    A task is not a sample of curves from other tasks: its losses may be counted in other units, its curves steeper
    altogether. So its curves have a mean of their own, normal around that of ``prior`` with the same covariance, and a
    covariance that starts with ten curves' worth of ``prior``'s: normal-inverse-Wishart (Gelman et al., Bayesian Data
    Analysis, section 3.6), its mode found by expectation-maximisation. One curve says nothing of a mean beyond itself.
    """
    y = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    count = len(y)
    if count < 2:
        return prior
    if link is Link.LOG:
        prior = replace(prior, mean=prior.mean + _unit(prior, sizes, y) * np.eye(len(prior.mean))[0])
    known = np.linalg.inv(prior.covariance)
    found = prior
    for _ in range(_ADAPTING):
        posterior = rectified.fit(sizes, y, link=link, noise_sd=noise_sd, prior=found, chance=chance, seed=seed)
        total = np.einsum("nk,nki->i", posterior.weights, posterior.draws)
        own = np.linalg.inv(found.covariance)
        mean = np.linalg.solve(known + count * own, known @ prior.mean + own @ total)
        spread = _spread(posterior, mean) + _CURVES_WORTH * prior.covariance
        found = replace(prior, mean=mean, covariance=spread / (count + _CURVES_WORTH))
    return found


def _unit(prior: RectifiedPrior, sizes: ArrayLike, losses: Array) -> float:
    """By how much ln losses (n, m) lie beyond what the prior knows, after tuning: they are counted in another unit.

    Within two standard deviations their level says something of the curves' shape, which a unit does not.
    """
    x = np.broadcast_to(np.asarray(sizes, dtype=np.float64), losses.shape)
    off = np.log(losses) - rectified.curve(prior.mean, x, Link.LOG)
    tuned = np.isfinite(off) & (x > 0)
    if not tuned.any():
        return 0.0
    found = float(off[tuned].mean())
    return float(np.sign(found)) * max(abs(found) - 2 * float(np.sqrt(prior.covariance[0, 0])), 0.0)


def _spread(posterior: RectifiedPosterior, mean: Array) -> Array:
    """Sum over curves of the expected squared deviations from ``mean``, (4, 4)."""
    offset = posterior.draws - mean
    return np.asarray(np.einsum("nk,nki,nkj->ij", posterior.weights, offset, offset))
