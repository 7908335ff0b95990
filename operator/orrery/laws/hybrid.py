"""In-context learning on top of fine-tuning, forecast from its parts and at most a few joint measurements.

On the link scale, for each candidate::

    hybrid = fine_tuned + (1 - overlap) * (in_context - zero_shot) + deviation

``overlap`` is the share of what demonstrations teach that tuning has taught already; above 1 the demonstrations hurt the tuned
model. It is common to the candidates of one call (one model on one task), so one joint measurement speaks for all of them.
No paper in METHODS gives this form; it is the simplest in which both parts can be known and one number is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from orrery.laws import _inputs
from orrery.laws.posterior import Array, Link, Posterior


@dataclass(frozen=True)
class HybridPrior:
    """Beliefs before any joint measurement.

    Demonstrations mostly show format and labels, which tuning teaches too, so four fifths overlap; the sd leaves room for
    both full addition (0) and for demonstrations that hurt a tuned model (1.5). ``deviation_sd`` (link scale) is what one
    candidate does beyond that: about 5 points of accuracy at .5.
    """

    overlap_mean: float = 0.8
    overlap_sd: float = 0.4
    deviation_sd: float = 0.2

    def __post_init__(self) -> None:
        for name in ("overlap_sd", "deviation_sd"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} is {getattr(self, name)}: give a number above 0")
        if not np.isfinite(self.overlap_mean):
            raise ValueError(f"overlap_mean is {self.overlap_mean}: give a finite number")


@dataclass(frozen=True)
class HybridPosterior:
    """Forecast of ``n`` hybrids; ``overlap`` is (mean, sd) after the joint measurements."""

    overlap: tuple[float, float]
    _hybrid: Posterior
    _zero_shot: Array = field(repr=False)  # (n, 3): mean, variance, covariance with the hybrid
    _fine_tuned: Array = field(repr=False)

    def predict(self) -> Posterior:
        """Quality of every hybrid, shape (n,), sampling noise of an evaluation not included."""
        return self._hybrid

    def probability_hurts(self, *, larger_is_better: bool = True) -> Array:
        """P(the hybrid is worse than the model as it is), shape (n,): adaptation that does harm."""
        return _worse(self._hybrid, self._zero_shot, larger_is_better)

    def probability_demonstrations_hurt(self, *, larger_is_better: bool = True) -> Array:
        """P(the hybrid is worse than fine-tuning alone), shape (n,)."""
        return _worse(self._hybrid, self._fine_tuned, larger_is_better)


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
) -> HybridPosterior:
    """Posterior of ``n`` hybrids from the forecasts of their parts.

    Args:
        zero_shot: (n,) the model as it is.
        fine_tuned: (n,) with the hybrid's tuning and no demonstrations.
        in_context: (n,) with the hybrid's demonstrations and no tuning; all three on one link.
        joint: (n,) measured hybrids on the metric scale, NaN where not measured; none by default.
        joint_sd: their standard errors on the metric scale, broadcast to (n,).
        prior: beliefs about the overlap.

    Raises:
        ValueError: parts of different shape or link, or a joint measurement that cannot be.

    Notes:
        The parts' errors are taken as independent of each other and between candidates; the product of an uncertain overlap
        and an uncertain gain enters by its exact variance.

    >>> part = lambda z: Posterior(np.array([z]), np.array([0.1]), Link.LOGIT)
    >>> both = forecast(part(-0.5), part(1.0), part(0.5)).predict()
    >>> bool(1.0 < both.mean[0] < 2.0)
    True
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
    link = zero_shot.link
    y, noise = _measured(joint, joint_sd, n[0], link)
    var_0, var_ft, var_icl = zero_shot.sd**2, fine_tuned.sd**2, in_context.sd**2
    gain = in_context.mean - zero_shot.mean
    gain_var = var_icl + var_0

    # What moves one hybrid alone, given the overlap.
    def own(overlap: float, overlap_var: float) -> Array:
        return var_ft + ((1 - overlap) ** 2 + overlap_var) * gain_var + prior.deviation_sd**2

    # 1. The overlap hears every joint measurement: y = fine_tuned + (1 - overlap) gain + own + noise.
    heard = np.where(np.isfinite(noise), gain**2 / (own(prior.overlap_mean, prior.overlap_sd**2) + noise), 0.0)
    says = np.where(gain != 0, 1 - (y - fine_tuned.mean) / np.where(gain != 0, gain, 1.0), 0.0)
    precision = prior.overlap_sd**-2 + heard.sum()
    overlap = float((prior.overlap_mean / prior.overlap_sd**2 + (heard * says).sum()) / precision)
    overlap_var = float(1 / precision)

    # 2. A measured hybrid also pulls its own forecast; its part of the message to the overlap is not used twice.
    others = precision - heard
    o = (overlap * precision - heard * says) / others
    o_var = 1 / others
    mean = fine_tuned.mean + (1 - o) * gain
    variance = var_ft + ((1 - o) ** 2 + o_var) * gain_var + prior.deviation_sd**2 + o_var * gain**2
    with_0, with_ft = -(1 - o) * var_0, var_ft
    pull = 1 / (variance + noise)
    off = y - mean
    after = Posterior(mean + variance * pull * off, np.sqrt(variance * (1 - variance * pull)), link)

    def other(part: Posterior, part_var: Array, shared: Array) -> Array:
        return np.stack(
            [part.mean + shared * pull * off, part_var - shared**2 * pull, shared * (1 - variance * pull)], -1
        )

    return HybridPosterior(
        (overlap, float(np.sqrt(overlap_var))),
        after,
        other(zero_shot, var_0, with_0),
        other(fine_tuned, var_ft, with_ft),
    )


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
