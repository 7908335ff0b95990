"""Quality of fine-tuned configurations at any training size: draws of a nonlinear law, and a Gaussian residual.

Link-scale score of configuration c trained on n examples::

    score(c, n) = start + (curve(n) - start) * learned(c, n) - harm(c) + effect(c, n) + noise

``curve`` is the rectified scaling law (arXiv 2402.02314), started by the zero-shot score when there is one. ``learned``
says how much of it the training reaches: 1 - exp(-(lr * steps / need)^.8), since a small learning rate over few steps
leaves the model as it was. ``harm`` grows with the learning rate past what the model bears. The law's unknowns are
draws, weighted by the marginal likelihood of what was measured; ``effect`` is a Gaussian process over log learning rate,
log epochs, log rank and log n, so one configuration informs its neighbours and a small size the full one. Given a draw
all is linear algebra, and a mixture of normals is summarised by its moments.

The proxy (COSMOS, arXiv 2505.01449: a light head on frozen embeddings for each configuration) enters as in
``laws.affine``: scale, shift and deviation have that law's prior, joined with the curves through the same algebra.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from orrery.laws import rectified
from orrery.laws.affine import AffinePrior
from orrery.laws.posterior import Array, Link

#: Draws of the law. Fewer leave the posterior ragged after four or five measurements; more cost memory at 10^4 points.
DRAWS = 512
_BLOCK = 4096

# Priors by assumption, wide; docs/concepts/planning.md tells what the measured grids said about them.
_BATCH, _LEAST_STEPS = 16.0, 16.0  #: examples a step and fewest steps, as the measures train
_LEARNING_POWER = 0.8
_NEED_SD = 1.3  # ln(lr * steps)
_HARM_SD = 1.0  # ln lr
_HARM = 0.4  # logit lost for every factor e of learning rate beyond the limit, about 3 times this
_EFFECT_SD = 0.30  # of a configuration, logit
_OWN_SD = 0.10  # of a configuration at one size, seen by no neighbour
_LENGTHS = (1.2, 1.0, 2.5)  # ln lr, ln epochs, ln rank: a factor e^length halves what is shared, about
_SIZE_LENGTH = 1.5  # ln n
_SIZE_SHARED = 0.5  # share of an effect that is the same at every size
_SEED_SD = 0.12  # another seed, at many examples
_SEED_SD_SMALL = 0.35  # at few


@dataclass(frozen=True)
class Scale:
    """Where a kind of training works: learning rates differ a hundredfold between adapters and full weights."""

    need: float  #: median of learning rate x steps that learns most of what can be learned
    limit: float  #: median learning rate that begins to harm


@dataclass(frozen=True)
class Points:
    """p configurations at sizes, as natural logs; ``proxy`` holds link-scale proxy scores (NaN: none)."""

    learning_rate: Array
    epochs: Array
    rank: Array
    examples: Array
    proxy: Array

    def __len__(self) -> int:
        return len(self.examples)

    def take(self, index: NDArray[np.intp]) -> Points:
        """The selected points."""
        return Points(
            self.learning_rate[index], self.epochs[index], self.rank[index], self.examples[index], self.proxy[index]
        )

    @staticmethod
    def of(
        learning_rate: Sequence[float],
        epochs: Sequence[float],
        rank: Sequence[float],
        examples: Sequence[float],
        proxy: Sequence[float] | None = None,
    ) -> Points:
        """Points from plain numbers."""
        rate, passes, width = (
            np.log(np.maximum(np.asarray(v, dtype=np.float64), 1e-12)) for v in (learning_rate, epochs, rank)
        )
        sizes = np.log(np.maximum(np.asarray(examples, dtype=np.float64), 1.0))
        none = np.full(len(sizes), np.nan)
        known = none if proxy is None else np.asarray(proxy, dtype=np.float64)
        return Points(rate, passes, width, sizes, known)


def passes(examples: Array, epochs: Array) -> Array:
    """Passes over the examples: more than ``epochs`` where they are too few for a schedule of ``_LEAST_STEPS``."""
    return np.maximum(epochs, np.ceil(_LEAST_STEPS / np.ceil(examples / _batch(examples, epochs))))


def update_steps(examples: Array, epochs: Array) -> Array:
    """Optimizer updates of a training, as the measures make them.

    >>> update_steps(np.array([4.0, 256.0]), np.array([1.0, 3.0])).tolist()
    [16.0, 48.0]
    """
    return passes(examples, epochs) * np.ceil(examples / _batch(examples, epochs))


def _batch(examples: Array, epochs: Array) -> Array:
    return np.maximum(np.minimum(np.minimum(_BATCH, examples), np.floor(examples * epochs / _LEAST_STEPS)), 1.0)


def seed_sd(points: Points) -> Array:
    """Link-scale sd of a score between seeds: training on few examples is a lottery."""
    n = np.exp(points.examples)
    return np.sqrt(_SEED_SD**2 + _SEED_SD_SMALL**2 * 16.0 / (16.0 + n))


@dataclass(frozen=True)
class _Draws:
    """Parameters of the law, (k, 4), and of learning and harm, (k,); start (k,) is the untuned score."""

    law: Array
    start: Array
    need: Array
    limit: Array
    log_weight: Array
    scale: Array  #: slope and level of the proxy map, standard normal units
    shift: Array


@lru_cache(maxsize=256)
def _draw(scale: Scale, zero_shot: tuple[float, float] | None, link: Link, chance: float, seed: int) -> _Draws:
    """The law's unknowns before any tuned score; many groups of a plan share them."""
    value, sd = zero_shot if zero_shot is not None else (np.nan, 0.0)
    score = float(link.inverse(value)) if np.isfinite(value) else np.nan
    fit = rectified.fit([0.0], [[score]], link=link, noise_sd=[[sd]], chance=chance, draws=DRAWS, seed=seed)
    law = fit.draws[0]
    with np.errstate(divide="ignore"):
        log_weight = np.log(fit.weights[0])
    start = rectified.curve(law, np.array([0.0]), link, chance)[:, 0]
    if zero_shot is not None:
        start = np.full(len(law), value)
    unit = np.random.default_rng(seed + 1).standard_normal((4, len(law)))
    need, limit = np.log(scale.need) + _NEED_SD * unit[0], np.log(scale.limit) + _HARM_SD * unit[1]
    return _Draws(law, start, need, limit, log_weight, unit[2], unit[3])


class TuningCurves:
    """The joint distribution of scores of one model and kind of training, given what was measured.

    Args:
        scale: where this kind of training works.
        zero_shot: link-scale score and error without tuning, if measured.
        points, values, noise: the measured configurations (m), their link-scale scores and sampling errors.
        link, chance: of the metric.
        proxy_level: mean link-scale proxy of the group's configurations, if there are proxies.
    """

    def __init__(
        self,
        scale: Scale,
        zero_shot: tuple[float, float] | None,
        points: Points,
        values: Array,
        noise: Array,
        link: Link,
        chance: float,
        proxy_level: float | None = None,
        seed: int = 0,
    ) -> None:
        self.link, self.chance, self.points = link, chance, points
        self.sign = -1.0 if link is Link.LOG else 1.0
        self.proxy_level = proxy_level
        self.draws = _draw(scale, zero_shot, link, chance, seed)
        self.noise = noise**2 + seed_sd(points) ** 2
        gram = self._effect(points, points) + np.diag(self.noise)
        self.inverse = np.linalg.inv(gram) if len(points) else np.zeros((0, 0))
        self.off = values[None] - self._law(points)  # (k, m)
        misfit = np.einsum("km,mn,kn->k", self.off, self.inverse, self.off)
        log_weight = self.draws.log_weight - 0.5 * misfit
        weight = np.exp(log_weight - log_weight.max())
        self.weight = weight / weight.sum()

    def predict(self, targets: Points) -> tuple[Array, Array]:
        """Mean and standard deviation of the score at each target, without sampling or seed noise."""
        mean, variance = np.empty(len(targets)), np.empty(len(targets))
        for i in range(0, len(targets), _BLOCK):
            part = targets.take(np.arange(i, min(i + _BLOCK, len(targets))))
            means, cross = self._means(part)
            mean[i : i + _BLOCK] = self.weight @ means
            own = self._own_variance(part) - np.einsum("pm,mn,pn->p", cross, self.inverse, cross)
            spread = np.maximum(self.weight @ means**2 - mean[i : i + _BLOCK] ** 2, 0.0)
            variance[i : i + _BLOCK] = np.maximum(own, 1e-9) + spread
        return mean, np.sqrt(variance)

    def tell(self, targets: Points, asked: Points, sampling_sd: Array) -> tuple[Array, Array]:
        """How far each target's mean would move (asked, targets) if ``asked`` were measured, and the means expected."""
        if not len(asked):
            return np.zeros((0, len(targets))), np.zeros(0)
        asked_means, asked_cross = self._means(asked)
        mean = self.weight @ asked_means
        pull = (asked_means - mean) * self.weight[:, None]  # (k, a)
        variance = self._own_variance(asked) - np.einsum("pm,mn,pn->p", asked_cross, self.inverse, asked_cross)
        variance = np.maximum(variance, 1e-9) + (pull * (asked_means - mean)).sum(0)
        total = np.sqrt(variance + sampling_sd**2 + seed_sd(asked) ** 2)
        shifts = np.empty((len(asked), len(targets)))
        for i in range(0, len(targets), _BLOCK):
            part = targets.take(np.arange(i, min(i + _BLOCK, len(targets))))
            means, cross = self._means(part)
            linear = self._effect(asked, part) - asked_cross @ self.inverse @ cross.T
            shifts[:, i : i + _BLOCK] = (linear + pull.T @ (means - self.weight @ means)) / total[:, None]
        return shifts, mean

    def probability_hurts(self, targets: Points) -> Array:
        """P(score < the untuned model's), for each target; from the draws alone."""
        means, _ = self._means(targets)
        worse = self.sign * (means - self.draws.start[:, None]) < 0
        return np.asarray(self.weight @ worse)

    def _law(self, points: Points) -> Array:
        """The law's score of each draw at each point, (k, p)."""
        # Rank and proxy leave the law alone: its costly part is computed once for each rate, epochs and size.
        rows, place = np.unique(
            np.stack([points.learning_rate, points.epochs, points.examples], axis=1), axis=0, return_inverse=True
        )
        score = self._learned(rows[:, 0], rows[:, 1], rows[:, 2])[:, place.reshape(-1)]
        return score if self.proxy_level is None else self._with_proxy(score, points)

    def _learned(self, learning_rate: Array, epochs: Array, examples: Array) -> Array:
        d = self.draws
        sizes, place = np.unique(examples, return_inverse=True)
        reach = rectified.curve(d.law, np.exp(sizes), self.link, self.chance)[:, place.reshape(-1)]
        steps = np.log(update_steps(np.exp(examples), np.exp(epochs)))
        work = _LEARNING_POWER * (learning_rate + steps - d.need[:, None])
        learned = -np.expm1(-np.exp(np.clip(work, -30, 30)))
        excess = learning_rate - d.limit[:, None]
        harm = _HARM * np.logaddexp(0.0, 3.0 * excess)
        start = d.start[:, None]
        return np.asarray(start + (reach - start) * learned - self.sign * harm)

    def _with_proxy(self, score: Array, points: Points) -> Array:
        """Joins the law with the affine map of the proxy: two normal opinions on the same score, by precision.

        The map's shift and scale are drawn with the law's parameters, so that real measurements weigh both.
        """
        prior, d = AffinePrior(), self.draws
        level = 0.0 if self.proxy_level is None else self.proxy_level
        known = np.isfinite(points.proxy)
        offset = np.where(known, points.proxy - level, 0.0)
        mapped = level + prior.shift_mean + prior.shift_sd * d.shift[:, None]
        mapped = mapped + (prior.scale_mean + prior.scale_sd * d.scale[:, None]) * offset
        # The proxy is trained on the full set: the further below it a point lies, the less it says there.
        trust = np.where(known, 0.5, 0.0)
        return score + trust * (mapped - score)

    def _effect(self, a: Points, b: Points) -> Array:
        """Covariance of the configurations' effects, (a, b)."""
        distance = sum(
            ((getattr(a, f)[:, None] - getattr(b, f)[None]) / length) ** 2
            for f, length in zip(("learning_rate", "epochs", "rank"), _LENGTHS, strict=True)
        )
        size = (a.examples[:, None] - b.examples[None]) / _SIZE_LENGTH
        over_size = _SIZE_SHARED + (1 - _SIZE_SHARED) * np.exp(-0.5 * size**2)
        own = (np.asarray(distance) < 1e-12) & (np.abs(size) < 1e-9)
        return np.asarray(_EFFECT_SD**2 * np.exp(-0.5 * np.asarray(distance)) * over_size + _OWN_SD**2 * own)

    @staticmethod
    def _own_variance(points: Points) -> Array:
        return np.full(len(points), _EFFECT_SD**2 + _OWN_SD**2)

    def _means(self, points: Points) -> tuple[Array, Array]:
        """Conditional mean of each draw, (k, p), and the covariance with what was measured, (p, m)."""
        cross = self._effect(points, self.points)
        return self._law(points) + self.off @ (self.inverse @ cross.T), cross
