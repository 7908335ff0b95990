"""Pass rates too small for a small sample, extrapolated over compute: log(-log rate) is linear in log compute.

PassUntil (arXiv 2310.03262): a task that a hundred samples call 0 may have a pass rate of 1e-4 that grows with scale by a law. The
paper resolves such rates by sampling until an item passes; probes here answer each item once a configuration, so a rate is as
fine as items times configurations, and one where nothing passed counts as "about its standard error or less". The line
gets a posterior, with a curvature shrunk to 0 (see ``_compute_law``: an exact line is too sure of itself far out) and the sd by
which a model leaves its family's line unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from orrery.laws import _inputs, _line
from orrery.laws.posterior import Array, Link, Posterior

# log(-log rate) at the middle compute: from 60 % solved to one in 1e12; slope: rates that grow with scale, slowly or fast.
_MEAN = np.array([1.2, -0.3, 0.0])
_SD = np.array([1.2, 0.3, 0.015])
# sd of one model around the line.
_DEVIATION = _line.spread_grid(0.05, 0.8)
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(24)
_NODE_WEIGHTS = _NODE_WEIGHTS / _NODE_WEIGHTS.sum()


@dataclass(frozen=True)
class PassUntilPosterior:
    """Posterior of the line; ``slope`` is (mean, sd) of d log(-log rate) / d log compute, below 0 where scale helps."""

    slope: tuple[float, float]
    _centre: float
    _weight: Array = field(repr=False)
    _coefficient: Array = field(repr=False)
    _cov: Array = field(repr=False)

    def predict(self, compute: ArrayLike, *, link: Link = Link.LOGIT) -> Posterior:
        """Pass rate at each compute, shape (p,), in the unit ``fit`` was given; ``Link.LOG`` suits rates far below 1 %.

        Raises:
            ValueError: a compute that is not above 0, or the identity link, which no rate far from 1/2 is normal on.
        """
        if link is Link.IDENTITY:
            raise ValueError("link is identity: give logit or log")
        c = _inputs.within("compute", _inputs.vector("compute", compute), 1e-300, np.inf, "give a number above 0")
        basis = _basis(np.log(c) - self._centre)
        mean = self._coefficient @ basis.T  # (t, p)
        variance = np.einsum("pa,tab,pb->tp", basis, self._cov, basis) + _DEVIATION[0][:, None] ** 2
        y = mean + np.sqrt(variance) * _NODES[:, None, None]  # (node, t, p)
        log_rate = -np.exp(np.clip(y, -30.0, 6.0))
        z = log_rate if link is Link.LOG else log_rate - np.log(-np.expm1(log_rate))
        weight = _NODE_WEIGHTS[:, None, None] * self._weight[:, None]
        centre = (weight * z).sum((0, 1))
        return Posterior(centre, np.sqrt((weight * (z - centre) ** 2).sum((0, 1))), link)


def fit(rate: ArrayLike, rate_sd: ArrayLike, compute: ArrayLike) -> PassUntilPosterior:
    """Posterior of the line through ``m`` models' pass rates; from no model (the prior) to many.

    Args:
        rate: (m,) pass rates in [0, 1]; 0 (nothing ever passed) counts as a vague "about its standard error or less".
        rate_sd: (m,) their standard errors, above 0.
        compute: (m,) training compute, or parameters where tokens are equal.

    Raises:
        ValueError: a shape or number that cannot be, named with its place and what to give instead.
    """
    p = _inputs.within("rate", _inputs.vector("rate", rate), 0, 1, "give a pass rate in [0, 1]")
    sd = _inputs.within("rate_sd", _inputs.vector("rate_sd", rate_sd), 1e-300, np.inf, "give a standard error above 0")
    c = _inputs.within("compute", _inputs.vector("compute", compute), 1e-300, np.inf, "give a number above 0")
    if not p.shape == sd.shape == c.shape:
        raise ValueError(
            f"rate, rate_sd and compute have {p.size}, {sd.size} and {c.size} entries: give one each a model"
        )
    centre = float(np.log(c).mean()) if c.size else 0.0
    inside = np.clip(p, np.minimum(sd, 0.25), 1 - np.minimum(sd / 2, 0.25))
    hazard = -np.log(inside)
    noise = (sd / (inside * hazard)) ** 2 + np.where(p > 0, 0.0, 0.25)
    basis = _basis(np.log(c) - centre)
    weight, coefficient, cov = _line.regress(basis, np.log(hazard), noise, _MEAN, np.diag(_SD**-2.0), *_DEVIATION)
    slope = float(weight @ coefficient[:, 1])
    spread = float(np.sqrt(weight @ (cov[:, 1, 1] + (coefficient[:, 1] - slope) ** 2)))
    return PassUntilPosterior((slope, spread), centre, weight, coefficient, cov)


def _basis(x: Array) -> Array:
    return np.stack([np.ones_like(x), x, x**2], -1)
