"""AdaptationPlan's status: the answer, readable by people and machines. Numbers are decimal strings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from orrery.api.base import CamelWord, Commit, Count, Flag, StatusModel, Text, Timestamp, is_empty
from orrery.api.quantities import Money, Number, Share

ShortText = Annotated[str, StringConstraints(max_length=253)]


class Condition(StatusModel):
    """As metav1.Condition."""

    type: CamelWord = Field(
        description="Ready, Reconciling, Stalled, Validated, ProbesCompleted, BudgetAvailable, Feasible or Confirmed."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: CamelWord = Field(description="Why, as one word.")
    message: Annotated[str, StringConstraints(max_length=4096)] = Field(
        "", exclude_if=is_empty, description="Why, as a sentence."
    )
    observed_generation: Count | None = Field(None, description="Generation of the spec that this is about.")
    last_transition_time: Timestamp | None = Field(None, description="When the status last changed.")


class Progress(StatusModel):
    """Probes, by state."""

    planned: Count = Field(0, description="Decided on, not yet started.")
    queued: Count = Field(0, description="Waiting for capacity.")
    running: Count = Field(0, description="Measuring now.")
    succeeded: Count = Field(0, description="With a complete report.")
    failed: Count = Field(0, description="Without one, after the last attempt.")
    reused: Count = Field(0, description="Measured for another plan and not paid again.")
    estimated_remaining_seconds: Count | None = Field(None, description="Until the answer, if all goes as forecast.")


class Spend(StatusModel):
    """What probing cost, and what it saved."""

    currency: ShortText = Field(description="ISO 4217 code, from the price list.")
    cost: Money = Field(description="Paid for finished attempts.")
    reserved: Money = Field(description="Worst case of what runs.")
    deleted_cost: Money | None = Field(None, description="Part of the cost whose probes somebody has deleted since.")
    accelerator_seconds: Number = Field(description="Accelerator time of finished attempts.")
    flops: Number | None = Field(None, description="Floating-point operations of finished attempts.")
    exhaustive_cost: Money | None = Field(None, description="Forecast cost of measuring every candidate in full.")
    exhaustive_accelerator_seconds: Number | None = Field(None, description="Accelerator time of the same.")
    exhaustive_flops: Number | None = Field(None, description="Floating-point operations of the same.")
    saved_percent: Number | None = Field(None, description="Share of the exhaustive cost that was not spent.")


class QualityForecast(StatusModel):
    """In the metric's unit; the interval holds the truth with 90 percent."""

    predicted: Number = Field(description="Median.")
    lower: Number = Field(description="5th percentile.")
    upper: Number = Field(description="95th percentile.")


class CostForecast(StatusModel):
    """Money to adapt once and to serve the workload over the horizon, with the 90 percent interval of the total."""

    adaptation: Money = Field(description="To adapt the model once.")
    serving: Money = Field(description="To serve the workload over the horizon.")
    total: Money = Field(description="Both together.")
    lower: Money = Field(description="5th percentile of the total.")
    upper: Money = Field(description="95th percentile of the total.")
    adaptation_flops: Number | None = Field(None, description="Floating-point operations of adapting.")
    serving_flops: Number | None = Field(None, description="Floating-point operations of serving over the horizon.")
    accelerator_hours: Number | None = Field(None, description="Accelerator time of adapting and serving.")
    cost_of_pass: Number | None = Field(
        None, description="Expected money per right answer over the horizon, for metrics between 0 and 1."
    )


class ConfigurationValue(StatusModel):
    """One parameter."""

    name: ShortText = Field(description="Parameter.")
    value: ShortText = Field(description="Value.")


class Choice(StatusModel):
    """A candidate with its forecasts."""

    model: ShortText = Field(description="Model's name in the plan.")
    strategy: ShortText = Field(description="Strategy's name in the plan.")
    configuration: Annotated[list[ConfigurationValue], Field(max_length=16)] = Field(
        default_factory=list, description="The strategy's parameters."
    )
    accelerator: ShortText = Field(description="Accelerator's name in the plan.")
    quality: QualityForecast = Field(description="Quality in the metric's unit, with its 90 percent interval.")
    cost: CostForecast = Field(description="Money, with the 90 percent interval of the total.")
    latency_milliseconds: Number | None = Field(
        None, description="Latency of a request: of the 95th percentile of answers where their lengths were measured."
    )
    measured: Flag = Field(description="Whether this very configuration was measured in full.")


class Recommendation(Choice):
    """The answer."""

    confidence: Share = Field(description="Probability that it meets the constraints.")
    best_probability: Share | None = Field(None, description="Probability that no other candidate is better.")
    reason: CamelWord = Field(description="Why this one, as one word.")
    message: Text = Field(description="Why this one, as a sentence.")


class Alternative(Choice):
    """A rival and why it lost."""

    rejected_because: Text = Field(description="Why not this one, with the arithmetic.")


class ConfirmationCost(StatusModel):
    """Money and work of the full run."""

    predicted: Money = Field(description="Forecast, load included.")
    actual: Money | None = Field(None, description="Paid for it.")
    predicted_accelerator_seconds: Number | None = Field(None, description="Forecast accelerator time, load included.")
    actual_accelerator_seconds: Number | None = Field(None, description="Accelerator time used.")
    flops: Number | None = Field(None, description="Floating-point operations of training and scoring, forecast.")


class Confirmation(StatusModel):
    """The recommended candidate, run in full: the forecast beside what came of it."""

    candidate: ShortText | None = Field(None, description="What is run, as in the results.")
    predicted: Number | None = Field(None, description="Forecast quality, without the run itself.")
    lower: Number | None = Field(None, description="5th percentile of what the run would measure.")
    upper: Number | None = Field(None, description="95th percentile; both count the sampling error of its items.")
    actual: Number | None = Field(None, description="Measured quality.")
    error: Number | None = Field(None, description="Actual minus predicted.")
    items: Count | None = Field(None, description="Items that it was measured on.")
    cost: ConfirmationCost | None = Field(None, description="Forecast and actual cost of the run.")
    spent: Money = Field(description="Paid for confirming this plan's answers so far.")
    reserved: Money = Field(description="Worst case of a run in flight.")
    accelerator_seconds: Number | None = Field(None, description="Accelerator time used for confirming so far.")
    deleted_cost: Money | None = Field(None, description="Part of what was paid whose probes were deleted since.")
    reason: CamelWord = Field(description="Where it stands, as one word.")
    message: Text = Field(description="Where it stands, as a sentence.")


class FrontierPoint(StatusModel):
    """A candidate that no other beats in both quality and cost."""

    candidate: ShortText = Field(description="Model, strategy, configuration and accelerator in a line.")
    quality: Number = Field(description="Predicted quality.")
    cost: Money = Field(description="Predicted total cost.")


class Revision(StatusModel):
    """A repository of the hub as probes found it: what a branch meant then."""

    kind: Literal["Dataset", "Model"] = Field(description="Dataset or Model.")
    repo: ShortText = Field(description="Repository as OWNER/NAME.")
    revision: ShortText = Field(description="Commit, tag or branch that the plan asks for.")
    commit: Commit = Field(description="Commit that was read: write it as the revision to read the same again.")


class Inputs(StatusModel):
    """What the answer rests on."""

    plan_digest: ShortText = Field(description="SHA-256 of the plan's spec.")
    price_digest: ShortText = Field(description="SHA-256 of the price list's spec.")
    data_digest: ShortText | None = Field(None, description="SHA-256 of the examples that were read.")
    revisions: Annotated[list[Revision], Field(max_length=65)] = Field(
        default_factory=list, description="Commits of the hub's models and data that were read."
    )
    price_date: ShortText | None = Field(None, description="Day of the prices.")
    price_source: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        None, description="Where the prices are from."
    )
    seed: Count = Field(0, description="Seed of samples and training.")
    image: ShortText | None = Field(
        None, description="Image that probes ran, with its digest where their nodes told it."
    )
    version: ShortText | None = Field(None, description="Orrery's version.")


class PlanStatus(StatusModel):
    """The answer."""

    observed_generation: Count | None = Field(None, description="Generation of the spec that this status is about.")
    phase: Literal["Pending", "Probing", "Confirming", "Answered", "Infeasible", "Stalled", "Suspended", "Failed"] = (
        Field("Pending", description="The conditions in a word, for people; programs read the conditions.")
    )
    conditions: Annotated[list[Condition], Field(max_length=16, json_schema_extra={"x-list-map-key": "type"})] = Field(
        default_factory=list, description="What holds now; kstatus reads Ready, Reconciling and Stalled."
    )
    completion_time: Timestamp | None = Field(
        None, description="When this answer was given; ttlSecondsAfterFinished counts from here."
    )
    progress: Progress | None = Field(None, description="Probes, by state.")
    spend: Spend | None = Field(None, description="What probing cost, and what it saved.")
    recommendation: Recommendation | None = Field(None, description="The answer.")
    prediction_error: Number | None = Field(
        None, description="Measured less forecast quality of the recommendation, once it was measured in full."
    )
    alternatives: Annotated[list[Alternative], Field(max_length=10)] = Field(
        default_factory=list, description="The best rivals, and why each lost."
    )
    frontier: Annotated[list[FrontierPoint], Field(max_length=32)] = Field(
        default_factory=list, description="Candidates that no other beats in both quality and cost."
    )
    confirmation: Confirmation | None = Field(None, description="The forecast beside a full run (spec.confirm).")
    inputs: Inputs | None = Field(None, description="What the answer rests on.")
    results_ref: ShortText | None = Field(None, description="ConfigMap (or file) with every row.")
