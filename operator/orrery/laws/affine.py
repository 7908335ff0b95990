"""From a cheap proxy to real quality: an affine calibration whose uncertainty shows how little was measured.

COSMOS (arXiv 2505.01449) trains a light head on frozen embeddings for each configuration and maps its score to the
tuned model's with a scale and a shift, fitted on a small real sample; reviewers missed the sensitivity to that sample.
Here the map has a posterior. On the link scale, with c the mean proxy of all candidates::

    real_j = c + shift + scale * (proxy_j - c) + deviation_j,     measured_j = real_j + sampling noise

``deviation`` is what the proxy cannot see of candidate j; its sd is itself unknown and integrated over a grid, so few
calibration points give Student-like tails (returned as a normal of equal variance) and none give the prior.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from orrery.laws import _inputs, _line
from orrery.laws.posterior import Array, Link, Posterior


@dataclass(frozen=True)
class AffinePrior:
    """Beliefs on the link scale before any real measurement.

    A linear head on frozen embeddings orders configurations like the tuned model does, but flatter or steeper by about
    a third either way, and tuning moves the level by up to about one logit either way. The deviation sd has a wide
    log-normal prior around a quarter of a logit (6 points of accuracy at .5, 2 at .9). These are assumptions, wide
    enough that a few real measurements overrule them.
    """

    scale_mean: float = 1.0
    scale_sd: float = 0.35
    shift_mean: float = 0.0
    shift_sd: float = 0.8
    deviation_median: float = 0.25
    deviation_spread: float = 0.7

    def __post_init__(self) -> None:
        for name in ("scale_sd", "shift_sd", "deviation_median", "deviation_spread"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} is {getattr(self, name)}: give a number above 0")

    def deviations(self) -> tuple[Array, Array]:
        """Grid of the deviation sd and its prior weights."""
        return _line.spread_grid(self.deviation_median, self.deviation_spread)


@dataclass(frozen=True)
class AffinePosterior:
    """Posterior of the real quality of ``n`` candidates.

    ``scale`` and ``shift`` are (mean, sd) of the map's coefficients; ``deviation_sd`` the expected sd of what the proxy
    cannot see.
    """

    scale: tuple[float, float]
    shift: tuple[float, float]
    deviation_sd: float
    link: Link
    _basis: Array = field(repr=False)  # (n, 2)
    _weight: Array = field(repr=False)  # (t,) posterior of the deviation sd
    _mean: Array = field(repr=False)  # (t, n)
    _cov: Array = field(repr=False)  # (t, 2, 2) of (shift, scale)
    _keep: Array = field(repr=False)  # (t, n) share of the map's error that the candidate's own measurement leaves
    _left: Array = field(repr=False)  # (t, n) variance of the deviation that is left

    def predict(self) -> Posterior:
        """Real quality of every candidate, shape (n,), deviation included, sampling noise not."""
        mean = self._weight @ self._mean
        return Posterior(mean, np.sqrt(self._variance()), self.link)

    def covariance(self, i: int) -> Array:
        """Covariance of candidate ``i`` with every candidate on the link scale, shape (n,).

        Raises:
            IndexError: no such candidate.
        """
        i = self._known(i)
        # (t, n): both candidates inherit the error of the map, each less what its own measurement has corrected.
        common = np.einsum("na,tab,b->tn", self._basis, self._cov, self._basis[i]) * self._keep * self._keep[:, i, None]
        common[:, i] += self._left[:, i]
        off = self._mean - self._weight @ self._mean
        return np.asarray(self._weight @ (common + off * off[:, i, None]))

    def expected_sd_after(self, i: int, real_sd: float = 0.0) -> Array:
        """Link-scale sd of every candidate once ``i`` is measured too, shape (n,): what a probe of ``i`` would tell.

        Args:
            i: the candidate to be measured.
            real_sd: its measurement's standard error on the metric scale.

        Raises:
            IndexError: no such candidate.
            ValueError: a negative or non-finite standard error.

        Notes:
            The Gaussian update sd_j^2 - cov_ij^2 / (sd_i^2 + noise^2), which does not depend on the value to be seen.
        """
        _inputs.within("real_sd", np.array([real_sd]), 0, np.inf, "give a standard error of 0 or more")
        i = self._known(i)
        variance = self._variance()
        noise = real_sd * float(self.link.slope(self.link.inverse(self._weight @ self._mean[:, i])))
        gain = self.covariance(i) ** 2 / max(float(variance[i]) + noise**2, 1e-300)
        return np.sqrt(np.maximum(variance - gain, 0.0))

    def _variance(self) -> Array:
        of_map = np.einsum("na,tab,nb->tn", self._basis, self._cov, self._basis) * self._keep**2 + self._left
        off = self._mean - self._weight @ self._mean
        return np.asarray(self._weight @ (of_map + off**2))

    def _known(self, i: int) -> int:
        n = len(self._basis)
        if not 0 <= i < n:
            raise IndexError(f"candidate {i} does not exist: give an index from 0 to {n - 1}")
        return int(i)


def calibrate(
    proxy: ArrayLike,
    real: ArrayLike,
    index: ArrayLike,
    *,
    real_sd: ArrayLike,
    prior: AffinePrior | None = None,
    link: Link = Link.LOGIT,
) -> AffinePosterior:
    """Posterior of real quality for ``n`` candidates from their proxies and ``m`` real measurements (also none).

    Args:
        proxy: (n,) proxy scores on the metric scale.
        real: (m,) measured scores on the metric scale.
        index: (m,) which candidate each measurement belongs to; repeats are pooled.
        real_sd: (m,) standard errors on the metric scale, broadcast; 0 only for an exact score (for 20 right of 20 give
            a smoothed error such as 1 / 22, not 0).
        prior: beliefs before measuring.
        link: the scale on which the map is affine.

    Raises:
        ValueError: a shape or number that cannot be, named with its place and what to give instead.

    >>> post = calibrate([0.6, 0.7, 0.8], [0.75], [1], real_sd=0.02)
    >>> sd = post.predict().sd
    >>> bool(sd[1] < sd[0]), bool((post.expected_sd_after(2) <= sd).all())
    (True, True)
    """
    prior = prior or AffinePrior()
    x, z, noise, member = _checked(proxy, real, index, real_sd, link)
    centre = float(x.mean())
    basis = np.stack([np.ones_like(x), x - centre], 1)
    before = np.array([prior.shift_mean, prior.scale_mean])
    before_precision = np.diag([prior.shift_sd**-2, prior.scale_sd**-2])
    grid, weight = prior.deviations()

    # Measurements of one candidate share its deviation: pool them first, then each candidate counts once.
    measured, row = np.unique(member, return_inverse=True)
    precision = np.bincount(row, 1 / noise**2, minlength=measured.size)
    seen = np.bincount(row, z / noise**2, minlength=measured.size) / precision - centre
    seen_var = 1 / precision
    seen_basis = basis[measured]

    weight, coefficient, cov = _line.regress(seen_basis, seen, seen_var, before, before_precision, grid, weight)
    mean = centre + coefficient @ basis.T
    keep = np.ones_like(mean)
    left = np.broadcast_to(grid[:, None] ** 2, mean.shape).copy()
    own = grid[:, None] ** 2 / (seen_var + grid[:, None] ** 2)
    mean[:, measured] += own * (centre + seen - mean[:, measured])
    keep[:, measured] = 1 - own
    left[:, measured] = grid[:, None] ** 2 * (1 - own)

    average = weight @ coefficient
    variance = weight @ (np.diagonal(cov, axis1=1, axis2=2) + (coefficient - average) ** 2)
    (shift, scale), (shift_sd, scale_sd) = average.tolist(), np.sqrt(variance).tolist()
    deviation = float(weight @ grid)
    return AffinePosterior((scale, scale_sd), (shift, shift_sd), deviation, link, basis, weight, mean, cov, keep, left)


def _checked(
    proxy: ArrayLike, real: ArrayLike, index: ArrayLike, real_sd: ArrayLike, link: Link
) -> tuple[Array, Array, Array, Array]:
    """Link-scale proxies, measurements, their sd, and the candidates measured."""
    low, high, mend = {
        Link.LOGIT: (0.0, 1.0, "give a share in [0, 1]"),
        Link.LOG: (1e-300, np.inf, "give a number above 0"),
        Link.IDENTITY: (-np.inf, np.inf, "give a finite number"),
    }[link]
    x = _inputs.within("proxy", _inputs.vector("proxy", proxy), low, high, mend)
    y = _inputs.within("real", _inputs.vector("real", real), low, high, mend)
    if x.size == 0:
        raise ValueError("proxy is empty: give one score for each candidate")
    member = np.asarray(index)
    if member.size == 0:
        member = member.astype(np.int_)
    if member.shape != y.shape or member.dtype.kind not in "iu":
        raise ValueError(f"index has shape {member.shape} and type {member.dtype}: give {y.size} integers, one a score")
    if member.size and not ((member >= 0) & (member < x.size)).all():
        wrong = member[(member < 0) | (member >= x.size)][0]
        raise ValueError(f"index has {wrong}: give a candidate from 0 to {x.size - 1}")
    try:
        sd = np.broadcast_to(np.asarray(real_sd, dtype=np.float64), y.shape)
    except ValueError:
        raise ValueError(f"real_sd does not fit {y.size} measurements: give one number or one each") from None
    _inputs.within("real_sd", sd, 0, np.inf, "give a standard error of 0 or more")
    # The slope is taken a little inside the range: at a score of exactly 0 or 1 it would call any noise infinite.
    inside = np.clip(y, 0.02, 0.98) if link is Link.LOGIT else y
    noise = np.maximum(sd * link.slope(inside), 1e-6)
    half = np.minimum(sd / 2, 0.25)
    z = link.forward(np.clip(y, half, 1 - half) if link is Link.LOGIT else y)
    return link.forward(x), z, noise, member
