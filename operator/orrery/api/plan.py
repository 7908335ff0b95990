"""AdaptationPlan's spec: the question. Its status (the answer) is in ``status.py``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from orrery.api.base import (
    API_VERSION,
    ApiModel,
    CamelWord,
    Count,
    Flag,
    Name,
    ObjectMeta,
    ObjectName,
    PositiveCount,
    refusal,
    refuse,
    repeated,
)
from orrery.api.machines import Accelerator, ModelCache, ProbeTemplate, Scheduling, SecretKeyRef
from orrery.api.models import Model
from orrery.api.quantities import Money, Number, Share, on_wire
from orrery.api.status import PlanStatus
from orrery.api.task import MetricName, Task


def _grid_value(value: Any, info: ValidationInfo) -> str:
    if isinstance(value, bool):
        if on_wire(info):
            raise ValueError(f"is the boolean {str(value).lower()}: write it in quotes, '{str(value).lower()}'")
        return "true" if value else "false"
    if isinstance(value, float):
        raise ValueError(f"is the float {value!r}: write it as a string in quotes, such as '{value!r}'")
    if not isinstance(value, (int, str)):
        raise ValueError(f"is {value!r}: write a string in quotes or a whole number")
    return str(value)


GridValue = Annotated[
    str,
    BeforeValidator(_grid_value),
    StringConstraints(min_length=1, max_length=64),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 64}),
]


class GridAxis(ApiModel):
    """One parameter of a strategy and the values to consider."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][A-Za-z0-9]*$", max_length=48)] = Field(
        description="Parameter, such as learningRate, rank, epochs, dataPercent, shots, retriever."
    )
    values: Annotated[
        list[GridValue], Field(min_length=1, max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field(description="Values; numbers with a fraction as strings ('2e-4').")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        refuse(repeated("values", self.values))
        return self


class StrategySpec(ApiModel):
    """A way to adapt every model, and the configurations to consider."""

    name: Name = Field(description="Name in this plan.")
    type: CamelWord = Field(
        description="Strategy plug-in: ZeroShot, InContext, LoRA, QLoRA, FullFineTuning, FineTuneThenInContext, or another installed one."
    )
    grid: Annotated[list[GridAxis], Field(max_length=16, json_schema_extra={"x-list-map-key": "name"})] = Field(
        default_factory=list, description="Axes; the configurations are their product. Defaults come from the strategy."
    )


class Exclusion(ApiModel):
    """A pair that is not considered."""

    model: Name = Field(description="Model's name in this plan.")
    strategy: Name = Field(description="Strategy's name in this plan.")


class Capacity(StrEnum):
    """How serving is paid for."""

    PER_USE = "PerUse"
    PROVISIONED = "Provisioned"


class Workload(ApiModel):
    """What will be served: decides what longer prompts cost."""

    requests_per_day: Count = Field(description="Mean requests a day.")
    input_tokens: PositiveCount | None = Field(
        None, description="Mean tokens of a request without demonstrations; measured on the dataset by default."
    )
    output_tokens: PositiveCount | None = Field(
        None, description="Mean tokens of an answer, until probes have seen the model write its own."
    )
    hourly_profile: Annotated[list[Count], Field(max_length=24)] | None = Field(
        None, description="Relative traffic of the day's 24 hours; even by default."
    )
    burst_factor: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(
        1,
        description="Busiest minutes' rate over their hour's mean; measure it, since real traffic is bursty (BurstGPT).",
    )
    batch_size: Annotated[int, Field(strict=True, ge=1, le=1024)] = Field(
        1, description="Requests whose answers are generated together."
    )
    prompt_caching: Flag = Field(
        False,
        description="Keys and values of what all prompts begin with are kept, and cheap where a host prices them.",
    )
    capacity: Capacity = Field(
        Capacity.PER_USE,
        description="PerUse pays busy seconds; Provisioned pays for what the peak needs, day and night.",
    )
    horizon_days: Annotated[int, Field(strict=True, ge=1, le=3650)] = Field(
        365, description="Days over which serving is paid for."
    )

    @model_validator(mode="after")
    def _whole_day(self) -> Self:
        hours = self.hourly_profile
        if hours is not None and (len(hours) != 24 or not any(hours)):
            raise refusal(
                "hourlyProfile",
                f"has {len(hours)} hours that sum to {sum(hours)}: write 24 weights, not all of them zero",
            )
        return self


class Goal(StrEnum):
    """What the best candidate is."""

    MINIMIZE_COST = "MinimizeCost"
    MAXIMIZE_QUALITY = "MaximizeQuality"
    WEIGHTED = "Weighted"


class Objective(ApiModel):
    """What a good answer is, and how sure it must be."""

    goal: Goal = Field(Goal.MINIMIZE_COST, description="MinimizeCost needs minQuality; Weighted needs pointValue.")
    min_quality: Number | None = Field(None, description="Least acceptable quality, in the metric's unit.")
    max_total_cost: Money | None = Field(None, description="Most that adaptation and serving may cost together.")
    max_latency_milliseconds: PositiveCount | None = Field(None, description="Longest acceptable mean latency.")
    point_value: Money | None = Field(
        None, description="Worth of one point (0.01) of quality over the horizon (Weighted)."
    )
    confidence: Share = Field(
        default="0.9", validate_default=True, description="Probability with which constraints hold."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        faults = []
        if self.goal is Goal.MINIMIZE_COST and self.min_quality is None:
            said = "is missing: write the least acceptable quality, such as '0.85', which goal MinimizeCost needs"
            faults.append(("minQuality", said))
        if self.goal is Goal.WEIGHTED and self.point_value is None:
            said = "is missing: write the worth of a point of quality, such as '10', which goal Weighted needs"
            faults.append(("pointValue", said))
        if not 0 < self.confidence < 1:
            said = f"is '{self.confidence}': write a share above '0' and below '1', such as '0.9'"
            faults.append(("confidence", said))
        refuse(faults)
        return self


class OnExceeded(StrEnum):
    """What happens when the budget is spent before the answer is sure."""

    RECOMMEND = "Recommend"
    FAIL = "Fail"


class Budget(ApiModel):
    """Hard limits on probing, held by reservation."""

    max_probe_cost: Money = Field(description="Most that probing may cost, in the price list's currency.")
    max_accelerator_seconds: PositiveCount | None = Field(None, description="Most accelerator time probing may take.")
    on_exceeded: OnExceeded = Field(OnExceeded.RECOMMEND, description="Recommend with what is known, or Fail.")


class ConfirmMode(StrEnum):
    """Whether the recommended candidate is run in full after the answer."""

    NEVER = "Never"
    AUTOMATIC = "Automatic"


class ConfirmBudget(ApiModel):
    """Hard limits on confirming, apart from the budget for probing and held by reservation too."""

    max_cost: Money = Field(description="Most that confirming may cost, in the price list's currency.")
    max_accelerator_seconds: PositiveCount | None = Field(None, description="Most accelerator time it may take.")


class Confirm(ApiModel):
    """Whether the recommended candidate is run in full once, and its forecast compared with what came of it."""

    mode: ConfirmMode = Field(ConfirmMode.NEVER, description="Automatic needs a budget.")
    budget: ConfirmBudget | None = Field(None, description="What confirming may cost.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.mode is ConfirmMode.AUTOMATIC and self.budget is None:
            raise refusal("budget", "is missing: write what confirming may cost, such as {maxCost: '5'}")
        return self


class PriceListRef(ApiModel):
    """Reference to a cluster-scoped PriceList."""

    name: ObjectName = Field(description="PriceList's name.")


class Pricing(ApiModel):
    """Where prices come from."""

    price_list_ref: PriceListRef = Field(description="The PriceList; its currency is the plan's.")


class Probing(ApiModel):
    """How measuring is done. The defaults are meant to be left alone."""

    parallelism: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(2, description="Probes at a time.")
    max_probes: Annotated[int, Field(strict=True, ge=1, le=1024)] = Field(64, description="Most probes of this plan.")
    evaluation_items: Annotated[int, Field(strict=True, ge=1, le=8192)] = Field(
        200, description="Items a quality is measured on."
    )
    fidelities: Annotated[list[PositiveCount], Field(max_length=12)] = Field(
        default_factory=lambda: [16, 64], description="Training examples of the cheap fine-tuning probes, ascending."
    )
    seed: Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)] = Field(0, description="Seed of samples and training.")
    seeds: Annotated[int, Field(strict=True, ge=1, le=8)] = Field(
        1, description="Seeds a noisy measurement may be repeated with."
    )
    retries: Annotated[int, Field(strict=True, ge=0, le=10)] = Field(
        1, description="Further attempts of a failed probe."
    )
    deadline_seconds: Annotated[int, Field(strict=True, ge=1, le=604800)] = Field(
        1800, description="Longest a probe may run; its worst case."
    )
    predictor: CamelWord = Field(
        "Ensemble",
        description="Forecaster of fine-tuning: Ensemble, or one learning-curve law, such as Pooled, RectifiedLaw, PowerLaw, "
        "NTKRectified, AcceptThenStop, LastTwoPoints or another installed one.",
    )
    designer: CamelWord = Field(
        "ExpectedValue",
        description="How the next probe is chosen: ExpectedValue, SuccessiveHalving, ASHA, EarlyLoss, AcceptThenStop, Uniform, "
        "Random or another installed one.",
    )

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if sorted(set(self.fidelities)) != self.fidelities:
            raise refusal(
                "fidelities",
                f"is {self.fidelities}: write distinct sizes in ascending order, {sorted(set(self.fidelities))}",
            )
        return self


class PlanSpec(ApiModel):
    """The question."""

    suspend: Flag = Field(False, description="Start nothing new; running probes end.")
    active_deadline_seconds: PositiveCount | None = Field(None, description="Longest the plan may probe.")
    ttl_seconds_after_finished: Count | None = Field(None, description="Delete the plan this long after its answer.")
    task: Task = Field(description="What is asked, on which data, scored how.")
    models: Annotated[list[Model], Field(min_length=1, max_length=64, json_schema_extra={"x-list-map-key": "name"})] = (
        Field(description="Candidate models.")
    )
    strategies: Annotated[
        list[StrategySpec], Field(min_length=1, max_length=32, json_schema_extra={"x-list-map-key": "name"})
    ] = Field(description="Ways to adapt each of them.")
    exclude: Annotated[
        list[Exclusion], Field(max_length=256, json_schema_extra={"x-list-map-key": ["model", "strategy"]})
    ] = Field(default_factory=list, description="Pairs left out.")
    workload: Workload = Field(description="What will be served.")
    objective: Objective = Field(description="What a good answer is.")
    budget: Budget = Field(description="Hard limits on probing.")
    confirm: Confirm = Field(default_factory=Confirm, description="Check of the answer by a full run.")
    pricing: Pricing = Field(description="Where prices come from.")
    accelerators: Annotated[
        list[Accelerator], Field(min_length=1, max_length=16, json_schema_extra={"x-list-map-key": "name"})
    ] = Field(description="Hardware; probes run on the first that fits.")
    probing: Probing = Field(default_factory=Probing, description="How measuring is done.")
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Passed to the probes' Jobs.")
    model_cache: ModelCache | None = Field(None, description="Volume that keeps downloaded weights.")
    hf_token_secret_ref: SecretKeyRef | None = Field(None, description="Token for gated repositories.")
    probe_template: ProbeTemplate = Field(default_factory=ProbeTemplate, description="Overrides for the probes' Pods.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = [
            *repeated("models", [m.name for m in self.models]),
            *repeated("strategies", [s.name for s in self.strategies]),
            *repeated("accelerators", [a.name for a in self.accelerators]),
        ]
        for s in self.strategies:
            faults += repeated(f"strategies[{s.name}].grid", [a.name for a in s.grid])
        faults += repeated("exclude", [f"{e.model}/{e.strategy}" for e in self.exclude])
        models, strategies = {m.name for m in self.models}, {s.name for s in self.strategies}
        for kind, name, known in (
            *(("model", e.model, models) for e in self.exclude),
            *(("strategy", e.strategy, strategies) for e in self.exclude),
        ):
            if name not in known:
                faults.append(("exclude", f"names the {kind} '{name}': write one of {', '.join(sorted(known))}"))
        wanted, metric = self.objective.min_quality, self.task.metric.name
        if wanted is not None and wanted > 1 and metric is not MetricName.NEGATIVE_LOG_LIKELIHOOD:
            example = f"{wanted / 100:.2f}" if wanted <= 100 else "0.90"
            said = f"is '{wanted}', and {metric} is at most 1: write a share such as '{example}'"
            faults.append(("objective.minQuality", said))
        refuse(faults)
        return self


class AdaptationPlan(ApiModel):
    """A question to Orrery: which model, adapted how, gives the quality we need at the least money?"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_version: Literal["orrery.dev/v1alpha1"] = Field(API_VERSION, description="orrery.dev/v1alpha1.")
    kind: Literal["AdaptationPlan"] = Field("AdaptationPlan", description="AdaptationPlan.")
    metadata: ObjectMeta = Field(description="Kubernetes' metadata.")
    spec: PlanSpec = Field(description="The question.")
    status: PlanStatus | None = Field(None, description="The answer; written by Orrery alone.")
