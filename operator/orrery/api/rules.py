"""Rules over several fields in CEL, so that the API server refuses what the models refuse, with a sentence that mends it.

The models stay the authority: each rule mirrors a validator, and a test holds both against the same instances. Rules over
one field are bounds and patterns in the schema itself. Everything a rule walks over is bounded there too, which is what
keeps the API server's estimate of a rule's cost within its budget. That estimate takes an int-or-string for as long as a
whole request, whatever bound it has, so no rule looks into a grid's values: their list is a set instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from orrery.api.adaptation_budget import AdaptationBudgetSpec
from orrery.api.base import ApiModel
from orrery.api.plan import Confirm, Objective, PlanSpec, Probing
from orrery.api.pricelist import CURRENCIES, PriceListSpec
from orrery.api.probe import Fidelity, ProbeSpec
from orrery.api.sources import DataSource, ModelSource, VolumeSource
from orrery.api.task import Metric, Task, Template


@dataclass(frozen=True)
class Rule:
    """One entry of ``x-kubernetes-validations``: a CEL expression over ``self`` and what to write if it is false."""

    rule: str
    message: str
    field: str | None = None  #: the field to point at, below ``self``, such as ``.minQuality``

    def to_wire(self) -> dict[str, str]:
        """As the API server reads it."""
        pointer = {"fieldPath": self.field} if self.field else {}
        return {"rule": self.rule, "message": self.message, **pointer}


def _exactly_one(source: type[ApiModel]) -> tuple[Rule, ...]:
    names = [field.alias or name for name, field in source.model_fields.items()]
    given = ", ".join(f"has(self.{name})" for name in names)
    in_cluster = [name for name in names if name != "local"]
    return (
        Rule(f"[{given}].filter(x, x).size() == 1", f"write exactly one of {', '.join(names)}"),
        Rule(
            "!has(self.local)", f"local works with `orrery run` alone: write one of {', '.join(in_cluster)}", ".local"
        ),
    )


RULES: dict[type, tuple[Rule, ...]] = {
    ModelSource: _exactly_one(ModelSource),
    DataSource: _exactly_one(DataSource),
    VolumeSource: (
        Rule(
            r"!self.path.startsWith('/') && !self.path.matches('(^|/)[.][.](/|$)')",
            "the path leaves its volume: write a relative path without '..'",
            ".path",
        ),
    ),
    Metric: (
        Rule(
            "!has(self.direction) || (self.direction == 'Minimize') == (self.name == 'NegativeLogLikelihood')",
            "NegativeLogLikelihood is minimized and every other metric maximized: leave direction out",
            ".direction",
        ),
    ),
    Template: (
        Rule(
            "self.example.indexOf('{input}') >= 0 && "
            "self.example.indexOf('{input}') == self.example.lastIndexOf('{input}')",
            "write the placeholder {input} exactly once, such as 'Question: {input} Answer:'",
            ".example",
        ),
    ),
    Fidelity: (
        Rule(
            "(self.method == 'Early') == has(self.schedulePercent)",
            "write schedulePercent with method Early, such as 10, and leave it out with any other",
            ".schedulePercent",
        ),
    ),
    Task: (
        Rule(
            "self.type != 'MultipleChoice' || has(self.dataset.columns.options) || has(self.dataset.source.builtin)",
            "a MultipleChoice task needs the name of the options' column: write dataset.columns.options",
            ".dataset.columns",
        ),
        Rule(
            "self.type == 'Generation' || self.metric.name != 'TokenF1'",
            "TokenF1 scores Generation tasks: write Accuracy or ExactMatch",
            ".metric",
        ),
    ),
    Objective: (
        Rule(
            "self.goal != 'MinimizeCost' || has(self.minQuality)",
            "goal MinimizeCost needs minQuality: write the least acceptable quality, such as '0.85'",
            ".minQuality",
        ),
        Rule(
            "self.goal != 'Weighted' || has(self.pointValue)",
            "goal Weighted needs pointValue: write what one point (0.01) of quality is worth, such as '10'",
            ".pointValue",
        ),
        Rule(
            "double(self.confidence) > 0.0 && double(self.confidence) < 1.0",
            "write a share above '0' and below '1', such as '0.9'",
            ".confidence",
        ),
    ),
    Probing: (
        Rule(
            "self.fidelities.isSorted() && self.fidelities.all(x, self.fidelities.exists_one(y, y == x))",
            "write distinct sizes in ascending order, such as [16, 64]",
            ".fidelities",
        ),
    ),
    PlanSpec: (
        Rule(
            "!has(self.exclude) || self.exclude.all(e, self.models.exists(m, m.name == e.model))",
            "an entry names a model that the plan does not have: write the name of one of spec.models",
            ".exclude",
        ),
        Rule(
            "!has(self.exclude) || self.exclude.all(e, self.strategies.exists(s, s.name == e.strategy))",
            "an entry names a strategy that the plan does not have: write the name of one of spec.strategies",
            ".exclude",
        ),
        Rule(
            "!has(self.objective.minQuality) || self.task.metric.name == 'NegativeLogLikelihood' || "
            "double(self.objective.minQuality) <= 1.0",
            "the metric is at most 1: write a share such as '0.90'",
            ".objective.minQuality",
        ),
    ),
    Confirm: (
        Rule(
            "self.mode != 'Automatic' || has(self.budget)",
            "mode Automatic needs a budget: write what confirming may cost, such as {maxCost: '5'}",
            ".budget",
        ),
    ),
    AdaptationBudgetSpec: (
        Rule(
            "has(self.maxProbeCost) || has(self.maxAcceleratorSeconds)",
            "a budget without a cap: write maxProbeCost, such as '100', or maxAcceleratorSeconds",
            ".maxProbeCost",
        ),
    ),
    PriceListSpec: (
        Rule(
            f"self.currency in {sorted(CURRENCIES)}",
            "write an ISO 4217 code of money that is in use, such as USD or EUR",
            ".currency",
        ),
    ),
    ProbeSpec: (
        Rule(
            "self == oldSelf",
            "a probe's spec never changes, since its name is the hash of what it measures: write another probe",
        ),
    ),
}
