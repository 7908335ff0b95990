"""What a measurement is worth to the decision, in points: the correlated knowledge gradient over all candidates.

A proposal moves the forecast means by ``shift * z``, z standard normal (Frazier, Powell and Dayanik 2009); its value is
the expected utility of the best candidate after z is seen, less that of the best now. The quadrature over z is the same
before and after, so a value is never negative.

One point is 0.01 of a bounded metric, a hundredth of ln loss, one percent of cost, or ``pointValue`` of money, by goal.
Constraints enter as a price: falling short of the threshold costs G / (1 - confidence) points, G being what the choice
costs above the cheapest candidate. At exactly the asked confidence the expected shortfall then outweighs the whole gain,
which is the rule of the decision; below it the value stays smooth, so that a first small probe is worth something.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from orrery.api.plan import Goal, Objective
from orrery.laws.posterior import Array, Link
from orrery.planning.decision import Decision, affordable_probability, mean_on_metric
from orrery.planning.forecasts import Columns
from orrery.planning.gates import admitted

#: Midpoints of equally likely slices of the standard normal.
NODES = ndtri((np.arange(24) + 0.5) / 24)
#: Least price of the whole constraint, in points: even when the choice is the cheapest, missing the threshold matters.
_LEAST_GAP = 25.0


@dataclass(frozen=True)
class Stakes:
    """The part of the decision that does not depend on a proposal."""

    mean: Array  #: (n,) link scale
    sd: Array
    link: Link
    sign: float
    threshold: float | None  #: link scale
    price: float  #: points for missing the constraints
    fixed: Array  #: (n,) points of cost, and of constraints that no probe of quality can move
    points: float  #: points per unit of the metric (0: quality is no goal)
    log_points: bool  #: quality is counted on the link scale (losses)
    allowed: NDArray[np.bool_]

    def utility(self, index: NDArray[np.intp], mean: Array, sd: Array) -> Array:
        """Points of candidates ``index`` for link-scale means and sds that broadcast to (..., len(index))."""
        out = np.broadcast_to(self.fixed[index], np.broadcast_shapes(mean.shape, sd.shape)).copy()
        if self.points:
            quality = mean + sd**2 / 2 if self.log_points else mean_on_metric(mean, sd, self.link)
            out += self.sign * self.points * quality
        if self.threshold is not None:
            miss = ndtr(self.sign * (self.threshold - mean) / np.maximum(sd, 1e-9))
            out -= self.price * miss
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
        fixed = fixed - fixed[allowed].max()
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
        fixed,
        points,
        losses,
        allowed,
    )


@dataclass(frozen=True)
class Worth:
    """What one proposal is worth: expected points gained, and the probability that the choice changes for the better."""

    points: float
    change: float


def worth(s: Stakes, index: NDArray[np.intp], shifts: Array) -> list[Worth]:
    """Value of each proposal; ``shifts`` (p, len(index)) on the candidates it bears on, all others stay as they are."""
    keep = s.allowed[index]
    index, shifts = index[keep], shifts[:, keep]
    if not len(index):
        return [Worth(0.0, 0.0) for _ in shifts]
    rest = s.allowed.copy()
    rest[index] = False
    other = np.flatnonzero(rest)
    best_other = float(s.utility(other, s.mean[other], s.sd[other]).max()) if len(other) else -np.inf
    mean, sd = s.mean[index], s.sd[index]
    # Only candidates that could come out on top matter: bounded by three sd of optimism.
    now = s.utility(index, mean, sd)
    hope = s.utility(index, mean + s.sign * 3.0 * sd, np.full_like(sd, 1e-6))
    live = np.flatnonzero(hope >= max(float(now.max()), best_other))
    if len(live) > 512:
        live = live[np.argsort(-hope[live], kind="stable")[:512]]
    if not len(live):
        return [Worth(0.0, 0.0) for _ in shifts]
    out = []
    for shift in shifts:
        move = shift[live]
        left = np.sqrt(np.maximum(sd[live] ** 2 - move**2, 1e-8))
        after = s.utility(index[live], mean[live] + NODES[:, None] * move, left[None])  # (z, live)
        stay = after.mean(axis=0)
        best = int(np.argmax(stay))
        current = max(float(stay[best]), best_other)
        top = np.maximum(after.max(axis=1), best_other)
        held = after[:, best] if stay[best] >= best_other else np.full(len(NODES), best_other)
        out.append(Worth(float(top.mean() - current), float(np.mean(top > held + 1.0))))
    return out
