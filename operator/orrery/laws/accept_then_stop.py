"""Accept-then-stop: a line through as many of the largest sizes as still lie on one, in log-log.

Fit a line on the three largest measured sizes; take the next smaller one in while its residual is at most five standard
deviations of the residuals so far, else stop; extrapolate the line (arXiv 2402.02314, algorithm 1). ``last_points`` is
the line through a fixed number of largest sizes; with two it is the baseline that is hard to beat.

Both are kept as named alternatives and baselines. Their spread is the prediction interval of least squares: honest about
noise around a line, silent about curves that are none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.laws.observations import Curves, check_curves, check_targets
from orrery.laws.posterior import Array, Link, Posterior

THRESHOLD = 5.0
_FIRST = 3
_FLOOR_SD = 0.004  # residuals of two points are 0; no measured curve is better known than this
_UNKNOWN_SLOPE_SD = 0.15  # of a curve with one measured size, per factor e of training examples


@dataclass(frozen=True)
class LinePosterior:
    """Lines of n curves in ln size: value and slope at the centre, their variances, and how many sizes each took in."""

    centre: Array
    value: Array
    slope: Array
    residual_variance: Array
    slope_variance: Array
    accepted: NDArray[np.int64]
    link: Link

    def predict(self, sizes: ArrayLike) -> Posterior:
        """Posterior at ``sizes`` (p,), shape (n, p)."""
        at = check_targets(sizes)
        reach = np.log(at) - self.centre[:, None]
        mean = self.value[:, None] + self.slope[:, None] * reach
        own = self.residual_variance * (1 + 1 / np.maximum(self.accepted, 1))
        return Posterior(mean, np.sqrt(own[:, None] + self.slope_variance[:, None] * reach**2), self.link)


def fit(sizes: ArrayLike, scores: ArrayLike, *, link: Link, threshold: float = THRESHOLD) -> LinePosterior:
    """Accept-then-stop for n curves (n, m) at once; NaN where not measured.

    A curve with one measured size goes on flat with a wide interval; one with none is an error.
    """
    x, y, count = _from_largest(check_curves(sizes, scores, link=link))
    accepted = np.minimum(count, _FIRST)
    going = count > accepted
    while going.any():
        centre, value, slope, square = _line(x, y, accepted)
        rows, place = np.arange(len(x)), np.minimum(accepted, x.shape[1] - 1)
        residual = y[rows, place] - value - slope * (x[rows, place] - centre)
        spread = np.sqrt(square / accepted)
        going &= np.abs(residual) <= threshold * np.maximum(spread, 1e-12)
        accepted = accepted + going
        going &= count > accepted
    return _posterior(x, y, accepted, link)


def last_points(sizes: ArrayLike, scores: ArrayLike, *, link: Link, points: int = 2) -> LinePosterior:
    """The line through the ``points`` largest measured sizes of n curves (n, m)."""
    if points < 1:
        raise ValueError(f"points is the number of largest sizes the line goes through, at least 1; found {points}")
    x, y, count = _from_largest(check_curves(sizes, scores, link=link))
    return _posterior(x, y, np.minimum(count, points), link)


def _from_largest(data: Curves) -> tuple[Array, Array, NDArray[np.int64]]:
    """ln sizes and values (n, m) from the largest size down, unseen ones last, and how many are seen."""
    if (data.sizes[data.seen] == 0).any():
        raise ValueError("a line in log-log has no place for size 0; leave the score before tuning out")
    count = data.seen.sum(axis=1)
    if (count == 0).any():
        raise ValueError(f"curve {int(np.argmin(count))} has no measured score; a line needs one at least")
    order = np.argsort(np.where(data.seen, -data.sizes, np.inf), axis=1, kind="stable")
    x = np.log(np.where(data.seen, data.sizes, 1.0))
    return np.take_along_axis(x, order, 1), np.take_along_axis(data.values, order, 1), count


def _line(x: Array, y: Array, accepted: NDArray[np.int64]) -> tuple[Array, Array, Array, Array]:
    """Least squares on the first ``accepted`` columns: centre, value there, slope, sum of squared residuals."""
    taken = (np.arange(x.shape[1]) < accepted[:, None]).astype(np.float64)
    centre, value = (np.einsum("nm,nm->n", a, taken) / accepted for a in (x, y))
    dx, dy = (x - centre[:, None]) * taken, (y - value[:, None]) * taken
    square = (dx**2).sum(axis=1)
    slope = np.divide((dx * dy).sum(axis=1), square, out=np.zeros_like(square), where=square > 0)
    return centre, value, slope, ((dy - slope[:, None] * dx) ** 2).sum(axis=1)


def _posterior(x: Array, y: Array, accepted: NDArray[np.int64], link: Link) -> LinePosterior:
    centre, value, slope, square = _line(x, y, accepted)
    taken = np.arange(x.shape[1]) < accepted[:, None]
    spread = (((x - centre[:, None]) * taken) ** 2).sum(axis=1)
    residual = np.maximum(square / np.maximum(accepted - 2, 1), _FLOOR_SD**2)
    with np.errstate(divide="ignore"):
        slope_variance = np.where(spread > 0, residual / spread, _UNKNOWN_SLOPE_SD**2)
    return LinePosterior(centre, value, slope, residual, slope_variance, accepted, link)
