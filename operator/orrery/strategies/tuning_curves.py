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
algebra, and a mixture of normals is summarised by its moments. One training in thirty is expected to fail whatever its configuration, so that one
score far below all expectations leaves room for the others to be right.

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
#: A training fails now and then, whatever its configuration: it ends near or below chance and says nothing of the next seed (Mosbach et al.
#: 2021, arXiv 2006.04884, count up to a quarter of the seeds of unlucky recipes). Probability, how far below (give or take half) it ends on the link
#: scale of shares and of losses, and the probability below which a failure is not considered: most scores speak for themselves.
_FAILS, _FAILED, _FAILED_LOSS, _CREDIBLE = 0.03, 2.0, 0.5, 0.03
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


@dataclass(frozen=True)
class _Reading:
    """What was measured, as it stands or with one training taken for a failed run, given every draw of the law."""

    inverse: Array  #: (m, m) of the covariance of what was measured
    off: Array  #: (k, m) of what was measured from the law
    weight: Array  #: (k,) over all readings they add up to one
    failed: int | None  #: the training that is taken for a failed run


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
        self.readings = self._read(points, values, noise**2 + seed_sd(points) ** 2)
        self.weight = np.sum([r.weight for r in self.readings], axis=0)  # (k,) of the draws

    def _read(self, points: Points, values: Array, noise: Array) -> list[_Reading]:
        """What was measured as it stands, and with each training in turn taken for a failed run, as far as either is credible."""
        off = values[None] - self._law_of(points)  # (k, m)
        shared = effect_covariance(self.prior, points, points)
        trained = np.flatnonzero(points.kind != _PROXY).tolist()
        shift = _FAILED_LOSS if self.link is Link.LOG else _FAILED
        found = []
        for failed in (None, *trained):
            here, variance = off, noise
            log_prior = len(trained) * np.log1p(-_FAILS)
            if failed is not None:
                here, variance = off.copy(), noise.copy()
                here[:, failed] += self.sign * shift
                variance[failed] += (shift / 2) ** 2
                log_prior += np.log(_FAILS) - np.log1p(-_FAILS)
            gram = shared + np.diag(variance)
            inverse = np.asarray(np.linalg.inv(gram), dtype=np.float64) if len(points) else np.zeros((0, 0))
            misfit = np.einsum("km,mn,kn->k", here, inverse, here)
            log_det = float(np.linalg.slogdet(gram)[1]) if len(points) else 0.0
            log_weight = self.draws.log_weight - 0.5 * (misfit + log_det) + log_prior
            found.append(_Reading(inverse, here, log_weight, failed))
        top = max(float(r.weight.max()) for r in found)
        found = [replace(r, weight=np.exp(r.weight - top)) for r in found]
        least = _CREDIBLE * sum(float(r.weight.sum()) for r in found)
        kept = [r for r in found if r.weight.sum() >= least]
        total = sum(float(r.weight.sum()) for r in kept)
        return [replace(r, weight=r.weight / total) for r in kept]

    @property
    def doubt(self) -> float:
        """Probability that a training that was measured failed, whatever its configuration is worth."""
        return float(sum(r.weight.sum() for r in self.readings if r.failed is not None))

    def predict(self, targets: Points) -> tuple[Array, Array]:
        """Mean and standard deviation of the score at each target, without sampling or seed noise."""
        mean, sd, _ = self._outlook(targets, harm=False)
        return mean, sd

    def outlook(self, targets: Points) -> tuple[Array, Array, Array]:
        """The same, and P(score < the untuned model's), (targets,): negative transfer.

        The untuned model is each draw's start, known as well as zero-shot was measured.
        """
        return self._outlook(targets, harm=True)

    def _outlook(self, targets: Points, *, harm: bool) -> tuple[Array, Array, Array]:
        mean, sd, hurts = (np.empty(len(targets)) for _ in range(3))
        for i in range(0, len(targets), _BLOCK):
            here = slice(i, min(i + _BLOCK, len(targets)))
            mean[here], sd[here], hurts[here] = self._moments(targets.take(np.arange(here.start, here.stop)), harm)
        return mean, sd, hurts

    def _moments(self, part: Points, harm: bool) -> tuple[Array, Array, Array]:
        """Mean, sd and, where asked, probability of harm over draws and readings."""
        mean, square, within, hurts = np.zeros((4, len(part)))
        for reading, means, cross in self._means(part):
            own = self._own_variance(part) - np.einsum("pm,mn,pn->p", cross, reading.inverse, cross)
            own = np.maximum(own, 1e-9)
            mean += reading.weight @ means
            square += reading.weight @ means**2
            within += reading.weight.sum() * own
            if harm:
                lost = self.sign * (self.draws.start[:, None] - means) / np.sqrt(own + self.start_sd**2)
                hurts += reading.weight @ ndtr(lost)
        return mean, np.sqrt(within + np.maximum(square - mean**2, 0.0)), hurts

    def tell(self, targets: Points, asked: Points, sampling_sd: Array) -> tuple[Array, Array]:
        """How far each target's mean would move (asked, targets) if ``asked`` were measured, and the means expected."""
        if not len(asked):
            return np.zeros((0, len(targets))), np.zeros(0)
        mean, sd = self.predict(asked)
        total = np.sqrt(sd**2 + sampling_sd**2 + seed_sd(asked) ** 2)
        return self.covariance(asked, targets) / total[:, None], mean

    def covariance(self, a: Points, b: Points) -> Array:
        """Covariance of the scores at ``a`` with those at ``b``, (a, b), given what was measured."""
        out = np.zeros((len(a), len(b)))
        of_a = list(self._means(a))
        mean_a = sum(reading.weight @ means for reading, means, _ in of_a)
        for i in range(0, len(b), _BLOCK):
            part = b.take(np.arange(i, min(i + _BLOCK, len(b))))
            of_b = list(self._means(part))
            mean_b = sum(reading.weight @ means for reading, means, _ in of_b)
            prior = effect_covariance(self.prior, a, part)
            for (reading, means, cross), (_, other, other_cross) in zip(of_a, of_b, strict=True):
                linear = prior - cross @ reading.inverse @ other_cross.T
                pull = (means - mean_a) * reading.weight[:, None]  # (k, a)
                out[:, i : i + _BLOCK] += reading.weight.sum() * linear + pull.T @ (other - mean_b)
        return out

    def _own_variance(self, points: Points) -> Array:
        p = self.prior
        offset = p.proxy_sd**2 * (points.kind == _PROXY)
        told = EARLY_SLOPE_SD**2 * points.signal**2
        return np.asarray(p.effect_sd**2 + p.kind_sd**2 + p.own_sd**2 + offset + told, dtype=np.float64)

    def _law_of(self, points: Points) -> Array:
        ahead = self.sign * EARLY_SLOPE * points.signal
        return law_scores(self.draws, points, self.link, self.chance) + offsets(self.prior)[points.kind] + ahead

    def _means(self, points: Points) -> Iterator[tuple[_Reading, Array, Array]]:
        """By reading: the conditional mean of each draw, (k, p), and the covariance with what was measured, (p, m)."""
        cross, law = effect_covariance(self.prior, points, self.points), self._law_of(points)
        for reading in self.readings:
            yield reading, law + reading.off @ (reading.inverse @ cross.T), cross
