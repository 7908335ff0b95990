"""What a measurement is worth to the decision, in points: the correlated knowledge gradient over all candidates.

A proposal moves the forecast means by ``shift * z``, z standard normal (Frazier, Powell and Dayanik 2009); its value is
the expected utility of the best candidate after z is seen, less that of the best now. The quadrature over z is the same
before and after, so a value is never negative.

One point is 0.01 of a bounded metric, a hundredth of ln loss, one percent of cost, or ``pointValue`` of money, by goal.
Constraints enter as a price: falling short of the threshold costs G / (1 - confidence) points, G being what the choice
costs above the cheapest candidate. At exactly the asked confidence the expected shortfall then outweighs the whole gain,
which is the rule of the decision; below it the value stays smooth, so that a first small probe is worth something.
Recommending nothing is a choice too, worth a candidate that costs G more and just reaches the asked confidence: so it is
worth finding out whether the only candidate in sight is good enough.

The answer is more than a name: people read its quality, and the table of rivals beside it. So certainty has a value of
its own, a share of the points by which standard deviations shrink: that of the present choice, and the mean of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from orrery.api.plan import Goal, Objective
from orrery.laws.posterior import Array, Link
from orrery.planning.decision import Decision, affordable_probability, mean_on_metric
from orrery.planning.forecasts import Columns
from orrery.planning.gates import admitted

#: Midpoints of equally likely slices of the standard normal.
NODES = ndtri((np.arange(16) + 0.5) / 16)
#: Candidates of one model that are compared with one another for each proposal.
_MOST_RIVALS = 256
#: Least price of the whole constraint, in points: even when the choice is the cheapest, missing the threshold matters.
_LEAST_GAP = 25.0
#: Points of value for each point by which the sd of the present choice shrinks, and the mean sd of all candidates.
_CHOICE_CLARITY, _TABLE_CLARITY = 0.15, 1.2


@dataclass(frozen=True)
class Stakes:
    """The part of the decision that does not depend on a proposal."""

    mean: Array  #: (n,) link scale
    sd: Array
    link: Link
    sign: float
    threshold: float | None  #: link scale
    price: float  #: points for missing the constraints
    nothing: float  #: points of recommending nothing
    fixed: Array  #: (n,) points of cost, and of constraints that no probe of quality can move
    points: float  #: points per unit of the metric (0: quality is no goal)
    log_points: bool  #: quality is counted on the link scale (losses)
    allowed: NDArray[np.bool_]
    weight: Array  #: (n,) points of value for a unit of link-scale sd that is lost, by what it is worth on the metric

    def utility(self, index: NDArray[np.intp], mean: Array, sd: Array) -> Array:
        """Points of candidates ``index`` for link-scale means and sds that broadcast to (..., len(index))."""
        out = self.fixed[index]
        if self.points:
            quality = mean + sd**2 / 2 if self.log_points else mean_on_metric(mean, sd, self.link)
            out = out + self.sign * self.points * quality
        if self.threshold is not None:
            miss = ndtr(self.sign * (self.threshold - mean) / np.maximum(sd, 1e-9))
            out = out - self.price * miss
        return out if self.points or self.threshold is not None else np.broadcast_to(out, np.broadcast(mean, sd).shape)

    @cached_property
    def now(self) -> Array:
        """(n,) points of every candidate as it is forecast; -inf for those that are rejected."""
        return self._of_all(self.mean, self.sd)

    @cached_property
    def hope(self) -> Array:
        """(n,) the same, were its quality three sd better than its forecast and certain."""
        return self._of_all(self.mean + self.sign * 3.0 * self.sd, np.full_like(self.sd, 1e-6))

    def _of_all(self, mean: Array, sd: Array) -> Array:
        index = np.flatnonzero(self.allowed)
        out = np.full(len(self.allowed), -np.inf)
        out[index] = self.utility(index, mean[index], sd[index])
        return out


def stakes(objective: Objective, columns: Columns, decision: Decision, metric_sign: float) -> Stakes:
    """Prepares the utility in points of all candidates that are not rejected."""
    allowed = admitted(columns.rejected)
    link, confidence = columns.quality.link, float(objective.confidence)
    cost = columns.total.mean
    losses = link is Link.LOG
    if objective.goal is Goal.MINIMIZE_COST:
        fixed, points = -100.0 * cost, 0.0
    elif objective.goal is Goal.MAXIMIZE_QUALITY:
        fixed, points = np.zeros_like(cost), 100.0
    else:
        fixed, points = -np.exp(cost) / max(float(objective.point_value or 1), 1e-12), 100.0
    if allowed.any():
        fixed = fixed - fixed[allowed].max()  # quality's own points are not in it
    gap = _LEAST_GAP
    reference = decision.chosen
    if objective.goal is Goal.MINIMIZE_COST and allowed.any():
        gap = max(gap, float(-(fixed[reference] if reference is not None else np.median(fixed[allowed]))))
    price = gap / (1 - confidence)
    fixed = fixed - price * (1 - affordable_probability(objective, columns))
    threshold = None if objective.min_quality is None else float(link.forward(float(objective.min_quality)))
    return Stakes(
        columns.quality.mean,
        columns.quality.sd,
        link,
        metric_sign,
        threshold,
        price,
        -np.inf if threshold is None and not _limited(objective) else -2.0 * gap,
        fixed,
        points,
        losses,
        allowed,
        _clarity(columns, decision, allowed, losses),
    )


def _limited(objective: Objective) -> bool:
    return objective.max_total_cost is not None or objective.max_latency_milliseconds is not None


def _clarity(columns: Columns, decision: Decision, allowed: NDArray[np.bool_], losses: bool) -> Array:
    points = np.full(len(allowed), 100.0) if losses else 100.0 / columns.quality.link.slope(columns.quality.median())
    weight = _TABLE_CLARITY * points * allowed / max(int(allowed.sum()), 1)
    favourite = decision.chosen if decision.chosen is not None else decision.nearest
    if favourite is not None:
        weight[favourite] += _CHOICE_CLARITY * points[favourite]
    return np.asarray(weight)


@dataclass(frozen=True)
class Worth:
    """What one proposal is worth, in points."""

    gain: float  #: expected improvement of the choice
    clarity: float  #: value of the certainty it brings
    change: float  #: probability that the choice changes for the better, by a point at least

    @property
    def points(self) -> float:
        """All of it."""
        return self.gain + self.clarity


def worth(s: Stakes, index: NDArray[np.intp], shifts: Array) -> list[Worth]:
    """Value of each proposal; ``shifts`` (p, len(index)) on the candidates it bears on, all others stay as they are."""
    keep = s.allowed[index]
    index, shifts = index[keep], shifts[:, keep]
    if not len(index):
        return [Worth(0.0, 0.0, 0.0) for _ in shifts]
    mean, sd = s.mean[index], s.sd[index]
    left = np.sqrt(np.maximum(sd**2 - shifts**2, 1e-8))  # (p, n)
    clarity = np.maximum(sd - left, 0.0) @ s.weight[index]
    others = s.now.copy()
    others[index] = -np.inf
    best_other = max(float(others.max()), s.nothing)
    # Only candidates that could come out on top matter: bounded by three sd of optimism.
    hope = s.hope[index]
    live = np.flatnonzero(hope >= max(float(s.now[index].max()), best_other))
    if len(live) > _MOST_RIVALS:
        live = live[np.argsort(-hope[live], kind="stable")[:_MOST_RIVALS]]
    if not len(live):
        return [Worth(0.0, float(c), 0.0) for c in clarity]
    out = []
    for shift, sd_left, clear in zip(shifts[:, live], left[:, live], clarity, strict=True):
        after = s.utility(index[live], mean[live] + NODES[:, None] * shift, sd_left[None])  # (z, live)
        stay = after.mean(axis=0)
        best = int(np.argmax(stay))
        top = np.maximum(after.max(axis=1), best_other)
        held = after[:, best] if stay[best] >= best_other else np.full(len(NODES), best_other)
        gain = float(top.mean()) - max(float(stay[best]), best_other)
        out.append(Worth(gain, float(clear), float(np.mean(top > held + 1.0))))
    return out


def in_points(worth: float) -> str:
    """Worth in words; what a missed objective costs is counted as more points than a metric has.

    >>> in_points(1.62), in_points(271.0)
    ('1.6 points', 'over 100 points')
    """
    return f"{worth:.2g} points" if worth < 99.5 else "over 100 points"
