"""y(C) = g + (1 - g) exp(-a C^-b - c) with a posterior, for many groups of items at once.

With eta = ln a - b ln C the law is g + (1 - g) exp(-e^eta - c): eta is linear in (ln a, b), c sits on a grid, and the
posterior given c is Gaussian around the mode (Laplace), found by a damped Gauss-Newton over all groups together.

The law is only nearly true: items that follow a logistic in ability (item response theory) bend away from it in ln C. So
eta has a third coefficient, a curvature shrunk to 0: without it the extrapolation of simulated logistic items was sure
and 7 points off; with it the data can show the bend and the interval allows for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from orrery.laws.posterior import Array

#: Irreducible part c: most groups are solved in the end; the filter of COD refuses 1 and more.
OFFSETS = np.array([0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.3])
#: sd (in eta) by which one model leaves its family's curve: recipe, checkpoint, luck.
DEVIATIONS = np.array([0.01, 0.03, 0.08, 0.2])
# Prior of eta at the middle of the measured computes, and of b: between everything and nothing solved; 0.4 is the centre
# of exponents seen in loss (Kaplan .05, read through emergent tasks several times that), wide.
# Curvature: a logistic item of ability .6 ln C bends by .01 per squared e-fold.
_MEAN = np.array([0.0, 0.4, 0.0])
_SD = np.array([1.5, 0.35, 0.015])
_OFFSET_SCALE = 0.3


@dataclass(frozen=True)
class ComputeLaw:
    """Posterior of ``r`` groups; the last axes of the private arrays are (offsets, deviations)."""

    chance: float
    centre: float
    weight: Array  # (r, o, t)
    coefficient: Array  # (r, o, t, 3): eta at the centre, b, curvature
    cov: Array = field(repr=False)  # (r, o, t, 3, 3)
    common: Array = field(repr=False)  # (r, o, t) share of the noise that all groups of a model have in common

    def take(self, groups: NDArray[np.int_]) -> ComputeLaw:
        """The law of the selected groups."""
        picked = (a[groups] for a in (self.weight, self.coefficient, self.cov, self.common))
        return ComputeLaw(self.chance, self.centre, *picked)

    def draws(self, log_compute: Array, count: int, seed: int) -> tuple[Array, Array, Array, Array]:
        """``count`` posterior draws: y (p, r, count) at each compute, and (ln a, b, c), each (r, count).

        Errors of groups are correlated as far as they come from the models' own deviations, which all groups feel.
        """
        rng = np.random.default_rng(seed)
        groups = len(self.weight)
        # The deviation sd belongs to the family, so the groups decide on it together and a draw uses one for all.
        by_sd = np.log(np.maximum(self.weight.sum(1), 1e-300)).sum(0)
        sd_at = rng.choice(DEVIATIONS.size, count, p=np.exp(by_sd - logsumexp(by_sd)))
        ladder = np.cumsum(self.weight, axis=1)
        ladder = ladder / np.maximum(ladder[:, -1:], 1e-300)
        offset_at = (rng.random((groups, 1, count)) > ladder[:, :, sd_at]).sum(1).clip(0, OFFSETS.size - 1)
        rows = np.arange(groups)[:, None]
        share = self.common[rows, offset_at, sd_at][..., None]
        noise = np.sqrt(share) * rng.standard_normal((1, count, 3)) + np.sqrt(1 - share) * rng.standard_normal(
            (groups, count, 3)
        )
        root = np.linalg.cholesky(self.cov[rows, offset_at, sd_at])
        theta = self.coefficient[rows, offset_at, sd_at] + np.einsum("rsab,rsb->rsa", root, noise)
        x = log_compute[:, None, None] - self.centre
        eta = theta[..., 0] - theta[..., 1] * x - theta[..., 2] * x**2
        eta = eta + DEVIATIONS[sd_at] * rng.standard_normal((log_compute.size, 1, count))
        offset = OFFSETS[offset_at]
        y = self.chance + (1 - self.chance) * np.exp(-np.exp(np.minimum(eta, 50.0)) - offset)
        return y, theta[..., 0] + theta[..., 1] * self.centre, theta[..., 1], offset


def fit(log_compute: Array, score: Array, variance: Array, chance: float) -> ComputeLaw:
    """Posterior for ``r`` groups from scores (r, m) with sampling variances (r, m) at m computes; chance in [0, 1)."""
    centre = float(log_compute.mean()) if log_compute.size else 0.0
    x = log_compute - centre
    data = (x, score[:, None, None], variance[:, None, None], chance)
    theta = _start(*data)
    damping = np.full(theta.shape[:-1], 1e-2)
    cost, gradient, hessian, common = _linearise(theta, *data)
    # Started from the best of a grid, fifteen damped steps move no forecast in its third digit any more.
    for _ in range(15):
        step = np.linalg.solve(hessian * (1 + damping[..., None, None] * np.eye(3)), gradient[..., None])[..., 0]
        trial = theta - step
        trial[..., 0] = np.clip(trial[..., 0], -8.0, 8.0)
        new = _linearise(trial, *data)
        better = new[0] < cost
        theta = np.where(better[..., None], trial, theta)
        gradient = np.where(better[..., None], new[1], gradient)
        hessian = np.where(better[..., None, None], new[2], hessian)
        common = np.where(better, new[3], common)
        cost = np.where(better, new[0], cost)
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-6, 1e6)
    evidence = -0.5 * cost - 0.5 * np.linalg.slogdet(hessian)[1]
    evidence = evidence - (OFFSETS / _OFFSET_SCALE)[:, None] + np.log(_spacing(OFFSETS))[:, None]
    weight = np.exp(evidence - logsumexp(evidence, axis=(1, 2), keepdims=True))
    return ComputeLaw(chance, centre, weight, theta, np.asarray(np.linalg.inv(hessian), dtype=np.float64), common)


def _spacing(grid: Array) -> Array:
    edges = np.concatenate([grid[:1], (grid[1:] + grid[:-1]) / 2, grid[-1:]])
    return np.diff(edges)


def _curve(theta: Array, x: Array, chance: float) -> tuple[Array, Array]:
    """Values (..., m) and their derivative by eta."""
    eta = np.minimum(theta[..., :1] - theta[..., 1:2] * x - theta[..., 2:] * x**2, 6.0)
    h = np.exp(eta)
    y = (1 - chance) * np.exp(-h - OFFSETS[:, None, None])
    return chance + y, -h * y


def _start(x: Array, score: Array, variance: Array, chance: float) -> Array:
    """Best point of a coarse grid for each (group, offset, deviation)."""
    best = np.full((len(score), OFFSETS.size, DEVIATIONS.size), np.inf)
    theta = np.zeros((*best.shape, 3))
    for level in np.linspace(-4, 3, 8):
        for b in (0.1, 0.4, 1.0):
            here = np.broadcast_to(np.array([level, b, 0.0]), theta.shape)
            cost = _linearise(here, x, score, variance, chance)[0]
            closer = cost < best
            best = np.where(closer, cost, best)
            theta = np.where(closer[..., None], here, theta)
    return theta


def _linearise(
    theta: Array, x: Array, score: Array, variance: Array, chance: float
) -> tuple[Array, Array, Array, Array]:
    """-2 log posterior density, half its gradient, half its Gauss-Newton Hessian, and the models' share of the noise."""
    y, slope = _curve(theta, x, chance)
    own = (DEVIATIONS[:, None] * slope) ** 2
    total = variance + own
    off = score - y
    # (r, o, t, m, 3): eta = level - b x - curvature x^2.
    way = slope[..., None] * np.stack([np.ones_like(x), -x, -(x**2)], -1)
    prior = (theta - _MEAN) / _SD**2
    cost = (off**2 / total + np.log(total)).sum(-1) + ((theta - _MEAN) * prior).sum(-1)
    gradient = prior - np.einsum("...m,...ma->...a", off / total, way)
    hessian = np.diag(1 / _SD**2) + np.einsum("...m,...ma,...mb->...ab", 1 / total, way, way)
    share = (own / total).mean(-1) if x.size else np.zeros(theta.shape[:-1])
    return cost, gradient, hessian, share
