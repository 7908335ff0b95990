"""How models fall apart and catch up along the training sizes of one task.

Learning curves of one task share a course; what decides between models is how each leaves it. A line through a model's
last points (accept-then-stop, the last two points) takes its present slope for permanent. Measured curves do something
more: a model that is behind speeds up. So the deviation d of a curve from the course of its task follows

    d' = v,    v' = -kappa d + white noise of density q^2,        time = doublings of the training size,

a random slope with a pull kappa back to the course, observed with noise, and with a rare step (one odd run shifts a
whole curve). kappa = 0 is the integrated Wiener process, whose forecast is a smoothed line. kappa is one number for a
task and is inferred from all its curves at once: as likely as not there is none, else it is exponential with the mean that other
tasks show (two or three sizes tell no pull from none, and a flat prior then bends what goes on straight). q and the noise
are mixed per curve with weights learned from all curves. Everything is linear and Gaussian given a few numbers on a grid, so ten thousand curves cost one batch of small
triangular solves. Kernel of the process: Sarkka and Solin, Applied Stochastic Differential Equations, section 6.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orrery.laws.posterior import Array

PULLS = np.array([0.0, 0.0025, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03])
_SLOPE_NOISES = np.array([0.001, 0.003, 0.006, 0.012, 0.02])
_NOISES = np.array([0.003, 0.006, 0.012, 0.024])
_LEVEL_SD, _SLOPE_SD = 0.4, 0.03
STEP_PROBABILITY, _STEP_SD = 0.02, 0.15
#: Mean of a pull where there is one, unless other tasks say otherwise (``priors``), and how likely there is none.
MEAN_PULL = 0.01
NO_PULL = 0.5
_ROUNDS = 20
_LEARN_FROM = 128  # curves that the shared numbers are learned from; more change nothing but the time
_BLOCK = 512


@dataclass(frozen=True)
class Deviations:
    """Forecast deviations (n, p) with variances, and the posterior of the pull kappa over its grid."""

    mean: Array
    variance: Array
    pulls: Array
    pull_probability: Array


def kernel(x: Array, pull: float, scale: float = 1.0) -> tuple[Array, Array]:
    """Covariances of the deviation between times ``x`` (u,) >= 0: of its start and slope, and of unit slope noise.

    >>> start, noise = kernel(np.array([0.0, 1.0]), 0.0)
    >>> round(float(noise[1, 1]), 4)   # the integrated Wiener process: x^3 / 3
    0.3333
    """
    w = np.sqrt(max(pull, 1e-6))
    early, late = np.minimum(x[:, None], x), np.maximum(x[:, None], x)
    gap = late - early
    a, b = np.cos(w * gap), np.sin(w * gap) / w
    cos, sin = np.cos(w * early), np.sin(w * early)
    level, slope = (scale * _LEVEL_SD) ** 2, (scale * _SLOPE_SD) ** 2
    start = a * (level * cos**2 + slope * (sin / w) ** 2) + b * (slope / w - level * w) * sin * cos
    own = (early / 2 - np.sin(2 * w * early) / (4 * w)) / w**2
    with_slope = (sin / w) ** 2 / 2
    return start, a * own + b * with_slope


def forecast(
    x: Array,
    deviations: Array,
    noise_sd: Array,
    at: Array,
    *,
    scale: float = 1.0,
    learn_from: int = _LEARN_FROM,
    pulls: Array = PULLS,
    mean_pull: float = MEAN_PULL,
    no_pull: float = NO_PULL,
    step_probability: float = STEP_PROBABILITY,
) -> Deviations:
    """Deviations at times ``at`` (p,) for n curves seen at times ``x`` (u,), all in doublings of the training size.

    Args:
        deviations: (n, u); NaN where not measured; a curve without any measurement gets the prior.
        noise_sd: (n, u); standard errors of the measurements, same scale.
        scale: size of everything relative to log losses: the grids are those of log losses times this.
        pulls, mean_pull, no_pull: grid of the pull, [0] for none; its mean where there is one; the probability of none.
        step_probability: probability of a step after each size, 0 for none.
    """
    seen = np.isfinite(deviations)
    groups = _patterns(seen, noise_sd, scale)
    grid = np.stack(np.meshgrid(pulls, _SLOPE_NOISES * scale, _NOISES * scale, indexing="ij"), -1).reshape(-1, 3)
    few = np.linspace(0, len(deviations) - 1, min(learn_from, len(deviations))).astype(np.int64)
    evidence = np.zeros((len(few), len(grid)))
    place = np.full(len(deviations), -1)
    place[few] = np.arange(len(few))
    for rows, noise in groups:
        chosen, shown = rows[place[rows] >= 0], seen[rows[0]]
        if len(chosen):
            factors = _factorise(x, shown, noise, at[:0], grid, scale, step_probability)
            evidence[place[chosen]] = _components(factors, deviations[np.ix_(chosen, shown)])[0]
    weights, posterior = _learn(evidence.reshape(len(few), len(pulls), -1), _pull_prior(pulls, mean_pull, no_pull))
    kept = weights > 1e-3 * weights.max()
    pull_of = np.repeat(np.arange(len(pulls)), len(grid) // len(pulls))[kept]
    mean, variance = np.empty((2, len(deviations), len(at)))
    for rows, noise in groups:
        shown = seen[rows[0]]
        factors = _factorise(x, shown, noise, at, grid[kept], scale, step_probability)
        for i in range(0, len(rows), _BLOCK):
            part = rows[i : i + _BLOCK]
            log_e, means, variances = _components(factors, deviations[np.ix_(part, shown)])
            log_e += np.log(weights[kept])
            # The pull belongs to the task: a curve moves the weights of q and noise, never those of the pull.
            for k in np.unique(pull_of):
                own = pull_of == k
                log_e[:, own] += np.log(posterior[k]) - _log_sum(log_e[:, own])[:, None]
            w = np.exp(log_e - _log_sum(log_e)[:, None])
            mean[part] = np.einsum("nc,ncp->np", w, means)
            variance[part] = np.einsum("nc,ncp->np", w, variances + (means - mean[part][:, None]) ** 2)
    return Deviations(mean, variance, pulls, posterior)


def _log_sum(values: Array) -> Array:
    top = values.max(axis=-1)
    return np.asarray(top + np.log(np.exp(values - top[..., None]).sum(axis=-1)))


def _patterns(seen: NDArray[np.bool_], noise_sd: Array, scale: float) -> list[tuple[NDArray[np.int64], Array]]:
    """Groups of curves measured at the same sizes with about the same noise, and the noise variance (u,) of each group.

    One factorisation then serves a whole group. Noise is rounded to a factor of sqrt(2), finer than anyone knows it.
    """
    floor = _NOISES[0] * scale
    level = np.where(seen, np.maximum(noise_sd, floor), 0.0)
    rms = np.sqrt((level**2).sum(axis=1) / np.maximum(seen.sum(axis=1), 1))
    key = np.column_stack([seen, np.round(2 * np.log2(np.maximum(rms, floor) / floor))]).astype(np.uint8)
    _, inverse = np.unique(np.ascontiguousarray(key).view(f"V{key.shape[1]}"), return_inverse=True)
    members = [np.flatnonzero(inverse.ravel() == g) for g in range(int(inverse.max(initial=-1)) + 1)]
    return [(rows, np.mean(np.where(seen[rows], noise_sd[rows], 0.0) ** 2, axis=0)) for rows in members]


@dataclass(frozen=True)
class _Factors:
    """What one pattern of measurements needs, for c grid points and j places of a step; count measured times, p asked."""

    whitening: Array  # (c, j, count, count): inverse Cholesky factor of the measurements' covariance
    lifted: Array  # (c, j, count, p): whitened covariance with the times asked for
    log_weight: Array  # (c, j): prior of the step and the determinant
    variance: Array  # (c, j, p)


def _factorise(
    x: Array, seen: NDArray[np.bool_], noise: Array, at: Array, grid: Array, scale: float, step_probability: float
) -> _Factors:
    times, count = np.concatenate([x[seen], at]), int(seen.sum())
    breaks = np.unique(x[seen])[1:] if step_probability > 0 else x[:0]
    later = np.vstack([np.zeros(len(times)), (times >= breaks[:, None]).astype(np.float64)])
    steps = (scale * _STEP_SD) ** 2 * later[:, :, None] * later[:, None, :]
    chance = min(step_probability, 0.5 / max(len(breaks), 1))
    log_step = np.log(np.append(1 - chance * len(breaks), np.full(len(breaks), chance)))
    by_pull = {pull: kernel(times, pull, scale) for pull in np.unique(grid[:, 0])}
    smooth = np.stack([by_pull[pull][0] + q**2 * by_pull[pull][1] for pull, q, _ in grid])
    covariance = smooth[:, None] + steps
    own = noise[seen] + grid[:, 2, None] ** 2
    root = np.linalg.cholesky(covariance[..., :count, :count] + (own[:, :, None] * np.eye(count))[:, None])
    whitening = np.linalg.inv(root)  # of a few 14 x 14 triangles, used on thousands of curves
    lifted = whitening @ covariance[..., :count, count:]
    log_det = np.log(np.einsum("cjii->cji", root)).sum(axis=-1)
    asked = np.einsum("cjpp->cjp", covariance[..., count:, count:])
    return _Factors(whitening, lifted, log_step - log_det, asked - (lifted**2).sum(axis=2))


def _components(factors: _Factors, values: Array) -> tuple[Array, Array, Array]:
    """Log evidence (n, c), mean (n, c, p) and variance (n, c, p) of curves (n, count), the place of a step mixed out."""
    shape = (len(values), len(factors.lifted))
    log_e = np.empty(shape)
    mean, variance = np.empty((2, *shape, factors.lifted.shape[-1]))
    for c in range(shape[1]):
        white = factors.whitening[c] @ values.T
        each = factors.log_weight[c] - 0.5 * (white**2).sum(axis=1).T
        log_e[:, c] = _log_sum(each)
        w = np.exp(each - log_e[:, [c]])
        means = np.swapaxes(white, 1, 2) @ factors.lifted[c]
        mean[:, c] = np.einsum("nj,jnp->np", w, means)
        apart = factors.variance[c][:, None] + (means - mean[:, c]) ** 2
        variance[:, c] = np.einsum("nj,jnp->np", w, apart)
    return log_e, mean, variance


def _pull_prior(pulls: Array, mean_pull: float, no_pull: float) -> Array:
    """Log probabilities of a grid of pulls."""
    some = np.where(pulls > 0, np.exp(-pulls / mean_pull), 0.0)
    share = some / some.sum() if some.any() else some
    return np.asarray(np.log(np.maximum(np.where(pulls > 0, (1 - no_pull) * share, no_pull), 1e-12)))


def _learn(evidence: Array, log_prior: Array) -> tuple[Array, Array]:
    """Shared weights of (pull, q, noise) on the grid, flattened, and the posterior of the pull: empirical Bayes.

    For every pull, expectation-maximisation learns the weights of q and noise; the pull's posterior is the evidence of
    all curves under those weights, with the prior ``log_prior``.
    """
    count, pulls, rest = evidence.shape
    weights = np.full((pulls, rest), 1.0 / rest)
    for _ in range(_ROUNDS if count else 0):
        joint = evidence + np.log(weights)
        share = np.exp(joint - _log_sum(joint)[..., None])
        weights = np.maximum(share.mean(axis=0), 1e-12)
    total = _log_sum(evidence + np.log(weights)).sum(axis=0) + log_prior
    posterior = np.exp(total - _log_sum(total))
    return (posterior[:, None] * weights).ravel(), posterior
