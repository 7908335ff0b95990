"""Why each candidate is where it is, in a sentence with its arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orrery.api.plan import Goal, Objective
from orrery.api.task import Metric
from orrery.laws.posterior import Array
from orrery.planning.decision import SAME_COST, Decision, expected_quality, quality_probability, sense
from orrery.planning.forecasts import Columns


def amount(value: float) -> str:
    """Money for a sentence: two decimals above one, two digits below.

    >>> amount(3.204), amount(0.00123), amount(12345.6)
    ('3.20', '0.0012', '12,345.60')
    """
    if value == 0 or abs(value) >= 1:
        return f"{value:,.2f}"
    return f"{value:.2g}" if abs(value) >= 1e-4 else f"{value:.1e}"


def chance(probability: float) -> str:
    """A probability for a sentence: a forecast is neither certain nor impossible.

    >>> chance(0.974), chance(0.9981), chance(0.0004)
    ('97%', '>99%', '<1%')
    """
    if probability >= 0.995:
        return ">99%"
    return "<1%" if probability < 0.005 else f"{probability:.0%}"


def quality_text(metric: Metric, value: float) -> str:
    """Quality for a sentence: three decimals.

    >>> quality_text(Metric(), 0.8567)
    '0.857'
    """
    return f"{value:.3f}"


@dataclass(frozen=True)
class Reasons:
    """Writes the sentences of one decision."""

    objective: Objective
    metric: Metric
    columns: Columns
    decision: Decision
    currency: str
    quality: Array  #: expected, by which candidates are compared
    median: Array  #: of the quality: what tables show, and what stands beside its bounds
    cost: Array
    bounds: tuple[Array, Array]  #: of the quality, with 90 %
    reaches: Array  #: P(quality is good enough)

    @staticmethod
    def of(objective: Objective, metric: Metric, columns: Columns, decision: Decision, currency: str) -> Reasons:
        """Everything the sentences need, computed once."""
        return Reasons(
            objective,
            metric,
            columns,
            decision,
            currency,
            expected_quality(columns.quality),
            columns.quality.median(),
            columns.total.median(),
            columns.quality.interval(0.9),
            quality_probability(objective, sense(metric), columns.quality),
        )

    def rejected_because(self, i: int) -> str:
        """Why candidate ``i`` is not the answer; for one that nothing rejects, what it lacks against the choice."""
        gate = self.columns.rejected[i]
        if gate is not None:
            return str(gate)
        missed = self._missed(i)
        if missed:
            return missed
        reference = self.decision.chosen
        if reference is None or reference == i:
            return "no rival meets the constraints better"
        return self._compared(i, reference)

    def why_chosen(self, i: int) -> str:
        """What the answer rests on."""
        q, c = quality_text(self.metric, float(self.median[i])), amount(float(self.cost[i]))
        how = "measured in full" if self.columns.measured[i] else "forecast"
        asked = float(self.objective.confidence)
        constraints = self._constraints()
        held = (
            f"; {constraints} holds with {chance(self.decision.probability[i])}, {asked:.0%} asked"
            if constraints
            else ""
        )
        best = {
            Goal.MINIMIZE_COST: "cheapest that meets the objective",
            Goal.MAXIMIZE_QUALITY: "best quality within the limits",
            Goal.WEIGHTED: "best quality less cost",
        }[self.objective.goal]
        return f"{best}: quality {q} ({how}) for {c} {self.currency}{held}"

    def _constraints(self) -> str:
        o = self.objective
        parts = []
        if o.min_quality is not None:
            parts.append(f"quality {'>=' if sense(self.metric) > 0 else '<='} {o.min_quality}")
        if o.max_total_cost is not None:
            parts.append(f"cost <= {o.max_total_cost} {self.currency}")
        if o.max_latency_milliseconds is not None:
            parts.append(f"latency <= {o.max_latency_milliseconds} ms")
        return " and ".join(parts)

    def _missed(self, i: int) -> str:
        """The constraints a candidate misses at the asked confidence, or nothing."""
        o, asked = self.objective, float(self.objective.confidence)
        if self.decision.probability[i] >= asked:
            return ""
        parts = []
        if o.min_quality is not None and self.reaches[i] < asked:
            lower, upper = (float(v[i]) for v in self.bounds)
            parts.append(
                f"meets {o.min_quality} with {chance(self.reaches[i])}, {asked:.0%} asked "
                f"(quality {quality_text(self.metric, float(self.median[i]))}, {lower:.3f} to {upper:.3f})"
            )
        if o.max_total_cost is not None and self.cost[i] > float(o.max_total_cost):
            over = float(self.cost[i]) - float(o.max_total_cost)
            parts.append(
                f"costs {amount(float(self.cost[i]))} {self.currency}, {amount(over)} above the {o.max_total_cost} allowed"
            )
        milliseconds = 1000.0 * float(np.exp(self.columns.latency.mean[i]))
        if o.max_latency_milliseconds is not None and milliseconds > o.max_latency_milliseconds:
            parts.append(f"answers in {milliseconds:,.0f} ms, {o.max_latency_milliseconds} allowed")
        if not parts:
            parts.append(f"meets all constraints with {chance(self.decision.probability[i])}, {asked:.0%} asked")
        return "; ".join(parts)

    def _compared(self, i: int, reference: int) -> str:
        """Difference in cost and quality from the choice."""
        sign = sense(self.metric)
        dearer = float(self.cost[i] - self.cost[reference])
        better = sign * float(self.quality[i] - self.quality[reference])
        bounded = self.metric.bounded
        gain = f"{abs(better) * 100:.1f} points" if bounded else f"{abs(better):.3f} {self.metric.name}"
        price = f"{amount(abs(dearer))} {self.currency}"
        o = self.objective
        same_cost = abs(dearer) < SAME_COST * max(float(self.cost[reference]), 1e-9)
        same_quality = abs(better) * 100 < 0.05 if bounded else abs(better) < 5e-4
        if same_cost:
            lead = "costs the same"
            return (
                f"{lead} and is as good: the first of equals is chosen"
                if same_quality
                else (
                    f"{lead} and is {gain} worse"
                    if better < 0
                    else f"{lead} and is {gain} better, but {self._less_sure()}"
                )
            )
        if dearer >= 0 and better <= 0:
            return (
                f"costs {price} more for the same quality"
                if same_quality
                else f"costs {price} more and is {gain} worse"
            )
        if dearer >= 0:
            text = f"costs {price} more for {gain}"
            if o.goal is Goal.MAXIMIZE_QUALITY:
                text += f", but {self._less_sure()}"
            if o.goal is Goal.WEIGHTED and o.point_value is not None:
                text += f", which are worth {amount(better * 100 * float(o.point_value))} {self.currency}"
            return text
        if better < 0:
            text = f"is {gain} worse and saves {price}"
            if o.goal is Goal.WEIGHTED and o.point_value is not None:
                text += f", while the points are worth {amount(-better * 100 * float(o.point_value))} {self.currency}"
            return text
        return f"saves {price} and is {gain} better, but {self._less_sure()}"

    def _less_sure(self) -> str:
        """Why a rival with the better expected quality is not taken."""
        if self.objective.goal is Goal.MAXIMIZE_QUALITY:
            return "is less sure of it: within a point the surer forecast is taken"
        return "holds the constraints less surely"
