"""AdaptationPlan's status: the answer, readable by people and machines. Numbers are decimal strings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from orrery.api.base import CamelWord, Count, StatusModel, Text
from orrery.api.quantities import Money, Number, Share

ShortText = Annotated[str, StringConstraints(max_length=253)]


class Condition(StatusModel):
    """As metav1.Condition."""

    type: CamelWord
    status: Literal["True", "False", "Unknown"]
    reason: CamelWord
    message: Annotated[str, StringConstraints(max_length=4096)] = ""
    observed_generation: int | None = None
    last_transition_time: Annotated[str, StringConstraints(max_length=32)] | None = None


class Progress(StatusModel):
    """Probes, by state."""

    planned: Count = 0
    queued: Count = 0
    running: Count = 0
    succeeded: Count = 0
    failed: Count = 0
    reused: Count = 0
    estimated_remaining_seconds: Count | None = None


class Spend(StatusModel):
    """What probing cost, and what it saved."""

    currency: ShortText
    cost: Money = Field(description="Paid for finished attempts.")
    reserved: Money = Field(description="Worst case of what runs.")
    accelerator_seconds: Number
    flops: Number | None = None
    exhaustive_cost: Money | None = Field(None, description="Forecast cost of measuring every candidate in full.")
    saved_percent: Number | None = None


class QualityForecast(StatusModel):
    """In the metric's unit; the interval holds the truth with 90 %."""

    predicted: Number
    lower: Number
    upper: Number


class CostForecast(StatusModel):
    """Money to adapt once and to serve the workload over the horizon; the interval of the total holds with 90 %."""

    adaptation: Money
    serving: Money
    total: Money
    lower: Money
    upper: Money
    adaptation_flops: Number | None = None
    serving_flops: Number | None = None
    accelerator_hours: Number | None = None


class ConfigurationValue(StatusModel):
    """One parameter."""

    name: ShortText
    value: ShortText


class Choice(StatusModel):
    """A candidate with its forecasts."""

    model: ShortText
    strategy: ShortText
    configuration: list[ConfigurationValue] = Field(default_factory=list, max_length=16)
    accelerator: ShortText
    quality: QualityForecast
    cost: CostForecast
    latency_milliseconds: Number | None = None
    measured: bool = Field(description="Whether this very configuration was measured in full.")


class Recommendation(Choice):
    """The answer."""

    confidence: Share = Field(description="Probability that it meets the constraints.")
    best_probability: Share | None = Field(None, description="Probability that no other candidate is better.")
    reason: CamelWord
    message: Text


class Alternative(Choice):
    """A rival and why it lost."""

    rejected_because: Text


class FrontierPoint(StatusModel):
    """A candidate that no other beats in both quality and cost."""

    candidate: ShortText
    quality: Number
    cost: Money


class Inputs(StatusModel):
    """What the answer rests on."""

    plan_digest: ShortText
    price_digest: ShortText
    data_digest: ShortText | None = None
    price_date: ShortText | None = None
    price_source: Annotated[str, StringConstraints(max_length=512)] | None = None
    seed: Count = 0
    image: ShortText | None = None
    version: ShortText | None = None


class PlanStatus(StatusModel):
    """The answer."""

    observed_generation: int | None = None
    phase: Literal["Pending", "Probing", "Answered", "Infeasible", "Stalled", "Suspended", "Failed"] = "Pending"
    conditions: Annotated[list[Condition], Field(max_length=16, json_schema_extra={"x-list-map-key": "type"})] = Field(
        default_factory=list
    )
    progress: Progress | None = None
    spend: Spend | None = None
    recommendation: Recommendation | None = None
    alternatives: Annotated[list[Alternative], Field(max_length=10)] = Field(default_factory=list)
    frontier: Annotated[list[FrontierPoint], Field(max_length=32)] = Field(default_factory=list)
    inputs: Inputs | None = None
    results_ref: ShortText | None = Field(None, description="ConfigMap (or file) with every row.")
