"""Forecast a large model from small siblings it shares a family with, item by item: clustering on difficulty (COD).

Source: arXiv 2502.17262. One law over all items fails because hard items are still at chance while easy ones are solved.
COD (1) takes each item's pass rates over the small models as its features, (2) clusters them by mean-shift, (3) fits each
cluster's y(C) = g + (1 - g) exp(-a C^-b - c), (4) keeps the clusters that can be extrapolated (a > 1, b > .1, 0 <= c < 1), and
(5) maps the kept subset's score to the full set's by a monotone spline through (0, 0) and (1, 1).

What the paper does by point fits is a posterior here: the clusters' parameters, the sd by which one model leaves its
family's curve, and the spline beyond the last measured point are all drawn. The paper leaves the unit of C open, though a > 1
depends on it; here C is counted in thousandths of the smallest model's compute, so a > 1 refuses a cluster which that model
has all but solved, and keeps the rest. Without a single cluster to keep, one law over all items takes over, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.laws import _compute_law, _inputs, _mean_shift, _monotone_map
from orrery.laws.posterior import SHARE_MARGIN, Array, Link, Posterior

#: Posterior draws behind every forecast: the 5 % quantile is then off by about 2 % of an sd.
DRAWS = 2000
#: Attempts of an item over all models from which on they may cluster it. Below, clusters are patterns of luck: in simulated
#: families with 8 to 33 they were 4.7 points off where one law over all items was 4.3; from 42 on both 3.7 (docs/decisions/siblings.md).
LEAST_ATTEMPTS = 40
#: Logit sd for each factor e of compute beyond the largest model: what the law's own form is off by there. Without it 70 % of
#: the 90 % intervals held in families that follow item response theory, and 73 % in families of mixed exponents.
_BEYOND_SD = 0.17
#: C is counted in this part of the smallest model's compute.
_UNIT = 1e-3


@dataclass(frozen=True)
class CodPosterior:
    """Forecast of one family on one task.

    Attributes:
        label: (items,) cluster of each item; -1: solved by no model, or like no other item.
        kept: (clusters,) probability that the cluster can be extrapolated; those above one half form the subset.
        subset_share: share of all items in the subset.
        end_to_end: True when no cluster was kept and one law over all items forecasts instead.
        largest: compute of the largest small model.
    """

    label: NDArray[np.int_]
    kept: Array
    subset_share: float
    end_to_end: bool
    largest: float
    _law: _compute_law.ComputeLaw = field(repr=False)
    _share: Array = field(repr=False)  # (groups,) weight of each group of the law in the subset
    _knots: tuple[Array, Array, Array] = field(repr=False)  # subset score, full score, its sd, for each small model
    _unit: float
    _seed: int

    def predict(self, compute: ArrayLike) -> Posterior:
        """Full-set pass rate of the family's models at ``compute``, shape (p,), in the unit ``fit`` was given.

        Raises:
            ValueError: a compute that is not above 0.
        """
        c = _inputs.within("compute", _inputs.vector("compute", compute), 1e-300, np.inf, "give a number above 0")
        y, *_ = self._law.draws(np.log(c / self._unit), DRAWS, self._seed)
        score = np.einsum("prs,r->ps", y, self._share)
        if not self.end_to_end:
            score = _monotone_map.draws(*self._knots, score, self._seed + 1)
        z = Link.LOGIT.forward(np.clip(score, SHARE_MARGIN, 1 - SHARE_MARGIN))
        beyond = _BEYOND_SD * np.maximum(np.log(c / self.largest), 0.0)
        return Posterior(z.mean(1), np.maximum(np.hypot(z.std(1), beyond), 1e-6), Link.LOGIT)


def fit(
    pass_rates: ArrayLike,
    compute: ArrayLike,
    *,
    attempts: ArrayLike = 1,
    chance: float = 0.0,
    seed: int = 0,
) -> CodPosterior:
    """Posterior of a family's score over compute from the per-item results of its small models.

    Args:
        pass_rates: (items, m) share of attempts that passed, in [0, 1]. With fewer than ``LEAST_ATTEMPTS`` behind an item,
            clusters would be patterns of luck, and the items that a model happened to solve would be called rising: one
            law over all items takes their place.
        compute: (m,) training compute of the small models (FLOPs, or parameters if tokens are equal), in any order.
        attempts: attempts behind each rate, broadcast to (items, m).
        chance: pass rate of guessing, in [0, 1).
        seed: of the posterior draws.

    Raises:
        ValueError: a shape or number that cannot be, named with its place and what to give instead.

    Notes:
        A cluster is kept when the filter holds in most draws. Cluster means enter with the sampling variance of attempts and
        the scatter between their items.
    """
    rate, c, tries = _checked(pass_rates, compute, attempts, chance)
    if tries.sum(1).min() < LEAST_ATTEMPTS:
        return fit_end_to_end(pass_rates, compute, attempts=attempts, chance=chance, seed=seed)
    unit = float(c.min()) * _UNIT
    log_compute = np.log(c / unit)
    solved = np.flatnonzero((rate > 0).any(1))
    label = np.full(len(rate), -1)
    label[solved] = _mean_shift.cluster_until_stable(rate[solved])

    clusters = label.max(initial=-1) + 1
    kept = np.zeros(clusters)
    if clusters:
        law = _law(rate, tries, label, clusters, log_compute, chance)
        _, ln_a, b, offset = law.draws(np.zeros(1), DRAWS, seed)
        kept = ((ln_a > 0) & (b > 0.1) & (offset < 1)).mean(1)
    chosen = np.flatnonzero(kept > 0.5)
    if not chosen.size:
        everything = _law(rate, tries, np.zeros(len(rate), dtype=np.int_), 1, log_compute, chance)
        nothing = (np.zeros(0), np.zeros(0), np.zeros(0))
        return CodPosterior(label, kept, 0.0, True, float(c.max()), everything, np.ones(1), nothing, unit, seed)

    # Clusters of the subset, relabelled 0 ... r - 1; everything else -1.
    place = np.full(clusters + 1, -1)
    place[chosen] = np.arange(chosen.size)
    subset = place[label]
    size = np.bincount(subset[subset >= 0], minlength=chosen.size)
    outside = subset < 0
    knots = (rate[~outside].mean(0), rate.mean(0), _spread(rate[outside], tries[outside]) * outside.mean())
    return CodPosterior(
        label,
        kept,
        float((~outside).mean()),
        False,
        float(c.max()),
        law.take(chosen),
        size / size.sum(),
        knots,
        unit,
        seed,
    )


def with_neighbours(
    own: Posterior,
    shared: Posterior,
    rates: tuple[ArrayLike, ArrayLike],
    neighbours: tuple[ArrayLike, ArrayLike],
) -> Posterior:
    """One configuration's score from its few attempts an item (``own``) and from neighbouring attempts (``shared``), (p,).

    Args:
        own, shared: forecasts of ``fit`` at the same compute, from each of the two below.
        rates: pass rates (items, m) of the configuration and the attempts behind them, broadcast.
        neighbours: the same over all configurations that every model was measured in, the one at hand among them: other
            shots, retrievers, seeds. COD averages neighbouring checkpoints likewise.

    Notes:
        Clusters over all attempts are of difficulty, not of luck. Their forecast is moved by how far the configuration lies from
        them on the logit scale, on average over the models. What the models differ in that widens it, so that
        configurations which gain otherwise with size decide nothing: the surer of the two is returned.
    """
    scores, variances = [], []
    for rate, tries in (rates, neighbours):
        r = np.asarray(rate, dtype=np.float64)
        n = len(r)
        score = (r.sum(0) + 0.5) / (n + 1)
        attempts = np.broadcast_to(np.asarray(tries, dtype=np.float64), r.shape).mean(0)
        scores.append(score)
        variances.append(Link.LOGIT.slope(score) ** 2 * score * (1 - score) / (n * attempts))
    gaps, count = Link.LOGIT.forward(scores[0]) - Link.LOGIT.forward(scores[1]), len(scores[0])
    if count < 2:
        return own
    # The configuration is one of the neighbours, which makes a gap a little surer than this.
    sampling = float(np.mean(variances[0] + variances[1]))
    spread = max(float(gaps.var(ddof=1)) - sampling, 0.0)
    sd = np.hypot(shared.sd, np.sqrt(sampling / count + spread * (1 + 1 / count)))
    surer = sd < own.sd
    mean = np.where(surer, shared.mean + gaps.mean(), own.mean)
    return Posterior(mean, np.where(surer, sd, own.sd), Link.LOGIT)


def fit_end_to_end(
    pass_rates: ArrayLike, compute: ArrayLike, *, attempts: ArrayLike = 1, chance: float = 0.0, seed: int = 0
) -> CodPosterior:
    """The same law over all items at once, without clusters: the paper's baseline; arguments as in ``fit``."""
    rate, c, tries = _checked(pass_rates, compute, attempts, chance)
    unit = float(c.min()) * _UNIT
    law = _law(rate, tries, np.zeros(len(rate), dtype=np.int_), 1, np.log(c / unit), chance)
    nothing = (np.zeros(0), np.zeros(0), np.zeros(0))
    return CodPosterior(
        np.full(len(rate), -1), np.zeros(0), 0.0, True, float(c.max()), law, np.ones(1), nothing, unit, seed
    )


def _law(
    rate: Array, tries: Array, label: NDArray[np.int_], groups: int, log_compute: Array, chance: float
) -> _compute_law.ComputeLaw:
    members = [label == g for g in range(groups)]
    score = np.array([rate[m].mean(0) for m in members])
    sd = np.array([_spread(rate[m], tries[m]) for m in members])
    return _compute_law.fit(log_compute, score, sd**2, chance)


def _spread(rate: Array, tries: Array) -> Array:
    """Standard error (m,) of the items' mean rate: their attempts' binomial noise, smoothed by half a pass and a failure.

    The items are the task, not a sample of one, so their differing difficulty is no noise.
    """
    if not len(rate):
        return np.zeros(rate.shape[1])
    n = len(rate)
    mean = (rate.sum(0) + 0.5) / (n + 1)
    within = (rate * (1 - rate) * tries / np.maximum(tries - 1, 1)).mean(0)
    # With one attempt an item is 0 or 1 and rate (1 - rate) vanishes: the group's own rate then bounds its noise.
    binomial = np.where(
        (tries > 1).all(0), np.maximum(within, mean * (1 - mean) / (4 * tries.mean(0))), mean * (1 - mean)
    )
    return np.asarray(np.sqrt(binomial / (n * tries.mean(0))))


def _checked(
    pass_rates: ArrayLike, compute: ArrayLike, attempts: ArrayLike, chance: float
) -> tuple[Array, Array, Array]:
    rate = np.asarray(pass_rates, dtype=np.float64)
    c = _inputs.within("compute", _inputs.vector("compute", compute), 1e-300, np.inf, "give a number above 0")
    if rate.ndim != 2 or rate.shape[1] != c.size or not rate.size:
        raise ValueError(
            f"pass_rates has shape {rate.shape}: give (items, {c.size}), a row each item, a column each model"
        )
    _inputs.within("pass_rates", rate, 0, 1, "give a share of attempts in [0, 1]")
    _inputs.within("chance", np.array([chance]), 0, 1 - 1e-9, "give a share in [0, 1)")
    try:
        tries = np.broadcast_to(np.asarray(attempts, dtype=np.float64), rate.shape)
    except ValueError:
        raise ValueError(
            f"attempts does not fit pass_rates of shape {rate.shape}: give one number or that shape"
        ) from None
    _inputs.within("attempts", tries, 1, np.inf, "give 1 or more attempts")
    order = np.argsort(c, kind="stable")
    return rate[:, order], c[order], tries[:, order]
