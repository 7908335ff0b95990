"""Accuracy as a function of in-context demonstrations ("shots"), from zero, one, two or more measured points.

COSMOS (arXiv 2505.01449) fits acc(k) = a - b exp(-ck) to two points: three unknowns, two numbers, no interval, and no
way to see that one demonstration often does worse than none or that many can hurt. Here several forms are averaged,
each in proportion to how well it predicts what was measured (Bayesian model averaging), on the logit scale.

Model, for a curve i and a number of shots k::

    logit score(i, k) = level + gain * rise(k) + dent * bend(k) + deviation(k) + noise

(level, gain, dent) are normal given the form, the shapes of rise and bend lie on a grid, the deviation is a property of
the configuration at that k (measuring k itself reveals it, its neighbours do not; without demonstrations there is none),
and the noise is the binomial one of the evaluation items plus the choice of the demonstrations. How much a curve deviates
is its own property: a small model follows the labels it was shown last from one answer for everything to the next, so
the sd of its deviations lies on a grid from nearly none to several times the gain (docs/benchmarks/shots.md). For scores that are means of shares (token F1), the binomial
noise is an upper bound. Scores on the same items have correlated noise, which is neglected: differences come out a
little too uncertain.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, ndtr

from orrery.laws import _inputs, _shots_learning
from orrery.laws._shots_forms import (
    COMPONENTS,
    DEVIATIONS,
    FORM_OF,
    FORMS,
    RANDOM_DEMONSTRATIONS,
    REFERENCE_SHOTS,
    RETRIEVED_DEMONSTRATIONS,
    ShotsPrior,
    design,
)
from orrery.laws._symmetric import PAIRS, TWICE, inverse, times
from orrery.laws.posterior import SHARE_MARGIN, Array, Link, Posterior

__all__ = [
    "FORMS",
    "RANDOM_DEMONSTRATIONS",
    "REFERENCE_SHOTS",
    "RETRIEVED_DEMONSTRATIONS",
    "ShotsPosterior",
    "ShotsPrior",
    "fit",
    "learn_prior",
]

#: Logits are kept within the range the link itself can represent.
_LOGIT_BOUND = float(-Link.LOGIT.forward(SHARE_MARGIN))

#: Below this chance level a task is open-ended: guessing tells nothing about the level.
OPEN_CHANCE = 0.05

#: Forecasts of a fit, and designs, of at most so many numbers are kept: a plan with many models asks for the same ones again
#: and again.
_REMEMBERED_SIZE = 64


@dataclass(frozen=True)
class _Beliefs:
    """Normal prior of (level, gain) for each curve: the population's, or what the rest of its group leaves open."""

    level_mean: Array  # (n,)
    level_sd: Array  # (n,)
    gain_shift: Array  # (n,) added to the form's mean gain
    gain_scale: Array  # (n,) factor on the form's sd of the gain


@dataclass(frozen=True)
class ShotsPosterior:
    """Posterior of ``n`` shot curves; ``weights[i, f]`` is the probability that curve i has the form ``FORMS[f]``."""

    weights: Array
    prior: ShotsPrior
    _shots: Array  # (k,) distinct measured shots
    _score: Array  # (n, k) pooled logit, 0 where not measured
    _noise: Array  # (n, k) variance of it, inf where not measured
    _share: Array = field(repr=False)  # (t, n) probability of each deviation sd
    _within: Array = field(repr=False)  # (t, n, c) component weights given the deviation sd
    _mean: Array = field(repr=False)  # (t, n, c, 3)
    _cov: Array = field(repr=False)  # (t, n, c, 6)
    _predicted: dict[tuple[bytes, int | None], Posterior] = field(default_factory=dict, repr=False, compare=False)

    def predict(self, shots: ArrayLike, *, items: int | None = None) -> Posterior:
        """Accuracy at each number of shots, shape (n, p), on the logit scale.

        Without ``items``: the configuration's own accuracy, as an endless evaluation would show it. With ``items``: the
        score one evaluation on that many items will show (wider: sampling noise, choice of the demonstrations).

        Raises:
            ValueError: negative or non-finite shots; items below 1.
        """
        k = _inputs.within("shots", _inputs.vector("shots", shots), 0, np.inf, "give 0 or more demonstrations")
        asked = k.tobytes(), items
        if (known := self._predicted.get(asked)) is not None:
            return known
        found = self._predict(k, items)
        if found.mean.size <= _REMEMBERED_SIZE:
            self._predicted[asked] = found
        return found

    def _predict(self, k: Array, items: int | None) -> Posterior:
        first_of, second_of = _carriers_of(k.tobytes()) if k.size <= _REMEMBERED_SIZE else _carriers(k)
        n = len(self.weights)
        mean = np.zeros((n, k.size))
        square = np.zeros((n, k.size))
        for t, deviation in enumerate(DEVIATIONS):
            w = self._within[t][..., None]
            m, v = self._mean[t], self._cov[t]
            raw = np.stack([v[..., j] + m[..., a] * m[..., b] for j, (a, b) in enumerate(PAIRS)], -1)
            curve = (w * m).reshape(n, -1) @ first_of
            spread = np.maximum((w * raw).reshape(n, -1) @ second_of - curve**2, 0.0)
            pull, left, score = self._deviation_at(k, deviation)
            centre = pull * score + (1 - pull) * curve
            mean += self._share[t][:, None] * centre
            square += self._share[t][:, None] * ((1 - pull) ** 2 * spread + left + centre**2)
        variance = np.maximum(square - mean**2, 1e-12)
        mean = np.clip(mean, -_LOGIT_BOUND, _LOGIT_BOUND)
        if items is not None:
            if items < 1:
                raise ValueError(f"items is {items}: give the number of evaluation items, 1 or more")
            p = Link.LOGIT.inverse(mean)
            variance = variance + 1 / (items * p * (1 - p) + 0.5) + (k > 0) * self.prior.demonstration_sd**2
        return Posterior(mean, np.sqrt(variance), Link.LOGIT)

    def probability_hurts(self, shots: float = 1.0) -> Array:
        """P(accuracy at ``shots`` < accuracy without demonstrations), shape (n,)."""
        k = _inputs.within("shots", np.array([0.0, shots]), 0, np.inf, "give 0 or more demonstrations")
        if shots == 0:
            return np.zeros(len(self.weights))
        basis = design(k)
        out = np.zeros(len(self.weights))
        for t, deviation in enumerate(DEVIATIONS):
            pull, left, score = self._deviation_at(k, deviation)
            keep = 1 - pull
            way = keep[:, None, 1, None] * basis[None, :, 1] - keep[:, None, 0, None] * basis[None, :, 0]
            centre = (way * self._mean[t]).sum(-1) + (pull[:, 1] * score[:, 1] - pull[:, 0] * score[:, 0])[:, None]
            var = sum(TWICE[j] * way[..., a] * way[..., b] * self._cov[t][..., j] for j, (a, b) in enumerate(PAIRS))
            sd = np.sqrt(np.maximum(var + left.sum(1)[:, None], 1e-12))
            out += self._share[t] * (self._within[t] * ndtr(-centre / sd)).sum(1)
        # Weights add up to 1 within rounding only.
        return np.clip(out, 0.0, 1.0)

    def _deviation_at(self, k: Array, deviation: float) -> tuple[Array, Array, Array]:
        """How far the score measured at k itself (if any) pulls the forecast there: (pull, variance left, score)."""
        score = np.zeros((len(self.weights), k.size))
        noise = np.full(score.shape, np.inf)
        for j, shots in enumerate(self._shots):
            here = k == shots
            score[:, here] = self._score[:, j, None]
            noise[:, here] = self._noise[:, j, None]
        own = np.broadcast_to((k > 0) * deviation**2, noise.shape)
        pull = own / np.where(own > 0, own + noise, 1.0)
        return pull, own * (1 - pull), score


def _carriers(k: Array) -> tuple[Array, Array]:
    """What turns first and second moments of all components' coefficients into those of their curves at ``k``."""
    basis = design(k)
    second = np.stack([basis[..., a] * basis[..., b] for a, b in PAIRS], -1) * TWICE
    first_of = basis.transpose(0, 2, 1).reshape(3 * len(COMPONENTS), k.size)
    return first_of, second.transpose(0, 2, 1).reshape(6 * len(COMPONENTS), k.size)


@lru_cache(maxsize=64)
def _carriers_of(k: bytes) -> tuple[Array, Array]:
    return _carriers(np.frombuffer(k))


def fit(
    shots: ArrayLike,
    scores: ArrayLike,
    *,
    items: ArrayLike,
    chance: ArrayLike,
    prior: ShotsPrior | None = None,
    group: ArrayLike | None = None,
) -> ShotsPosterior:
    """Posterior of ``n`` shot curves from ``m`` measured columns; any score may be missing, even all of a curve.

    Args:
        shots: (m,) demonstrations of each column; repeats (other seeds) are pooled.
        scores: (n, m) shares in [0, 1]; NaN where not measured.
        items: evaluation items behind each score, broadcast to (n, m); the sampling noise follows from them.
        chance: (n,) or one number: the share of right answers by guessing, 0 for free generation.
        prior: beliefs before measuring; by default the documented numbers of ``ShotsPrior``.
        group: (n,) integers; curves of one group (one model on one task, other retrievers) share part of their level
            and gain, so a measured neighbour narrows an unmeasured curve. By default every curve stands alone.

    Raises:
        ValueError: a shape or a number no curve can have, named with its place and what to give instead.

    Notes:
        The evidence of each (component, deviation sd) is exact, so equal inputs give equal bytes and there is no seed.

    >>> post = fit([0, 1], [[0.36, 0.24]], items=200, chance=1 / 7)
    >>> [round(float(bound[0, 0]), 1) for bound in post.predict([8]).interval(0.9)]
    [0.1, 0.7]
    >>> bool(post.probability_hurts(1)[0] > 0.9)
    True
    """
    prior = prior or ShotsPrior()
    k, score, noise, at_chance = _pool(shots, scores, items, chance, prior)
    beliefs = _population(at_chance, prior)
    post = _posterior(k, score, noise, beliefs, prior)
    if group is None:
        return post
    members = np.asarray(group)
    if members.shape != (len(score),) or members.dtype.kind not in "iu":
        raise ValueError(f"group has shape {members.shape} and type {members.dtype}: give {len(score)} integers")
    beliefs = _after_neighbours(post, beliefs, members)
    del post  # The first pass holds as much as the second: ten thousand curves would take half a gigabyte.
    return _posterior(k, score, noise, beliefs, prior)


def learn_prior(
    shots: ArrayLike,
    scores: ArrayLike,
    *,
    items: ArrayLike,
    chance: ArrayLike,
    start: ShotsPrior | None = None,
    rounds: int = 12,
) -> ShotsPrior:
    """The prior that measured curves suggest: empirical Bayes by expectation-maximisation, arguments as in ``fit``.

    ``start`` counts as four further curves, so few curves move it and none replaces it. Whoever scores a forecast on a
    task leaves that task's curves out here.
    """
    start = start or ShotsPrior()
    prior = start
    for _ in range(rounds):
        k, score, noise, at_chance = _pool(shots, scores, items, chance, prior)
        post = _posterior(k, score, noise, _population(at_chance, prior), prior)
        level = Link.LOGIT.forward(np.maximum(at_chance, OPEN_CHANCE))
        prior = _shots_learning.maximise(start, level, post._share[..., None] * post._within, post._mean, post._cov)
    return prior


def _pool(
    shots: ArrayLike, scores: ArrayLike, items: ArrayLike, chance: ArrayLike, prior: ShotsPrior
) -> tuple[Array, Array, Array, Array]:
    """Checked input as (distinct shots, logits, their variances, chance); a missing score has infinite variance."""
    k = _inputs.within("shots", _inputs.vector("shots", shots), 0, np.inf, "give 0 or more demonstrations")
    y = np.asarray(scores, dtype=np.float64)
    if y.ndim != 2 or y.shape[1] != k.size:
        raise ValueError(f"scores has shape {y.shape}: give (curves, {k.size}), one column for each number of shots")
    _inputs.within("scores", y, 0, 1, "give a share in [0, 1], or NaN where nothing was measured", missing=True)
    try:
        count = np.broadcast_to(np.asarray(items, dtype=np.float64), y.shape)
        guess = np.broadcast_to(np.asarray(chance, dtype=np.float64), y.shape[:1])
    except ValueError:
        raise ValueError(
            f"items or chance does not fit scores of shape {y.shape}: give one number or that shape"
        ) from None
    _inputs.within("chance", guess, 0, 1 - 1e-9, "give a share in [0, 1)")
    seen = ~np.isnan(y)
    _inputs.within("items", np.where(seen, count, 1), 1, np.inf, "give the number of evaluation items, 1 or more")

    # Empirical logit with half an item on each side (Haldane, Anscombe): finite and little biased at 0 and at 1.
    right = np.where(seen, y * count, 0.0) + 0.5
    wrong = np.where(seen, (1 - y) * count, 0.0) + 0.5
    z = np.clip(np.log(right / wrong), -_LOGIT_BOUND, _LOGIT_BOUND)
    precision = np.where(seen, 1 / (1 / right + 1 / wrong + (k > 0) * prior.demonstration_sd**2), 0.0)

    distinct, column = np.unique(k, return_inverse=True)
    pick = (column[:, None] == np.arange(distinct.size)).astype(np.float64)
    total = precision @ pick
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = np.where(total > 0, (precision * z) @ pick / total, 0.0)
        return distinct, pooled, np.where(total > 0, 1 / total, np.inf), guess


def _population(chance: Array, prior: ShotsPrior) -> _Beliefs:
    level = Link.LOGIT.forward(np.maximum(chance, OPEN_CHANCE)) + prior.level_offset
    sd = np.where(chance < OPEN_CHANCE, prior.level_sd_open, prior.level_sd)
    return _Beliefs(level, sd, np.zeros_like(level), np.ones_like(level))


def _posterior(k: Array, score: Array, noise: Array, beliefs: _Beliefs, prior: ShotsPrior) -> ShotsPosterior:
    n, components = len(score), len(COMPONENTS)
    basis = design(k)
    crossed = np.stack([basis[..., a] * basis[..., b] for a, b in PAIRS], 1).reshape(components * 6, k.size).T
    straight = basis.transpose(0, 2, 1).reshape(components * 3, k.size).T
    prior_mean, prior_precision, log_det = _prior_arrays(beliefs, prior)
    with np.errstate(divide="ignore"):
        log_component = np.log(np.asarray(prior.component_weights))
        log_deviation = np.log(np.asarray(prior.deviation_weights))

    shape = (DEVIATIONS.size, n, components)
    evidence, mean, cov = np.empty(shape), np.empty((*shape, 3)), np.empty((*shape, 6))
    for t, deviation in enumerate(DEVIATIONS):
        w = 1 / (noise + (k > 0) * deviation**2)
        gram = (w @ crossed).reshape(n, components, 6)
        hit = ((w * score) @ straight).reshape(n, components, 3)
        pull = hit - times(gram, prior_mean)
        misfit = (w * score**2).sum(1)[:, None] - ((hit + pull) * prior_mean).sum(-1)
        cov[t], log_det_after = inverse(prior_precision + gram)
        step = times(cov[t], pull)
        mean[t] = prior_mean + step
        log_noise = np.log(np.where(w > 0, w, 1.0)).sum(1)
        fit_term = misfit - (pull * step).sum(-1)
        evidence[t] = 0.5 * (log_noise[:, None] + log_det - log_det_after - fit_term)
    joint = evidence + log_component + log_deviation[:, None, None]
    by_deviation = logsumexp(joint, axis=2)
    share = np.exp(by_deviation - logsumexp(by_deviation, axis=0))
    with np.errstate(invalid="ignore"):
        within = np.where(np.isfinite(by_deviation)[..., None], np.exp(joint - by_deviation[..., None]), 1 / components)
    by_component = (share[..., None] * within).sum(0)
    weights = np.stack([by_component[:, f == FORM_OF].sum(1) for f in range(len(FORMS))], 1)
    return ShotsPosterior(weights, prior, k, score, noise, share, within, mean, cov)


def _prior_arrays(beliefs: _Beliefs, prior: ShotsPrior) -> tuple[Array, Array, Array]:
    """Mean (n, c, 3), precision (n, c, 6) and log determinant of the precision (n, c) of the coefficients."""
    gain_mean = np.asarray(prior.gain_mean)[FORM_OF] + np.where(FORM_OF > 0, beliefs.gain_shift[:, None], 0.0)
    gain_sd = np.asarray(prior.gain_sd)[FORM_OF] * np.where(FORM_OF > 0, beliefs.gain_scale[:, None], 1.0)
    dent_mean, dent_sd = np.asarray(prior.dent_mean)[FORM_OF], np.asarray(prior.dent_sd)[FORM_OF]
    level_sd = np.broadcast_to(beliefs.level_sd[:, None], gain_sd.shape)
    rho = np.where(FORM_OF > 0, prior.level_gain_correlation, 0.0)
    left = 1 - rho**2
    zero = np.zeros_like(gain_sd)
    mean = np.stack([zero + beliefs.level_mean[:, None], gain_mean, zero + dent_mean], -1)
    precision = np.stack(
        [
            1 / (left * level_sd**2),
            -rho / (left * level_sd * gain_sd),
            zero,
            1 / (left * gain_sd**2),
            zero,
            zero + 1 / dent_sd**2,
        ],
        -1,
    )
    return mean, precision, -np.log(left) - 2 * np.log(level_sd * gain_sd * dent_sd)


def _after_neighbours(post: ShotsPosterior, beliefs: _Beliefs, group: NDArray[np.int_]) -> _Beliefs:
    """Each curve's prior once the other curves of its group have been heard (one round of Gaussian messages).

    A curve's own data never reaches its own prior: the messages are summed over the rest of the group only.
    """
    _, label = np.unique(group, return_inverse=True)
    w = post._share[..., None] * post._within
    level_mean, level_var = _moments(w, post._mean[..., 0], post._cov[..., 0])
    gain_mean, gain_var = _moments(w, post._mean[..., 1], post._cov[..., 3])
    p = post.prior
    forms = np.bincount(FORM_OF, np.asarray(p.component_weights), minlength=len(FORMS))
    typical_mean = float(forms @ np.asarray(p.gain_mean))
    typical_var = float(forms @ (np.asarray(p.gain_sd) ** 2 + (np.asarray(p.gain_mean) - typical_mean) ** 2))

    level_shift, level_left = _heard(
        level_mean - beliefs.level_mean, level_var, beliefs.level_sd**2, label, p.group_share
    )
    gain_shift, gain_left = _heard(
        gain_mean - typical_mean, gain_var, np.full(len(label), typical_var), label, p.group_share
    )
    return _Beliefs(
        beliefs.level_mean + level_shift, beliefs.level_sd * np.sqrt(level_left), gain_shift, np.sqrt(gain_left)
    )


def _moments(weight: Array, mean: Array, var: Array) -> tuple[Array, Array]:
    centre = (weight * mean).sum((0, 2))
    return centre, (weight * (var + mean**2)).sum((0, 2)) - centre**2


def _heard(shift: Array, var: Array, before: Array, label: NDArray[np.int_], shared: float) -> tuple[Array, Array]:
    """Each curve's expected deviation given the rest of its group, and the share of prior variance that is left."""
    precision = np.maximum(1 / np.maximum(var, 1e-9) - 1 / before, 0.0)
    # What the curve's data alone say: posterior divided by prior. Below a thousandth of the prior's precision: nothing.
    tells = precision > 1e-3 / before
    says = np.where(tells, shift / np.maximum(var, 1e-9) / np.where(tells, precision, 1.0), 0.0)
    weight = np.where(tells, 1 / (1 / np.where(tells, precision, 1.0) + (1 - shared) * before), 0.0)
    others = np.bincount(label, weight)[label] - weight
    toward = np.bincount(label, weight * says)[label] - weight * says
    common = shared * before
    if shared == 0:
        return np.zeros_like(shift), np.ones_like(shift)
    after = 1 / (1 / common + np.maximum(others, 0.0))
    return after * toward, (after + (1 - shared) * before) / before
