"""Bayesian linear regression whose residual sd is itself unknown: exact given the sd, averaged over a grid of it."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from orrery.laws.posterior import Array


def regress(
    basis: Array, y: Array, noise: Array, mean: Array, precision: Array, grid: Array, weight: Array
) -> tuple[Array, Array, Array]:
    """Posterior of y = basis @ coefficient + N(0, residual^2) + N(0, noise), for every residual sd of a grid.

    Args:
        basis: (m, q); y: (m,); noise: (m,) known variances.
        mean: (q,) and precision: (q, q) of the coefficients' normal prior.
        grid: (t,) residual sds and weight: (t,) their prior probabilities.

    Returns:
        Posterior probability of each residual sd (t,), mean (t, q) and covariance (t, q, q) of the coefficients.
    """
    total = noise + grid[:, None] ** 2
    after = precision + np.einsum("tm,ma,mb->tab", 1 / total, basis, basis)
    cov = np.linalg.inv(after)
    off = y - basis @ mean
    pull = np.einsum("tm,ma->ta", off / total, basis)
    step = np.einsum("tab,tb->ta", cov, pull)
    misfit = (off**2 / total).sum(1) - (pull * step).sum(1)
    log_det = np.linalg.slogdet(after)[1] + np.log(total).sum(1)
    log_weight = np.log(weight) - 0.5 * (log_det + misfit)
    return np.exp(log_weight - logsumexp(log_weight)), mean + step, cov


def spread_grid(median: float, spread: float, points: int = 13) -> tuple[Array, Array]:
    """Grid of a log-normal sd over +-2.5 spreads with its weights."""
    steps = np.linspace(-2.5, 2.5, points)
    weight = np.exp(-0.5 * steps**2)
    return median * np.exp(spread * steps), weight / weight.sum()
