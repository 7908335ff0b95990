"""In-context learning on top of fine-tuning, forecast from its parts and at most a few joint measurements.

On the link scale, for each candidate::

    hybrid = fine_tuned + (1 - overlap) * (in_context - zero_shot) - disturbance + deviation

``overlap`` is the share of what demonstrations teach that tuning has taught already. ``disturbance`` is what a longer prompt
than those of the training costs the tuned model, whatever it teaches; it is counted towards the worse end of the metric. Both
are common to the candidates of one call (one model on one task), so one joint measurement speaks for all of them.
No paper we know of gives this form; it is the simplest that joins known parts and can say that demonstrations hurt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from orrery.laws import _inputs
from orrery.laws.posterior import Array, Link, Posterior

Index = NDArray[np.intp]


@dataclass(frozen=True)
class HybridPrior:
    """Beliefs before any joint measurement.

    Demonstrations mostly show format and labels, which tuning teaches too, so four fifths overlap; the sd leaves room for
    full addition (0) and for demonstrations that take away what tuning taught (1.5). That they disturb a model tuned without
    them is common: SmolLM2-135M tuned on 64 utterances told .83 of seven intents right, and .66 after four demonstrations
    at random, which had left the untuned model as it was. ``deviation_sd`` is what one candidate does beyond that, about 5
    points of accuracy at .5. All but the overlap are on the link scale.
    """

    overlap_mean: float = 0.8
    overlap_sd: float = 0.4
    disturbance_mean: float = 0.3
    disturbance_sd: float = 0.4
    deviation_sd: float = 0.2

    def __post_init__(self) -> None:
        for name in ("overlap_sd", "disturbance_sd", "deviation_sd"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} is {getattr(self, name)}: give a number above 0")
        for name in ("overlap_mean", "disturbance_mean"):
            if not np.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}: give a finite number")


class Alike(NamedTuple):
    """How the errors of two sets of candidates' parts correlate, each (rows, columns)."""

    zero_shot: Array
    fine_tuned: Array
    in_context: Array


def _strangers(rows: Index, columns: Index) -> Alike:
    """No two candidates share a part."""
    same = (rows[:, None] == columns[None]).astype(np.float64)
    return Alike(same, same, same)


@dataclass(frozen=True)
class _Law:
    """The linear law around the expected overlap: means and covariances of n hybrids and of their parts."""

    prior: HybridPrior
    zero_shot: Posterior
    fine_tuned: Posterior
    in_context: Posterior
    alike: Callable[[Index, Index], Alike]

    @property
    def gain(self) -> Array:
        """(n,) what demonstrations bring to the untuned model."""
        return self.in_context.mean - self.zero_shot.mean

    @property
    def mean(self) -> Array:
        worse = 1.0 if self.zero_shot.link is Link.LOG else -1.0
        kept = (1 - self.prior.overlap_mean) * self.gain
        return np.asarray(self.fine_tuned.mean + kept + worse * self.prior.disturbance_mean)

    @property
    def variance(self) -> Array:
        """(n,) of the hybrids; the product of an uncertain overlap and an uncertain gain enters by its exact variance."""
        of_gain = self.in_context.sd**2 + self.zero_shot.sd**2
        p = self.prior
        by_overlap = p.overlap_sd**2 * (self.gain**2 + of_gain)
        own = p.disturbance_sd**2 + p.deviation_sd**2
        return np.asarray(self.fine_tuned.sd**2 + (1 - p.overlap_mean) ** 2 * of_gain + by_overlap + own)

    def hybrids(self, a: Index, b: Index, alike: Alike | None = None) -> Array:
        """Covariance of hybrids with hybrids, (a, b); its diagonal is ``variance``."""
        alike = self.alike(a, b) if alike is None else alike

        def of(part: Posterior, correlation: Array) -> Array:
            return correlation * np.outer(part.sd[a], part.sd[b])

        of_gain = of(self.in_context, alike.in_context) + of(self.zero_shot, alike.zero_shot)
        p = self.prior
        by_overlap = p.overlap_sd**2 * (np.outer(self.gain[a], self.gain[b]) + of_gain)
        own = p.disturbance_sd**2 + p.deviation_sd**2 * (a[:, None] == b[None])
        tuned = of(self.fine_tuned, alike.fine_tuned)
        return np.asarray(tuned + (1 - p.overlap_mean) ** 2 * of_gain + by_overlap + own)


@dataclass(frozen=True)
class HybridPosterior:
    """Forecast of ``n`` hybrids; ``overlap`` is (mean, sd) after the joint measurements."""

    overlap: tuple[float, float]
    _law: _Law = field(repr=False)
    _told: Index = field(repr=False)  # (m,) candidates that were measured
    _inverse: Array = field(repr=False)  # (m, m) of their covariance, noise included
    _off: Array = field(repr=False)  # (m,) measured less expected
    _alike: Alike = field(repr=False)  # (n, m) of everyone's parts with those of the measured ones
    _heard: Array = field(repr=False)  # (n, m) covariance of everyone with the measured ones
    _solved: Array = field(repr=False)  # (n, m) the same times the inverse

    def predict(self) -> Posterior:
        """Quality of every hybrid, shape (n,), sampling noise of an evaluation not included."""
        mean = self._law.mean + self._solved @ self._off
        variance = self._law.variance - (self._solved * self._heard).sum(1)
        return Posterior(mean, np.sqrt(np.maximum(variance, 1e-12)), self._law.fine_tuned.link)

    def covariance(self, rows: ArrayLike, columns: ArrayLike) -> Array:
        """Covariance on the link scale of the hybrids ``rows`` with the hybrids ``columns``, (rows, columns)."""
        a, b = np.asarray(rows, dtype=np.intp), np.asarray(columns, dtype=np.intp)
        known = self._law.hybrids(a, self._told) @ self._inverse @ self._law.hybrids(self._told, b)
        return np.asarray(self._law.hybrids(a, b) - known)

    def response(self) -> tuple[Array, Array]:
        """d forecast / d fine_tuned and d forecast / d in_context of each candidate's own parts, each (n,).

        What a measurement of a part would move the hybrid by, less what joint measurements have told of that part.
        """
        tuned = 1 - (self._solved * self._alike.fine_tuned).sum(1)
        shown = (1 - self._law.prior.overlap_mean) * (1 - (self._solved * self._alike.in_context).sum(1))
        return np.asarray(np.clip(tuned, 0.0, 1.0)), np.asarray(shown)

    def probability_hurts(self, *, larger_is_better: bool = True) -> Array:
        """P(the hybrid is worse than the model as it is), shape (n,): adaptation that does harm."""
        law = self._law
        return self._worse(law.zero_shot, law.prior.overlap_mean - 1, self._alike.zero_shot, larger_is_better)

    def probability_demonstrations_hurt(self, *, larger_is_better: bool = True) -> Array:
        """P(the hybrid is worse than fine-tuning alone), shape (n,)."""
        return self._worse(self._law.fine_tuned, 1.0, self._alike.fine_tuned, larger_is_better)

    def _worse(self, part: Posterior, weight: float, alike: Array, larger_is_better: bool) -> Array:
        """P(hybrid is worse than ``part``), which enters the hybrid with ``weight``."""
        heard = weight * alike * np.outer(part.sd, part.sd[self._told])
        solved = heard @ self._inverse
        mean = part.mean + solved @ self._off
        variance = part.sd**2 - (solved * heard).sum(1)
        shared = weight * part.sd**2 - (solved * self._heard).sum(1)
        return _worse(self.predict(), np.stack([mean, variance, shared], -1), larger_is_better)


def probability_hurts(adapted: Posterior, zero_shot: Posterior, *, larger_is_better: bool = True) -> Array:
    """P(adapting makes the model worse), shape (n,), for any adaptation whose forecast is independent of zero-shot's.

    Raises:
        ValueError: different links or shapes.

    >>> p = Posterior(np.array([1.0]), np.array([0.3]), Link.LOGIT)
    >>> probability_hurts(p, p).tolist()
    [0.5]
    """
    if adapted.link is not zero_shot.link or adapted.mean.shape != zero_shot.mean.shape:
        raise ValueError(
            f"adapted is {adapted.mean.shape} on {adapted.link}, zero_shot {zero_shot.mean.shape} on {zero_shot.link}: "
            "give one shape and one link"
        )
    before = np.stack([zero_shot.mean, zero_shot.sd**2, np.zeros_like(zero_shot.sd)], -1)
    return _worse(adapted, before, larger_is_better)


def _worse(adapted: Posterior, before: Array, larger_is_better: bool) -> Array:
    """P(adapted is worse) from (mean, variance, covariance) of what it is compared with, in the last axis."""
    mean, variance, shared = np.moveaxis(before, -1, 0)
    spread = np.sqrt(np.maximum(adapted.sd**2 + variance - 2 * shared, 1e-12))
    below = np.asarray(ndtr((mean - adapted.mean) / spread), dtype=np.float64)
    return below if larger_is_better else 1 - below


def forecast(
    zero_shot: Posterior,
    fine_tuned: Posterior,
    in_context: Posterior,
    *,
    joint: ArrayLike | None = None,
    joint_sd: ArrayLike = 0.0,
    prior: HybridPrior | None = None,
    alike: Callable[[Index, Index], Alike] = _strangers,
) -> HybridPosterior:
    """Posterior of ``n`` hybrids from the forecasts of their parts.

    Args:
        zero_shot: (n,) the model as it is.
        fine_tuned: (n,) with the hybrid's tuning and no demonstrations.
        in_context: (n,) with the hybrid's demonstrations and no tuning; all three on one link.
        joint: (n,) measured hybrids on the metric scale, NaN where not measured; none by default.
        joint_sd: their standard errors on the metric scale, broadcast to (n,).
        prior: beliefs about the overlap.
        alike: correlations of the parts' errors between two lists of candidates, 1 where the part is one and the same; by
            default no two candidates share a part.

    Raises:
        ValueError: parts of different shape or link, or a joint measurement that cannot be.

    Notes:
        Linear around the expected overlap, so that everything is one Gaussian conditioned on the joint measurements. The
        three parts' errors are taken as independent of each other.

    >>> part = lambda z: Posterior(np.array([z]), np.array([0.1]), Link.LOGIT)
    >>> both = forecast(part(-0.5), part(1.0), part(0.5))
    >>> both.predict().median().round(2).tolist(), both.probability_demonstrations_hurt().round(2).tolist()
    ([0.71], [0.57])
    """
    prior = prior or HybridPrior()
    n = zero_shot.mean.shape
    if len(n) != 1 or not zero_shot.mean.shape == fine_tuned.mean.shape == in_context.mean.shape:
        raise ValueError(
            f"zero_shot, fine_tuned and in_context have shapes {n}, {fine_tuned.mean.shape} and {in_context.mean.shape}: "
            "give all three one dimension of equal length"
        )
    if not zero_shot.link is fine_tuned.link is in_context.link:
        raise ValueError(
            f"zero_shot, fine_tuned and in_context are on the links {zero_shot.link}, {fine_tuned.link} and "
            f"{in_context.link}: give one link"
        )
    y, noise = _measured(joint, joint_sd, n[0], zero_shot.link)
    told = np.flatnonzero(np.isfinite(noise))
    law = _Law(prior, zero_shot, fine_tuned, in_context, alike)
    everyone = np.arange(n[0])
    correlation = alike(everyone, told)
    heard = law.hybrids(everyone, told, correlation)
    inverse: Array = np.asarray(np.linalg.inv(heard[told] + np.diag(noise[told])), dtype=np.float64)
    off = (y - law.mean)[told]
    # The overlap hears every joint measurement through what demonstrations bring there.
    gain = -(prior.overlap_sd**2) * law.gain[told]
    overlap = prior.overlap_mean + float(gain @ inverse @ off)
    spread = float(np.sqrt(max(prior.overlap_sd**2 - float(gain @ inverse @ gain), 0.0)))
    return HybridPosterior((overlap, spread), law, told, inverse, off, correlation, heard, heard @ inverse)


def _measured(joint: ArrayLike | None, joint_sd: ArrayLike, n: int, link: Link) -> tuple[Array, Array]:
    """Link-scale joint measurements (0 where none) and their variances (inf where none)."""
    if joint is None:
        return np.zeros(n), np.full(n, np.inf)
    low, high, mend = {
        Link.LOGIT: (0.0, 1.0, "give a share in [0, 1], or NaN where nothing was measured"),
        Link.LOG: (1e-300, np.inf, "give a number above 0, or NaN where nothing was measured"),
        Link.IDENTITY: (-np.inf, np.inf, "give a finite number, or NaN where nothing was measured"),
    }[link]
    y = _inputs.within("joint", _inputs.vector("joint", joint), low, high, mend, missing=True)
    if y.size != n:
        raise ValueError(f"joint has {y.size} entries: give {n}, NaN where nothing was measured")
    try:
        sd = np.broadcast_to(np.asarray(joint_sd, dtype=np.float64), y.shape)
    except ValueError:
        raise ValueError(f"joint_sd does not fit {n} candidates: give one number or one each") from None
    seen = ~np.isnan(y)
    _inputs.within("joint_sd", np.where(seen, sd, 0.0), 0, np.inf, "give a standard error of 0 or more")
    half = np.where(seen, np.minimum(sd / 2, 0.25), 0.0)
    value = np.where(seen, y, 0.5)
    value = np.clip(value, half, 1 - half) if link is Link.LOGIT else value
    inside = np.clip(value, 0.02, 0.98) if link is Link.LOGIT else value
    noise = np.where(seen, np.maximum(np.where(seen, sd, 0.0) * link.slope(inside), 1e-6) ** 2, np.inf)
    return np.where(seen, link.forward(value), 0.0), noise
