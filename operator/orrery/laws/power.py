"""The power law of a learning curve, L(D) = B / (W + D^beta) + E with W known, with a posterior.

W = 0 is the plain power law: a baseline, since it lacks the flat start of the rectified law (arXiv 2402.02314 compares
the two). W measured on the model before tuning is the NTK-rectified law (``ntk``). Written as
ln L = a + ln(e + (1 - e) (W + D1^beta) / (W + D^beta)) with D1 the smallest size, it is linear in a, so that a grid over
e (the floor as a share of the start) and beta with the exact posterior of a gives the whole posterior: a few matrix
products for all curves, no optimiser, no start, no local minimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_expit

from orrery.laws.observations import check_curves, check_targets
from orrery.laws.posterior import SHARE_MARGIN, Array, Link, Posterior

_FLOORS = np.concatenate([[1e-3], np.linspace(0.03, 0.97, 32)])
_EXPONENTS = np.geomspace(0.01, 2.0, 40)
_START_SD = 10.0
_MISFIT_SD = 0.01
_BLOCK = 256
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(5)


@dataclass(frozen=True)
class PowerPosterior:
    """Weights (n, g) over the grid of (floor, beta), and the normal posterior of the start at each point."""

    first: float
    worth: Array
    weights: Array
    start: Array
    start_variance: Array
    misfit: Array
    link: Link

    def predict(self, sizes: ArrayLike) -> Posterior:
        """Posterior at ``sizes`` (p,), shape (n, p)."""
        at = check_targets(sizes)
        parts = [self._block(rows, at) for rows in _blocks(len(self.weights))]
        mean, sd = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Posterior(mean, sd, self.link)

    def _block(self, rows: slice, at: Array) -> tuple[Array, Array]:
        shape = _shape(at, self.first, self.worth[rows] if len(self.worth) > 1 else self.worth)
        weights, spread = self.weights[rows], self.start_variance[rows, None]
        mean, second = np.zeros((2, len(weights), len(at)))
        # On the log scale the start is normal and three moments do; on the logit scale it goes through its quadrature.
        nodes = (
            zip(_NODES, _NODE_WEIGHTS / _NODE_WEIGHTS.sum(), strict=True) if self.link is Link.LOGIT else [(0.0, 1.0)]
        )
        for node, weight in nodes:
            start = self.start[rows] + np.sqrt(spread) * node
            for p in range(len(at)):
                log_error = start + shape[..., p]
                value = log_error if self.link is Link.LOG else _to_logit(log_error)
                mean[:, p] += weight * np.einsum("ng,ng->n", weights, value)
                second[:, p] += weight * np.einsum("ng,ng->n", weights, value**2)
        if self.link is Link.LOG:
            second += spread
        variance = np.maximum(second - mean**2, 0.0) + _MISFIT_SD**2
        return mean, np.sqrt(variance * self.misfit[rows, None])


def _blocks(curves: int) -> list[slice]:
    """Curves worked on at once: 1,320 grid points each for ten thousand would take a gigabyte."""
    return [slice(i, i + _BLOCK) for i in range(0, max(curves, 1), _BLOCK)]


def _to_logit(log_error: Array) -> Array:
    """ln(1 - accuracy) -> logit(accuracy)."""
    capped = np.clip(log_error, np.log(SHARE_MARGIN), np.log1p(-SHARE_MARGIN))
    return np.asarray(np.log1p(-np.exp(capped)) - capped)


def _shape(sizes: Array, first: float, worth: Array) -> Array:
    """ln(e + (1 - e) (W + D1^beta) / (W + D^beta)) on the grid, shape (n or 1, g, p)."""
    floor, beta = (a.ravel()[:, None] for a in np.meshgrid(_FLOORS, _EXPONENTS, indexing="ij"))
    with np.errstate(divide="ignore"):
        log_worth = np.log(worth)[:, None, None]
    fall = np.logaddexp(log_worth, beta * np.log(first)) - np.logaddexp(log_worth, beta * np.log(sizes))
    return np.asarray(np.logaddexp(np.log(floor), np.log1p(-floor) + fall))


def fit(
    sizes: ArrayLike,
    scores: ArrayLike,
    *,
    link: Link,
    noise_sd: ArrayLike | None = None,
    worth: ArrayLike | None = None,
) -> PowerPosterior:
    """Posterior of the power law for n curves (n, m) measured at common ``sizes`` (m,), NaN where not measured.

    Losses with ``Link.LOG``; shares with ``Link.LOGIT``, whose error rate falls. The prior is flat over the grid.
    ``worth`` (n,) is W, in units of D^beta; none is 0, the plain power law.
    """
    if link is Link.IDENTITY:
        raise ValueError(
            "the power law needs link 'log' (losses) or 'logit' (shares such as accuracy); found 'identity'"
        )
    data = check_curves(sizes, scores, link=link, noise_sd=noise_sd)
    if (data.sizes[data.seen] == 0).any():
        raise ValueError("a power law has no place for size 0; leave the score before tuning out")
    if len(data.sizes) > 1 and (data.sizes != data.sizes[0]).any():
        raise ValueError("the power law takes one list of sizes for all curves; write NaN where a curve lacks one")
    noise = np.where(data.seen, data.noise_sd, 0.0)
    values = data.values
    if link is Link.LOGIT:
        # The noise of ln(1 - accuracy) is that of the logit times the accuracy itself.
        noise = noise * np.exp(log_expit(values))
        values = np.where(data.seen, log_expit(-values), 0.0)
    weight = np.where(data.seen, 1 / (noise**2 + _MISFIT_SD**2), 0.0)
    known = np.zeros(1) if worth is None else np.atleast_1d(np.asarray(worth, dtype=np.float64))
    if known.shape not in ((1,), (len(values),)) or not (np.isfinite(known).all() and (known >= 0).all()):
        raise ValueError(f"worth must be one finite number >= 0 a curve, {len(values)} in all; found {worth!r}")
    used = data.sizes[data.seen]
    first = float(used.min()) if used.size else 1.0
    columns = data.sizes[0] if len(data.sizes) else np.ones(values.shape[1])
    at = np.maximum(columns, 1e-12)
    parts = [
        _fit_block(weight[r], values[r], _shape(at, first, known[r] if len(known) > 1 else known))
        for r in _blocks(len(values))
    ]
    weights, start, start_variance, least = (np.concatenate(part) for part in zip(*parts, strict=True))
    misfit = np.maximum(1.0, (3 + least) / (3 + data.seen.sum(axis=1)))
    return PowerPosterior(first, known, weights, start, start_variance, misfit, link)


def _fit_block(weight: Array, values: Array, shape: Array) -> tuple[Array, Array, Array, Array]:
    """Weights and starts (n, g), the starts' variance (n,) and the least chi-square (n,)."""
    if len(shape) == 1:
        cross, square = (weight * values) @ shape[0].T, weight @ (shape[0] ** 2).T
        linear = weight @ shape[0].T
    else:
        linear, cross = (np.einsum("nm,ngm->ng", w, shape) for w in (weight, weight * values))
        square = np.einsum("nm,ngm->ng", weight, shape**2)
    one = (weight * values).sum(axis=1)[:, None] - linear
    two = (weight * values**2).sum(axis=1)[:, None] - 2 * cross + square
    precision = weight.sum(axis=1) + 1 / _START_SD**2
    start = one / precision[:, None]
    chi_square = np.maximum(two - one * start, 0.0)
    least = chi_square.min(axis=1)
    weights = np.exp(-0.5 * (chi_square - least[:, None]))
    return weights / weights.sum(axis=1, keepdims=True), start, 1 / precision, least
