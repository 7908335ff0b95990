"""Quality of fine-tuned configurations at any training size: draws of a nonlinear law, and a Gaussian residual.

Link-scale score of configuration c trained on n examples::

    score(c, n) = start + (curve(n * passes^p) - start) * learned(c, n) - harm(c) + effect(c, n) + noise

``curve`` is the rectified scaling law (arXiv 2402.02314), started by the zero-shot score when there is one; going through
the examples again counts as a power p of new ones (up to four epochs nearly as much: Muennighoff et al. 2023, arXiv
2305.16264). ``learned`` says how much of it the training reaches: 1 - exp(-(lr * steps * rank^q / need)^.8), since a small
learning rate over few steps leaves the model as it was, and wider adapters move further. ``harm`` grows with the learning rate past what the model bears. The law's unknowns are
draws, weighted by the marginal likelihood of what was measured; ``effect`` is a Gaussian process over log learning rate,
log epochs, log rank and log n, so one configuration informs its neighbours and a small size the full one. Kinds of
training (LoRA, QLoRA, all weights) share the law and most of the effects, their learning rates counted from where each
kind's begin to harm: what LoRA learns from 64 examples says much about full fine-tuning. Given a draw all is linear
algebra, and a mixture of normals is summarised by its moments.

The proxy (COSMOS, arXiv 2505.01449: a light head on frozen embeddings) is one more kind of training, always fully learned. Its
affine calibration is joint with all of this: proxy = start + scale * (curve - start) + shift, with a posterior of scale (by the draws)
and shift (by the Gaussian process) that real measurements narrow. On all examples it is
close to what long training reaches (measured: .96 for .945, .935 for .945, .64 for .69); on few it runs ahead of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from orrery.costs.flops import Training
from orrery.laws import rectified
from orrery.laws.posterior import Array, Link
from orrery.laws.priors import shipped_prior
from orrery.laws.tuning_prior import ASSUMED, TuningPrior

#: Draws of the law. Fewer leave the posterior ragged after four or five measurements; more cost memory at 10^4 points.
DRAWS = 512
_BLOCK = 4096

# Priors by assumption, wide; those that measured trainings can tell are learned (``laws.tuning_prior``).
_BATCH, _LEAST_STEPS = 16.0, 16.0  #: examples a step and fewest steps, as the measures train
_LEARNING_POWER = 0.8
_HARM_SD = 1.0  # ln lr
_HARM = 0.4  # logit lost for every factor e of learning rate beyond the limit, about 3 times this
_HEAD_SHARE = (0.6, 1.0)  # of a curve that a head on frozen features reaches already
_EPOCH_POWER, _EPOCH_POWER_HEAD = (0.4, 1.0), (0.0, 0.6)  # p; less where a fitted head has seen the examples already
_RANK_POWER = (0.3, 1.1)  # q
_USUAL_RANK = 8.0
_LENGTHS = (1.2, 1.0, 2.5)  # ln lr, ln epochs, ln rank: a factor e^length halves what is shared, about
_SIZE_LENGTH = 1.5  # ln n
_SIZE_SHARED = 0.75  # share of an effect that is the same at every size
#: Link-scale score for each unit of early ln train loss above like configurations, and how far models and tasks differ.
EARLY_SLOPE, EARLY_SLOPE_SD = -0.2, 0.4  # docs/decisions/early-signals.md
_PROXY_SCALE_SD = 0.1  # ln; docs/decisions/predictors.md
_SEED_SD = 0.08  # another seed, at many examples
_SEED_SD_SMALL = 0.25  # at few

#: How much of its effects a kind of training shares with those named before it (a nested order keeps this a covariance).
_ALIKE = {Training.ADAPTER: 1.0, Training.QUANTIZED_ADAPTER: 0.95, Training.FULL: 0.8, None: 0.65}
_KINDS: tuple[Training | None, ...] = (*Training, None)  #: None: the proxy
_SIMILARITY = np.array([[1.0 if a is b else min(_ALIKE[a], _ALIKE[b]) for b in _KINDS] for a in _KINDS])
_PROXY = _KINDS.index(None)


def offsets(prior: TuningPrior) -> Array:
    """Mean effect of each kind, (kinds,)."""
    means = {Training.QUANTIZED_ADAPTER: prior.quantized_mean, Training.FULL: prior.full_mean, None: prior.proxy_mean}
    return np.array([means.get(kind, 0.0) for kind in _KINDS])


@dataclass(frozen=True)
class Points:
    """p configurations at sizes, as natural logs; learning rates as shares of the one that begins to harm their kind."""

    kind: NDArray[np.intp]
    learning_rate: Array
    epochs: Array
    rank: Array
    examples: Array
    signal: Array  #: early ln train loss above that of like configurations (``early_signals``); 0 where none is known

    def __len__(self) -> int:
        return len(self.examples)

    def take(self, index: NDArray[np.intp]) -> Points:
        """The selected points."""
        return Points(
            self.kind[index],
            self.learning_rate[index],
            self.epochs[index],
            self.rank[index],
            self.examples[index],
            self.signal[index],
        )

    @staticmethod
    def of(
        kind: Sequence[Training | None],
        learning_rate: Sequence[float],
        epochs: Sequence[float],
        rank: Sequence[float],
        examples: Sequence[float],
        signal: Sequence[float] | None = None,
    ) -> Points:
        """Points from plain numbers; a kind that is None is the proxy."""
        rate, passes, width = (
            np.log(np.maximum(np.asarray(v, dtype=np.float64), 1e-12)) for v in (learning_rate, epochs, rank)
        )
        sizes = np.log(np.maximum(np.asarray(examples, dtype=np.float64), 1.0))
        kinds = np.array([_KINDS.index(k) for k in kind], dtype=np.intp)
        early = np.zeros(len(kinds)) if signal is None else np.asarray(signal, dtype=np.float64)
        return Points(kinds, rate, passes, width, sizes, early)


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
class Draws:
    """Parameters of the law, (k, 4), and of learning and harm, (k,); start (k,) is the untuned score."""

    law: Array
    start: Array
    need: Array
    limit: Array
    again: Array  #: p
    width: Array  #: q
    head: Array  #: share of the curve that is reached without any training of the model (a fitted head)
    log_weight: Array  #: unnormalised
    scale: Array  #: of the proxy's way from the start, as a share of the curve's


@lru_cache(maxsize=256)
def _draw(
    fitted_head: bool, zero_shot: tuple[float, float] | None, link: Link, chance: float, seed: int, prior: TuningPrior
) -> Draws:
    """The law's unknowns before any tuned score; many groups of a plan share them."""
    value, sd = zero_shot if zero_shot is not None else (np.nan, 0.0)
    score = float(link.inverse(value)) if np.isfinite(value) else np.nan
    of_law = shipped_prior(link)
    if link is Link.LOGIT:
        mean, covariance = prior.law()
        of_law = replace(of_law, mean=mean, covariance=covariance)
    fit = rectified.fit(
        [0.0], [[score]], link=link, noise_sd=[[sd]], chance=chance, prior=of_law, draws=DRAWS, seed=seed
    )
    law = fit.draws[0]
    with np.errstate(divide="ignore"):
        log_weight = np.log(fit.weights[0])
    start = rectified.curve(law, np.array([0.0]), link, chance)[:, 0]
    if zero_shot is not None:
        start = np.full(len(law), value)
    need, limit, again, width, head = learning_draws(fitted_head, len(law), seed + 1)
    need = prior.need_mean + prior.need_sd * need
    scale = np.exp(_PROXY_SCALE_SD * np.random.default_rng(seed + 2).standard_normal(len(law)))
    return Draws(law, start, need, limit, again, width, head, log_weight, scale)


def law_scores(draws: Draws, points: Points, link: Link, chance: float) -> Array:
    """The law's score of each draw at each point, (k, p), before any effect."""
    # Many configurations are one to the law: its costly part is computed once for each.
    proxy = points.kind == _PROXY
    rows, place = np.unique(
        np.stack([points.learning_rate, points.epochs, points.rank, points.examples, proxy], axis=1),
        axis=0,
        return_inverse=True,
    )
    return np.asarray(_learned(draws, link, chance, *rows.T)[:, place.reshape(-1)])


def _learned(
    d: Draws, link: Link, chance: float, learning_rate: Array, epochs: Array, rank: Array, examples: Array, proxy: Array
) -> Array:
    size, asked = np.exp(examples), np.exp(epochs)
    more = np.where(proxy > 0, 0.0, np.log(passes(size, asked)))
    # The curve is the costly part, and knows neither learning rate nor rank.
    seen, place = np.unique(np.stack([examples, more], axis=1), axis=0, return_inverse=True)
    effective = np.exp(seen[:, 0] + d.again[:, None] * seen[:, 1])
    reach = rectified.curve(d.law, effective, link, chance)[:, place.reshape(-1)]
    amount = learning_rate + np.log(update_steps(size, asked)) + d.width[:, None] * (rank - np.log(_USUAL_RANK))
    work = _LEARNING_POWER * (amount - d.need[:, None])
    learned = d.head[:, None] - (1 - d.head[:, None]) * np.expm1(-np.exp(np.clip(work, -30, 30)))
    learned = np.where(proxy > 0, d.scale[:, None], learned)  # a fitted head learns to its end, and harms nothing
    excess = np.where(proxy > 0, -30.0, learning_rate - d.limit[:, None])
    harm = _HARM * np.logaddexp(0.0, 3.0 * excess)
    start, sign = d.start[:, None], -1.0 if link is Link.LOG else 1.0
    return np.asarray(start + (reach - start) * learned - sign * harm)


def effect_covariance(prior: TuningPrior, a: Points, b: Points) -> Array:
    """Covariance of the configurations' effects, (a, b)."""
    distance = np.zeros((len(a), len(b)))
    for f, length in zip(("learning_rate", "epochs", "rank"), _LENGTHS, strict=True):
        distance += ((getattr(a, f)[:, None] - getattr(b, f)[None]) / length) ** 2
    size = (a.examples[:, None] - b.examples[None]) / _SIZE_LENGTH
    over_size = _SIZE_SHARED + (1 - _SIZE_SHARED) * np.exp(-0.5 * size**2)
    alike = _SIMILARITY[a.kind[:, None], b.kind[None]]
    own = (distance < 1e-12) & (np.abs(size) < 1e-9) & (a.kind[:, None] == b.kind[None])
    shared = prior.effect_sd**2 * np.exp(-0.5 * distance) * over_size + prior.kind_sd**2
    offset = prior.proxy_sd**2 * ((a.kind == _PROXY)[:, None] & (b.kind == _PROXY)[None])
    told = EARLY_SLOPE_SD**2 * a.signal[:, None] * b.signal[None]
    return np.asarray(alike * shared + prior.own_sd**2 * own + offset + told)


def learning_draws(fitted_head: bool, count: int, seed: int) -> tuple[Array, Array, Array, Array, Array]:
    """Prior draws of what a training reaches of the curve, (count,) each: need and limit (standard normal), p, q, head."""
    random = np.random.default_rng(seed)
    unit, share = random.standard_normal((2, count)), random.uniform(*_HEAD_SHARE, count)
    again = random.uniform(*(_EPOCH_POWER_HEAD if fitted_head else _EPOCH_POWER), count)
    width = random.uniform(*_RANK_POWER, count)
    return unit[0], _HARM_SD * unit[1], again, width, share if fitted_head else np.zeros(count)


class TuningCurves:
    """The joint distribution of scores of one model and kind of training, given what was measured.

    Args:
        fitted_head: whether a head fitted on frozen features is where training starts (encoders), not the zero-shot score.
        zero_shot: link-scale score and error without tuning, if measured.
        points, values, noise: the measured configurations (m), their link-scale scores and sampling errors.
        link, chance: of the metric.
        prior: what other models and tasks say; for shares only, its law.
    """

    def __init__(
        self,
        fitted_head: bool,
        zero_shot: tuple[float, float] | None,
        points: Points,
        values: Array,
        noise: Array,
        link: Link,
        chance: float,
        seed: int = 0,
        prior: TuningPrior = ASSUMED,
    ) -> None:
        self.link, self.chance, self.points, self.prior = link, chance, points, prior
        self.sign = -1.0 if link is Link.LOG else 1.0
        self.draws = _draw(fitted_head, zero_shot, link, chance, seed, prior)
        self.start_sd = zero_shot[1] if zero_shot is not None else 0.0
        self.noise = noise**2 + seed_sd(points) ** 2
        gram = effect_covariance(self.prior, points, points) + np.diag(self.noise)
        self.inverse = np.linalg.inv(gram) if len(points) else np.zeros((0, 0))
        self.off = values[None] - self._law_of(points)  # (k, m)
        misfit = np.einsum("km,mn,kn->k", self.off, self.inverse, self.off)
        log_weight = self.draws.log_weight - 0.5 * misfit
        weight = np.exp(log_weight - log_weight.max())
        self.weight = weight / weight.sum()

    def predict(self, targets: Points) -> tuple[Array, Array]:
        """Mean and standard deviation of the score at each target, without sampling or seed noise."""
        mean, sd = (np.empty(len(targets)) for _ in range(2))
        done = 0
        for means, own in self._blocks(targets):
            here = slice(done, done := done + len(own))
            mean[here], sd[here] = self._moments(means, own)
        return mean, sd

    def outlook(self, targets: Points) -> tuple[Array, Array, Array]:
        """The same, and P(score < the untuned model's), (targets,): negative transfer.

        The untuned model is each draw's start, known as well as zero-shot was measured.
        """
        mean, sd, hurts = (np.empty(len(targets)) for _ in range(3))
        done = 0
        for means, own in self._blocks(targets):
            here = slice(done, done := done + len(own))
            mean[here], sd[here] = self._moments(means, own)
            lost = self.sign * (self.draws.start[:, None] - means) / np.sqrt(own + self.start_sd**2)
            hurts[here] = self.weight @ ndtr(lost)
        return mean, sd, hurts

    def _blocks(self, targets: Points) -> Iterator[tuple[Array, Array]]:
        """Conditional mean of each draw, (k, p), and its variance, (p,), of as many targets at a time as memory likes."""
        for i in range(0, len(targets), _BLOCK):
            part = targets.take(np.arange(i, min(i + _BLOCK, len(targets))))
            means, cross = self._means(part)
            own = self._own_variance(part) - np.einsum("pm,mn,pn->p", cross, self.inverse, cross)
            yield means, np.maximum(own, 1e-9)

    def _moments(self, means: Array, own: Array) -> tuple[Array, Array]:
        mean = self.weight @ means
        return mean, np.sqrt(own + np.maximum(self.weight @ means**2 - mean**2, 0.0))

    def tell(self, targets: Points, asked: Points, sampling_sd: Array) -> tuple[Array, Array]:
        """How far each target's mean would move (asked, targets) if ``asked`` were measured, and the means expected."""
        if not len(asked):
            return np.zeros((0, len(targets))), np.zeros(0)
        mean, sd = self.predict(asked)
        total = np.sqrt(sd**2 + sampling_sd**2 + seed_sd(asked) ** 2)
        return self.covariance(asked, targets) / total[:, None], mean

    def covariance(self, a: Points, b: Points) -> Array:
        """Covariance of the scores at ``a`` with those at ``b``, (a, b), given what was measured."""
        means, cross = self._means(a)
        pull = (means - self.weight @ means) * self.weight[:, None]  # (k, a)
        out = np.empty((len(a), len(b)))
        for i in range(0, len(b), _BLOCK):
            part = b.take(np.arange(i, min(i + _BLOCK, len(b))))
            other, other_cross = self._means(part)
            linear = effect_covariance(self.prior, a, part) - cross @ self.inverse @ other_cross.T
            out[:, i : i + _BLOCK] = linear + pull.T @ (other - self.weight @ other)
        return out

    def _own_variance(self, points: Points) -> Array:
        p = self.prior
        offset = p.proxy_sd**2 * (points.kind == _PROXY)
        told = EARLY_SLOPE_SD**2 * points.signal**2
        return np.asarray(p.effect_sd**2 + p.kind_sd**2 + p.own_sd**2 + offset + told, dtype=np.float64)

    def _law_of(self, points: Points) -> Array:
        ahead = self.sign * EARLY_SLOPE * points.signal
        return law_scores(self.draws, points, self.link, self.chance) + offsets(self.prior)[points.kind] + ahead

    def _means(self, points: Points) -> tuple[Array, Array]:
        """Conditional mean of each draw, (k, p), and the covariance with what was measured, (p, m)."""
        cross = effect_covariance(self.prior, points, self.points)
        return self._law_of(points) + self.off @ (self.inverse @ cross.T), cross
