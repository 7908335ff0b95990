"""What every law returns: a normal distribution on a link scale, one per curve or candidate.

A link keeps forecasts inside the metric's range (an accuracy of 1.07 is nonsense) and makes the noise roughly
homoscedastic: logit for shares in [0, 1], log for positive losses, identity for the rest. Holding a mean and a standard
deviation, not draws, keeps ten thousand candidates cheap; laws that work with draws match moments on the link scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtr, ndtri

Array = NDArray[np.float64]

#: Shares are clipped this far from 0 and 1 before the logit: half an item in a thousand.
SHARE_MARGIN = 5e-4

#: Half the width of a 90 % interval of a normal distribution, in standard deviations.
Z90 = 1.6448536269514722


class Link(StrEnum):
    """The scale on which errors are roughly normal."""

    IDENTITY = "identity"
    LOGIT = "logit"
    LOG = "log"

    def forward(self, value: ArrayLike) -> Array:
        """Metric scale -> link scale."""
        y = np.asarray(value, dtype=np.float64)
        if self is Link.LOGIT:
            return np.asarray(logit(np.clip(y, SHARE_MARGIN, 1 - SHARE_MARGIN)), dtype=np.float64)
        if self is Link.LOG:
            return np.log(np.maximum(y, 1e-12))
        return y

    def inverse(self, value: ArrayLike) -> Array:
        """Link scale -> metric scale."""
        z = np.asarray(value, dtype=np.float64)
        if self is Link.LOGIT:
            return np.asarray(expit(z), dtype=np.float64)
        if self is Link.LOG:
            return np.exp(np.minimum(z, 700.0))
        return z

    def slope(self, value: ArrayLike) -> Array:
        """d link / d metric at a metric value: turns a standard error on the metric scale into one on the link scale."""
        y = np.asarray(value, dtype=np.float64)
        if self is Link.LOGIT:
            p = np.clip(y, SHARE_MARGIN, 1 - SHARE_MARGIN)
            return 1.0 / (p * (1.0 - p))
        if self is Link.LOG:
            return 1.0 / np.maximum(y, 1e-12)
        return np.ones_like(y)


@dataclass(frozen=True)
class Posterior:
    """Normal(mean, sd) on ``link`` scale, elementwise; ``mean`` and ``sd`` have the same shape.

    >>> p = Posterior(np.array([0.0]), np.array([1.0]), Link.LOGIT)
    >>> [round(float(v[0]), 3) for v in (p.median(), *p.interval(0.9))]
    [0.5, 0.162, 0.838]
    """

    mean: Array
    sd: Array
    link: Link

    def __post_init__(self) -> None:
        if self.mean.shape != self.sd.shape:
            raise ValueError(f"mean has shape {self.mean.shape}, sd {self.sd.shape}: give both the same shape")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.sd).all() and (self.sd >= 0).all()):
            raise ValueError("a posterior needs finite means and finite, non-negative standard deviations")

    def quantile(self, q: ArrayLike) -> Array:
        """Metric-scale quantile(s); ``q`` broadcasts against the curves."""
        return self.link.inverse(self.mean + self.sd * ndtri(np.asarray(q, dtype=np.float64)))

    def median(self) -> Array:
        """Metric-scale median: the forecast that is reported."""
        return self.link.inverse(self.mean)

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Central metric-scale interval that holds the true value with probability ``level``."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def probability_above(self, threshold: ArrayLike) -> Array:
        """P(metric > threshold), elementwise; an exact forecast (sd 0) gives 0 or 1."""
        z = self.link.forward(threshold)
        with np.errstate(divide="ignore", invalid="ignore"):
            p = ndtr((self.mean - z) / self.sd)
        return np.where(self.sd > 0, p, (self.mean > z).astype(np.float64))

    def take(self, index: ArrayLike) -> Posterior:
        """The posterior of the selected curves."""
        i = np.asarray(index)
        return Posterior(self.mean[i], self.sd[i], self.link)
