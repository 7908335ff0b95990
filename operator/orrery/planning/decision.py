"""The answer given the forecasts: who meets the constraints with the asked confidence, and who of them is best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from orrery.api.plan import Goal, Objective
from orrery.api.task import Direction, Metric
from orrery.laws.posterior import Array, Link, Posterior
from orrery.planning.forecasts import Columns
from orrery.planning.gates import admitted

#: Points of the frontier that status holds.
MOST_FRONTIER = 32
#: Configurations that the best is compared with.
MOST_RIVALS = 200
#: Costs that differ by less than this share are the same.
SAME_COST = 0.005
#: Qualities that differ by less than a point (0.01, for losses one percent) are the same: no evaluation of some hundred items
#: tells them apart, and the highest of many uncertain forecasts is high by luck as well.
SAME_QUALITY = 0.01


@dataclass(frozen=True)
class Decision:
    """Indices into the candidates. ``chosen`` meets every constraint; else ``nearest`` comes closest."""

    chosen: int | None
    nearest: int | None
    probability: Array  #: (N,) P(all constraints hold), 0 for rejected candidates
    utility: Array  #: (N,) what the goal maximises; -inf for rejected candidates
    ranking: NDArray[np.intp]  #: candidates that were not rejected, best first
    frontier: NDArray[np.intp]  #: not dominated in expected quality and cost, cheapest first
    _contest: Callable[[], float | None] = field(repr=False)

    @cached_property
    def best_probability(self) -> float | None:
        """P(no other admissible candidate is better); drawn when it is asked for, since most decisions are only imagined."""
        return self._contest()


def sense(metric: Metric) -> float:
    """+1 when more is better, -1 when less is."""
    return 1.0 if metric.sense is Direction.MAXIMIZE else -1.0


def expected_quality(quality: Posterior) -> Array:
    """Mean on the metric's scale, by MacKay's approximation for shares."""
    return mean_on_metric(quality.mean, quality.sd, quality.link)


def mean_on_metric(mean: Array, sd: Array, link: Link) -> Array:
    """Expected metric of a normal on the link scale; broadcasts."""
    if link is Link.LOGIT:
        return link.inverse(mean / np.sqrt(1 + np.pi * sd**2 / 8))
    if link is Link.LOG:
        return np.exp(np.minimum(mean + sd**2 / 2, 700.0))
    return np.asarray(mean, dtype=np.float64)


def utility_of(objective: Objective, sign: float, quality: Array, cost: Array) -> Array:
    """What the goal maximises, from expected quality (metric) and expected cost (money); broadcasts."""
    if objective.goal is Goal.MINIMIZE_COST:
        return -cost + 0.0 * quality
    if objective.goal is Goal.MAXIMIZE_QUALITY:
        return sign * quality + 0.0 * cost
    if objective.point_value is None:  # the model refuses this
        raise ValueError("objective.pointValue is missing")
    return sign * quality * 100.0 * float(objective.point_value) - cost


def quality_probability(objective: Objective, sign: float, quality: Posterior) -> Array:
    """P(quality is good enough), 1 without a threshold."""
    if objective.min_quality is None:
        return np.ones_like(quality.mean)
    above = quality.probability_above(float(objective.min_quality))
    return above if sign > 0 else 1.0 - above


def affordable_probability(objective: Objective, columns: Columns) -> Array:
    """P(cost and latency are within their limits), 1 without limits."""
    p = np.ones_like(columns.total.mean)
    if objective.max_total_cost is not None:
        p = p * (1.0 - columns.total.probability_above(max(float(objective.max_total_cost), 1e-12)))
    if objective.max_latency_milliseconds is not None:
        p = p * (1.0 - columns.latency.probability_above(objective.max_latency_milliseconds / 1000.0))
    return p


def decide(objective: Objective, metric: Metric, columns: Columns) -> Decision:
    """The best candidate among those that meet every constraint with the asked confidence.

    Under MinimizeCost, costs within half a percent are the same. Under MaximizeQuality, qualities within a point are the
    same: then the one that is best with the asked confidence is taken. Ties in utility go to the cheaper, then to the likelier, then to the first in the plan's order: reproducible.
    """
    sign = sense(metric)
    allowed = admitted(columns.rejected)
    quality, cost = expected_quality(columns.quality), columns.total.median()
    probability = np.where(
        allowed,
        quality_probability(objective, sign, columns.quality) * affordable_probability(objective, columns),
        0.0,
    )
    utility = np.where(allowed, utility_of(objective, sign, quality, cost), -np.inf)
    enough = probability >= float(objective.confidence)
    order = np.lexsort((np.arange(len(utility)), -probability, cost, -utility, ~enough))
    if objective.goal is Goal.MINIMIZE_COST and enough.any():
        # No forecast of cost is exact to half a percent: among the cheapest, the best quality is taken.
        tied = enough & (cost <= cost[enough].min() * (1 + SAME_COST))
        first = int(np.lexsort((np.arange(len(utility)), cost, -sign * quality, ~tied))[0])
        order = np.concatenate([[first], order[order != first]])
    if objective.goal is Goal.MAXIMIZE_QUALITY and enough.any():
        unit = SAME_QUALITY if metric.bounded else SAME_QUALITY * float(np.abs(quality[enough]).min())
        tied = enough & (sign * quality >= (sign * quality)[enough].max() - unit)
        sure = sign * columns.quality.mean - ndtri(float(objective.confidence)) * columns.quality.sd
        first = int(np.lexsort((np.arange(len(utility)), cost, -sign * quality, -sure, ~tied))[0])
        order = np.concatenate([[first], order[order != first]])
    ranking = order[allowed[order]]
    chosen = int(ranking[0]) if len(ranking) and enough[ranking[0]] else None
    nearest = None
    if chosen is None and len(ranking):
        closest = np.lexsort((np.arange(len(utility)), cost, -utility, -probability))
        nearest = int(next(i for i in closest if allowed[i]))
        ranking = closest[allowed[closest]]
    return Decision(
        chosen,
        nearest,
        probability,
        utility,
        ranking,
        _frontier(sign * quality, cost, allowed),
        partial(_best_probability, objective, sign, columns, chosen, ranking),
    )


def _frontier(value: Array, cost: Array, allowed: NDArray[np.bool_]) -> NDArray[np.intp]:
    index = np.flatnonzero(allowed)
    order = index[np.lexsort((index, -value[index], cost[index]))]
    best = np.maximum.accumulate(value[order]) if len(order) else value[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = value[order][1:] > best[:-1]
    kept = order[first]
    if len(kept) > MOST_FRONTIER:
        kept = kept[np.unique(np.linspace(0, len(kept) - 1, MOST_FRONTIER).astype(int))]
    return kept


def _best_probability(
    objective: Objective, sign: float, columns: Columns, chosen: int | None, ranking: NDArray[np.intp]
) -> float | None:
    """P(no rival is admissible and better by more than a trifle), configurations taken as independent.

    By seeded draws over the 200 best configurations, each where it ranks first: on another accelerator the same
    configuration gives the same quality, so it is no rival of its own, and no draw depends on how many others there are.
    A trifle is a percent of the cost, or a point: among configurations that are as good as each other none is the best,
    and saying so would only alarm.
    """
    if chosen is None:
        return None
    rivals = ranking[np.sort(np.unique(columns.configured[ranking], return_index=True)[1])[:MOST_RIVALS]]
    z = np.random.default_rng(0).standard_normal((len(rivals), 512)).T
    quality = columns.quality.link.inverse(columns.quality.mean[rivals] + columns.quality.sd[rivals] * z)
    cost = columns.total.median()[rivals]
    value = utility_of(objective, sign, quality, cost)
    if objective.min_quality is not None:
        value = np.where(sign * quality >= sign * float(objective.min_quality), value, -np.inf)
    trifle = SAME_QUALITY if objective.goal is Goal.MAXIMIZE_QUALITY else 0.01 * float(cost[0])
    own = value[:, :1]
    beaten = (value[:, 1:] > own + trifle).any(axis=1)
    return float(np.mean(~beaten & np.isfinite(own[:, 0])))
