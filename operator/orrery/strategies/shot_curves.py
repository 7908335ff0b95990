"""Curves of quality over demonstrations for one model: zero-shot is their start, in-context learning the rest.

A curve is a way to demonstrate: (retriever, calibration). Shares follow the shots law (``laws.shots``); losses, which it
does not know, a small Gaussian process with the same structure: a common level, a saturating gain, and own deviations.

Retrieved demonstrations are another matter than random ones: where the training examples hold near neighbours, a single
one can nearly answer the request (SmolLM2-135M on seven intents, measured: .26 without, .14 with one at random, .89 with
one by BM25). So the two kinds share nothing but their start. Whether neighbours help is told by the data themselves, once a
probe has reported how they vote (``laws.neighbours``): the vote stands beside the curve's scores as a few items' worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from orrery.api.probe import NEIGHBOURS_ASKED
from orrery.laws import neighbours
from orrery.laws import shots as shots_law
from orrery.laws._shots_forms import ShotsPrior
from orrery.laws.posterior import Array, Link, Posterior
from orrery.laws.priors import shipped_shots_prior, shipped_vote_error
from orrery.strategies import family
from orrery.strategies.base import Group
from orrery.strategies.trials import attempted, direct, evaluation_size, observed, parameters_of

Curve = tuple[str, str]  #: retriever and calibration

ZERO_SHOT, IN_CONTEXT = "ZeroShot", "InContext"


# Losses: ln nats. Levels between .4 and 20 nats; demonstrations take off a quarter, give or take; by assumption.
_LOSS_LEVEL, _LOSS_LEVEL_SD = float(np.log(3.0)), 1.0
_LOSS_GAIN, _LOSS_GAIN_SD, _LOSS_SHARED = -0.3, 0.35, 0.7
_LOSS_OWN_SD, _LOSS_SPEED = 0.05, 4.0


@dataclass(frozen=True)
class Measured:
    """A score on the metric scale, with its items and link-scale value and error, of the curves it belongs to.

    ``real`` is False where smaller siblings say it (``family``); its items are then as many as its error is worth.
    """

    curves: tuple[int, ...]
    shots: int
    score: float
    items: float
    value: float
    sd: float
    real: bool = True


def measured(group: Group, curves: Sequence[Curve]) -> list[Measured]:
    """Every direct measurement that lies on one of the curves; zero-shot lies on all of its calibration's curves.

    What was not measured is told by smaller siblings, where there are two. The errors of all they tell go together, so that
    it counts as much as one telling. Once the model's own start is known, the neighbours' vote says where retrieval leads.
    """
    found = []
    for e in direct(group.evidence, ZERO_SHOT) + direct(group.evidence, IN_CONTEXT):
        seen, p = observed(e.result, group.link), parameters_of(e.trial)
        if seen is None or e.result.score is None:
            continue
        shots, own = _place(e.trial.strategy, p, curves)
        if own:
            found.append(Measured(own, shots, float(e.result.score), e.result.items, *seen))
    return found + _of_neighbours(group, curves, found) + _of_siblings(group, curves)


def _of_neighbours(group: Group, curves: Sequence[Curve], seen: Sequence[Measured]) -> list[Measured]:
    """The neighbours' vote as scores of each BM25 curve whose start was measured; curves that do so share its error."""
    facts = group.task_facts
    if (
        facts is None
        or facts.neighbour_vote is None
        or not 0 <= facts.neighbour_vote <= 1
        or group.link is not Link.LOGIT
    ):
        return []
    start = {c: m.value for m in seen if m.shots == 0 for c in m.curves if curves[c][0] == "bm25"}
    vote, voters = float(facts.neighbour_vote), float(min(facts.train_examples, NEIGHBOURS_ASKED))
    error = shipped_vote_error(_builtin(group))
    found = []
    for c, zero_shot in start.items():
        real = [(m.value, m.sd**-2) for m in seen if m.shots > 0 and c in m.curves]
        shown = float(np.average([v for v, _ in real], weights=[w for _, w in real])) if real else None
        for shots, score, items in neighbours.pseudo_scores(vote, voters, zero_shot, error, shown):
            items = items / len(start)
            value, sd = float(Link.LOGIT.forward(score)), float((items * score * (1 - score)) ** -0.5)
            if items >= 1:
                found.append(Measured((c,), shots, score, items, value, sd, real=False))
    return found


def _of_siblings(group: Group, curves: Sequence[Curve]) -> list[Measured]:
    """Forecasts of what was not measured by smaller siblings, as scores on as many items as they are worth."""
    done = attempted(group.evidence)
    told = [
        (*_place(strategy, dict(pairs), curves), value, sd)
        for (strategy, pairs, method, n), (value, sd) in family.forecasts(group, ZERO_SHOT, IN_CONTEXT).items()
        if (strategy, pairs, method, n) not in done
    ]
    found = []
    for shots, own, value, sd in told:
        if not own:
            continue
        # Siblings give a posterior: the prior that the law will add is taken out of it first.
        prior = predict(group, curves, [], [shots])
        mean, spread = float(prior.mean[own[0], 0]), float(prior.sd[own[0], 0])
        precision = sd**-2 - spread**-2
        if precision <= 0:
            continue
        center = (value * sd**-2 - mean * spread**-2) / precision
        score, precision = float(group.link.inverse(center)), precision / len(told)
        items = precision / max(score * (1 - score), 1e-3)
        if items >= 1:
            found.append(Measured(own, shots, score, items, center, precision**-0.5, real=False))
    return found


def _place(strategy: str, parameters: Mapping[str, str], curves: Sequence[Curve]) -> tuple[int, tuple[int, ...]]:
    """Shots of a configuration, and the curves it lies on."""
    shots = int(parameters.get("shots", "0")) if strategy == IN_CONTEXT else 0
    way = (parameters.get("retriever", "random"), parameters.get("calibration", "none"))
    return shots, tuple(i for i, c in enumerate(curves) if c[1] == way[1] and (shots == 0 or c[0] == way[0]))


def remarks(group: Group, seen: Sequence[Measured]) -> list[str]:
    """Says that a forecast rests on siblings alone."""
    return [family.remark(group)] if seen and not any(m.real for m in seen) else []


def predict(group: Group, curves: Sequence[Curve], seen: Sequence[Measured], at: Sequence[int]) -> Posterior:
    """Quality of every curve at every number of shots, shape (curves, len(at)), on the group's link scale."""
    shape = (len(curves), len(at))
    if group.link is not Link.LOGIT:
        process = _LossCurves(curves, at, seen)
        return Posterior(process.mean.reshape(shape), np.sqrt(np.diag(process.cov)).reshape(shape), group.link)
    mean, sd = np.empty(shape), np.empty(shape)
    for rows, prior in _kinds(group, curves):
        post = _fit_shares(rows, [seen], group.chance, prior).predict(np.asarray(at, dtype=np.float64))
        mean[rows], sd[rows] = post.mean, post.sd
    return Posterior(mean, sd, group.link)


def what_it_would_tell(
    group: Group,
    curves: Sequence[Curve],
    seen: Sequence[Measured],
    at: Sequence[int],
    asked: Sequence[tuple[tuple[int, ...], int]],
) -> tuple[Array, Array]:
    """For each asked (curves it lies on, shots): how far the forecast at ``at`` would move, and the score to expect.

    Returns shifts (asked, curves, len(at)) in standard deviations of the forecast's move, and medians (asked,) on the
    metric scale. For shares the law is refitted with a score one predictive standard deviation above and below its
    median, all questions in one batch: half the difference is the move.
    """
    if not asked:
        return np.zeros((0, len(curves), len(at))), np.zeros(0)
    if group.link is not Link.LOGIT:
        return _LossCurves(curves, at, seen).tell(asked)
    items = evaluation_size(group)
    points = sorted({k for _, k in asked})
    shifts, medians = np.zeros((len(asked), len(curves), len(at))), np.zeros(len(asked))
    for rows, prior in _kinds(group, curves):
        ahead = _fit_shares(rows, [seen], group.chance, prior)
        score = ahead.predict(np.asarray(points, dtype=np.float64), items=items)
        here = [(q, own, k) for q, (own, k) in enumerate(asked) if any(c in rows for c in own)]
        worlds: list[Sequence[Measured]] = []
        for q, own, k in here:
            i, j = rows.index(next(c for c in own if c in rows)), points.index(k)
            mean, sd = float(score.mean[i, j]), float(score.sd[i, j])
            medians[q] = float(Link.LOGIT.inverse(mean))
            for z in (mean + sd, mean - sd):
                worlds.append([*seen, Measured(own, k, float(Link.LOGIT.inverse(z)), items, z, sd)])
        if here:
            after = _fit_shares(rows, worlds, group.chance, prior).predict(np.asarray(at, dtype=np.float64)).mean
            after = after.reshape(len(here), 2, len(rows), len(at))
            shifts[np.ix_([q for q, _, _ in here], rows)] = (after[:, 0] - after[:, 1]) / 2
    return shifts, medians


def probability_hurts(group: Group, curves: Sequence[Curve], seen: Sequence[Measured], at: Sequence[int]) -> Array:
    """P(quality with k demonstrations is worse than with none), shape (curves, len(at))."""
    if group.link is not Link.LOGIT:
        return _LossCurves(curves, at, seen).probability_hurts()
    worse = np.zeros((len(curves), len(at)))
    for rows, prior in _kinds(group, curves):
        fit = _fit_shares(rows, [seen], group.chance, prior)
        worse[rows] = np.stack([fit.probability_hurts(float(k)) for k in at], axis=1)
    return worse


def _kinds(group: Group, curves: Sequence[Curve]) -> list[tuple[list[int], ShotsPrior]]:
    """Curves that share strength, with their prior: those with random demonstrations, and those with retrieved ones.

    The priors are learned from measured curves, never from those of the plan's own task.
    """
    random = [i for i, (retriever, _) in enumerate(curves) if retriever == "random"]
    retrieved = [i for i in range(len(curves)) if i not in random]
    task = _builtin(group)
    kinds = ((random, shipped_shots_prior(task)), (retrieved, shipped_shots_prior(task, retrieved=True)))
    return [(rows, prior) for rows, prior in kinds if rows]


def _builtin(group: Group) -> str | None:
    source = group.task.dataset.source.builtin
    return None if source is None else source.name


def _fit_shares(
    rows: Sequence[int], worlds: Sequence[Sequence[Measured]], chance: float, prior: ShotsPrior
) -> shots_law.ShotsPosterior:
    """One fit of the curves ``rows`` in all worlds; the curves of a world share strength, worlds do not."""
    place = {c: i for i, c in enumerate(rows)}
    columns: dict[tuple[int, int], int] = {}
    entries: list[tuple[int, int, float, float]] = []
    for w, world in enumerate(worlds):
        used: dict[tuple[int, int], int] = {}
        for m in world:
            for c in m.curves:
                if c not in place:
                    continue
                turn = used.get((c, m.shots), 0)
                used[c, m.shots] = turn + 1
                column = columns.setdefault((m.shots, turn), len(columns))
                entries.append((w * len(rows) + place[c], column, m.score, m.items))
    height = len(worlds) * len(rows)
    scores = np.full((height, max(len(columns), 1)), np.nan)
    items = np.ones_like(scores)
    for row, column, score, count in entries:
        scores[row, column], items[row, column] = score, count
    ks = tuple(k for k, _ in columns) or (0,)
    fit = _remembered_fit if height <= _REMEMBERED_ROWS else _fit
    return fit(ks, scores.shape, scores.tobytes(), items.tobytes(), len(rows), min(chance, 0.999), prior)


def _fit(
    shots: tuple[int, ...],
    shape: tuple[int, int],
    scores: bytes,
    items: bytes,
    curves: int,
    chance: float,
    prior: ShotsPrior,
) -> shots_law.ShotsPosterior:
    group = np.repeat(np.arange(shape[0] // curves), curves)
    table, counts = np.frombuffer(scores).reshape(shape), np.frombuffer(items).reshape(shape)
    return shots_law.fit(shots, table, items=counts, chance=chance, prior=prior, group=group)


#: A step asks again about every model, and only one of them has new measurements; a plan is asked about at every event.
#: Larger fits are not kept: some megabytes in all is what remembering may cost.
_REMEMBERED_ROWS = 32
_remembered_fit = lru_cache(maxsize=512)(_fit)


class _LossCurves:
    """Gaussian process of log losses at (curve, shots), conditioned on what was measured."""

    def __init__(self, curves: Sequence[Curve], at: Sequence[int], seen: Sequence[Measured]) -> None:
        self.curves, self.at, self.seen = curves, at, seen
        self.targets = [(c, k) for c in range(len(curves)) for k in at]
        self.points = [(m.curves[0], m.shots) for m in seen]
        self.noise = np.array([m.sd**2 for m in seen])
        self.off = np.array([m.value for m in seen]) - self._prior(self.points)
        self.mean = self._prior(self.targets) + self._solve(self.targets) @ self.off
        self.cov = self._left(self.targets, self.targets)

    def tell(self, asked: Sequence[tuple[tuple[int, ...], int]]) -> tuple[Array, Array]:
        points = [(own[0], k) for own, k in asked]
        noise = 0.05**2
        moved = self._left(points, self.targets) / np.sqrt(np.diag(self._left(points, points)) + noise)[:, None]
        mean = self._prior(points) + self._solve(points) @ self.off
        return moved.reshape(len(asked), len(self.curves), len(self.at)), np.exp(mean)

    def probability_hurts(self) -> Array:
        """P(the loss with k demonstrations is above that with none), (curves, len(at))."""
        start = [(c, 0) for c, _ in self.targets]
        shared = np.diag(self._left(self.targets, start))
        variance = np.diag(self.cov) + np.diag(self._left(start, start)) - 2 * shared
        before = self._prior(start) + self._solve(start) @ self.off
        worse = ndtr((self.mean - before) / np.sqrt(np.maximum(variance, 1e-12)))
        return np.asarray(worse.reshape(len(self.curves), len(self.at)))

    def _solve(self, points: Sequence[tuple[int, int]]) -> Array:
        if not self.points:
            return np.zeros((len(points), 0))
        gram = self._cov(self.points, self.points) + np.diag(self.noise)
        return np.asarray(np.linalg.solve(gram, self._cov(self.points, points)).T)

    def _left(self, a: Sequence[tuple[int, int]], b: Sequence[tuple[int, int]]) -> Array:
        prior = self._cov(a, b)
        return prior if not self.points else prior - self._solve(a) @ self._cov(self.points, b)

    @staticmethod
    def _rise(points: Sequence[tuple[int, int]]) -> Array:
        return -np.expm1(-np.array([k for _, k in points], dtype=np.float64) / _LOSS_SPEED)

    def _prior(self, points: Sequence[tuple[int, int]]) -> Array:
        return _LOSS_LEVEL + _LOSS_GAIN * self._rise(points)

    def _cov(self, a: Sequence[tuple[int, int]], b: Sequence[tuple[int, int]]) -> Array:
        way_a, way_b = np.array([c for c, _ in a]), np.array([c for c, _ in b])
        k_a, k_b = np.array([k for _, k in a]), np.array([k for _, k in b])
        same = (way_a[:, None] == way_b[None]).astype(np.float64)
        gain = _LOSS_GAIN_SD**2 * (_LOSS_SHARED + (1 - _LOSS_SHARED) * same)
        own = _LOSS_OWN_SD**2 * same * (k_a[:, None] == k_b[None])
        return np.asarray(_LOSS_LEVEL_SD**2 + gain * np.outer(self._rise(a), self._rise(b)) + own)
