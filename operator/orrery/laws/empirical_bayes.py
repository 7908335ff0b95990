"""Learn the prior of the rectified law from measured curves of other models and tasks.

Parametric empirical Bayes (Morris 1983, JASA 78) by expectation-maximisation (Dempster, Laird and Rubin 1977) with Monte Carlo E-steps
(Wei and Tanner 1990): the posteriors of all curves under a prior give the next one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from orrery.laws import rectified
from orrery.laws.posterior import Link
from orrery.laws.rectified import RectifiedPrior

_ROUNDS = 15
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
        offset = posterior.draws - mean
        spread = np.einsum("nk,nki,nkj->ij", posterior.weights, offset, offset) / len(y)
        prior = replace(prior, mean=mean, covariance=(1 - _KEEP) * spread + _KEEP * first.covariance)
    return prior
