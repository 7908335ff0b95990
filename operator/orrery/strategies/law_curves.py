"""Fine-tuned quality by one named learning-curve law: what a plan may ask for instead of the ensemble.

Each configuration is a curve over training examples, fitted by the law (``laws.curve_laws``) to what was measured of that very
configuration, as the papers do it: no configuration bears on another, but for laws that pool all curves themselves; those see
the curves of the plan's other models too, with the models' sizes and families. It
answers the questions of ``TuningCurves``, so that the same strategies, designers and benchmarks run with either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from orrery.laws.curve_laws import CurveLaw
from orrery.laws.posterior import Array, Link, Posterior
from orrery.strategies.tuning_curves import Points, seed_sd

#: Correlation of one configuration's forecast errors at two sizes: a law that is off here is off there.
_OVER_SIZES = 0.8


class FineTunedCurves(Protocol):
    """Scores of one model's fine-tuned configurations at any size, given what was measured; all on the link scale."""

    sign: float  #: 1 when larger is better, -1 for losses

    def predict(self, targets: Points) -> tuple[Array, Array]:
        """Mean and standard deviation of the score at each target, without sampling or seed noise."""

    def tell(self, targets: Points, asked: Points, sampling_sd: Array) -> tuple[Array, Array]:
        """How far each target's mean would move (asked, targets) if ``asked`` were measured, and the means expected."""

    def covariance(self, a: Points, b: Points) -> Array:
        """Covariance of the scores at ``a`` with those at ``b``, (a, b)."""

    def outlook(self, targets: Points) -> tuple[Array, Array, Array]:
        """Mean, standard deviation, and P(score is worse than the untuned model's), each (targets,)."""


@dataclass(frozen=True)
class Relatives:
    """What was trained on the plan's other models: m measurements, and size (nan if unknown) and family of each one's model.

    ``own`` is size and family of the model at hand.
    """

    points: Points
    values: Array
    noise: Array
    parameters: Array
    family: Sequence[str]
    own: tuple[float, str]


class LawCurves:
    """Curves of one model by one law.

    Args:
        law: forecasts curves (n, m) at sizes.
        zero_shot: link-scale score and error without tuning, if measured; it only says what hurts.
        points, values, noise: the measured configurations (m), their link-scale scores and sampling errors.
        worth: what pre-training is worth to each of some configurations, for laws that measure it (NTK-rectified).
        relatives: the other models' curves, for laws that share strength over models.
    """

    def __init__(
        self,
        law: CurveLaw,
        zero_shot: tuple[float, float] | None,
        points: Points,
        values: Array,
        noise: Array,
        link: Link,
        chance: float,
        worth: Callable[[Points], Array] | None = None,
        relatives: Relatives | None = None,
    ) -> None:
        self.law, self.link, self.chance, self.zero_shot, self.worth = law, link, chance, zero_shot, worth
        self.relatives = relatives
        self.sign = -1.0 if link is Link.LOG else 1.0
        self.points, self.values = points, values
        self.noise = np.hypot(noise, seed_sd(points))

    def predict(self, targets: Points) -> tuple[Array, Array]:
        """Mean and standard deviation of the score at each target; a measured one is what was measured."""
        if not len(targets):
            return np.zeros(0), np.zeros(0)
        distinct, row = _configurations(targets, self.points)
        own = row[len(targets) :]
        sizes, at = np.unique(self.points.examples), np.unique(targets.examples)
        place = np.searchsorted(sizes, self.points.examples)
        post = self._fit(distinct, own, place, self.values, self.noise, sizes, at)
        column = np.searchsorted(at, targets.examples)
        mean, sd = post.mean[row[: len(targets)], column], post.sd[row[: len(targets)], column]
        exact = (row[: len(targets), None] == own[None]) & (targets.examples[:, None] == self.points.examples[None])
        for i in np.flatnonzero(exact.any(1)):
            weight = 1 / self.noise[exact[i]] ** 2
            mean[i] = (weight @ self.values[exact[i]] + mean[i] / sd[i] ** 2) / (weight.sum() + 1 / sd[i] ** 2)
            sd[i] = (weight.sum() + 1 / sd[i] ** 2) ** -0.5
        return mean, sd

    def tell(self, targets: Points, asked: Points, sampling_sd: Array) -> tuple[Array, Array]:
        """Fits every asked configuration again with a score one standard deviation up and down, all at once."""
        mean, sd = self.predict(asked)
        shifts = np.zeros((len(asked), len(targets)))
        if not len(asked) or not len(targets):
            return shifts, mean
        noise = np.hypot(sampling_sd, seed_sd(asked))
        away = np.hypot(sd, noise)
        distinct, row = _configurations(targets, asked, self.points)
        of_target, of_asked, own = np.split(row, [len(targets), len(targets) + len(asked)])
        sizes = np.unique(np.concatenate([self.points.examples, asked.examples]))
        at = np.unique(targets.examples)
        twice = np.repeat(np.arange(len(asked)), 2)
        world, which = np.nonzero(of_asked[twice][:, None] == own[None])
        where = np.concatenate([world, np.arange(len(twice))])
        values = np.concatenate([self.values[which], mean[twice] + away[twice] * np.tile([1.0, -1.0], len(asked))])
        errors = np.concatenate([self.noise[which], noise[twice]])
        place = np.searchsorted(sizes, np.concatenate([self.points.examples[which], asked.examples[twice]]))
        post = self._fit(distinct.take(of_asked[twice]), where, place, values, errors, sizes, at)
        moved = (post.mean[0::2] - post.mean[1::2]) / 2  # (asked, at)
        column = np.searchsorted(at, targets.examples)
        own_ask = of_asked[:, None] == of_target[None]
        shifts = np.where(own_ask, moved[:, column], 0.0)
        same = own_ask & (asked.examples[:, None] == targets.examples[None])
        shifts = np.where(same, (sd**2 / away)[:, None], shifts)
        _, left = self.predict(targets)
        return np.clip(shifts, -left, left), mean

    def covariance(self, a: Points, b: Points) -> Array:
        """Errors of one configuration go together over sizes, those of two do not."""
        if not len(a) or not len(b):
            return np.zeros((len(a), len(b)))
        (_, sd_a), (_, sd_b) = self.predict(a), self.predict(b)
        _, row = _configurations(a, b)
        alike = row[: len(a), None] == row[None, len(a) :]
        size = np.where(a.examples[:, None] == b.examples[None], 1.0, _OVER_SIZES)
        return np.asarray(alike * size * np.outer(sd_a, sd_b))

    def outlook(self, targets: Points) -> tuple[Array, Array, Array]:
        """``predict``, and P(score is worse than zero-shot); a half where that was not measured."""
        mean, sd = self.predict(targets)
        if self.zero_shot is None:
            return mean, sd, np.full(len(targets), 0.5)
        start, error = self.zero_shot
        return mean, sd, np.asarray(ndtr(self.sign * (start - mean) / np.hypot(sd, error)))

    def _fit(
        self,
        configurations: Points,
        row: NDArray[np.intp],
        column: NDArray[np.intp],
        values: Array,
        noise: Array,
        sizes: Array,
        at: Array,
    ) -> Posterior:
        """The law on a table (configurations, sizes) at the sizes ``at`` (ln examples); repeats are averaged."""
        more: dict[str, Any] = {} if self.worth is None else {"worth": self.worth(configurations)}
        count = len(configurations)
        if self.relatives is not None:
            more, others, where = self._with_relatives(count)
            every = np.unique(np.concatenate([sizes, self.relatives.points.examples]))
            column = np.concatenate(
                [np.searchsorted(every, sizes)[column], np.searchsorted(every, self.relatives.points.examples)]
            )
            row, count, sizes = np.concatenate([row, count + where]), count + others, every
            values = np.concatenate([values, self.relatives.values])
            noise = np.concatenate([noise, np.hypot(self.relatives.noise, seed_sd(self.relatives.points))])
        total, weighted = np.zeros((2, count, len(sizes)))
        np.add.at(total, (row, column), noise**-2.0)
        np.add.at(weighted, (row, column), values * noise**-2.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            scores = np.where(total > 0, self.link.inverse(weighted / total), np.nan)
            error = np.where(total > 0, total**-0.5, 0.0)
        post = self.law(np.exp(sizes), scores, np.exp(at), link=self.link, noise_sd=error, chance=self.chance, **more)
        return post.take(np.arange(len(configurations)))

    def _with_relatives(self, count: int) -> tuple[dict[str, Any], int, NDArray[np.intp]]:
        """Sizes and families of ``count`` own curves and the others', how many others, and whose each measurement is."""
        assert self.relatives is not None
        r = self.relatives
        models = sorted({*zip(r.parameters.tolist(), r.family, strict=True)})
        _, configuration = _configurations(r.points)
        whose = [models.index(m) for m in zip(r.parameters.tolist(), r.family, strict=True)]
        curves, first, where = np.unique(
            np.stack([whose, configuration], axis=1), axis=0, return_index=True, return_inverse=True
        )
        own, family = r.own
        parameters = np.concatenate([np.full(count, own), r.parameters[first]])
        more: dict[str, Any] = {"family": [family] * count + [r.family[i] for i in first]}
        if np.isfinite(parameters).all():
            more["parameters"] = parameters
        return more, len(curves), where.reshape(-1).astype(np.intp)


def _configurations(*sets: Points) -> tuple[Points, NDArray[np.intp]]:
    """The distinct configurations of all sets, whatever their sizes, and the place of each point among them."""
    everyone = Points(*(np.concatenate([getattr(p, f.name) for p in sets]) for f in fields(Points)))
    table = np.stack([everyone.kind.astype(np.float64), everyone.learning_rate, everyone.epochs, everyone.rank], axis=1)
    _, first, place = np.unique(table, axis=0, return_index=True, return_inverse=True)
    return everyone.take(first.astype(np.intp)), place.reshape(-1).astype(np.intp)
