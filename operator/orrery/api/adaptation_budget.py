"""AdaptationBudget: what all plans of a namespace together may spend on probing in a calendar month."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from orrery.api.base import (
    API_VERSION,
    ApiModel,
    Count,
    ObjectMeta,
    ObjectName,
    PositiveCount,
    StatusModel,
    Timestamp,
    refusal,
)
from orrery.api.quantities import Money, Number
from orrery.api.status import Condition

Month = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}$", max_length=7)]
#: Attempts in flight that a status can hold; more wait.
MOST_HOLDS = 2048


class AdaptationBudgetSpec(ApiModel):
    """Caps of a month; it begins at 00:00 UTC of its first day. At least one of them."""

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$", max_length=3)] = Field(
        description="ISO 4217 code of maxProbeCost; plans whose price list has another one start no probe."
    )
    max_probe_cost: Money | None = Field(None, description="Most that probing may cost in a month.")
    max_accelerator_seconds: PositiveCount | None = Field(
        None, description="Most accelerator time that probing may take in a month."
    )

    @model_validator(mode="after")
    def _caps(self) -> Self:
        if self.max_probe_cost is None and self.max_accelerator_seconds is None:
            raise refusal("maxProbeCost", "is missing: write an amount, such as '100', or maxAcceleratorSeconds")
        return self


class Hold(StatusModel):
    """A reservation of one attempt that has not ended."""

    job: Annotated[str, StringConstraints(max_length=63)] = Field(description="The attempt's Job.")
    plan: ObjectName = Field(description="Plan that pays.")
    cost: Money = Field(description="Worst case in money.")
    accelerator_seconds: Number = Field(description="Worst case in accelerator time.")
    deadline_seconds: PositiveCount = Field(description="Longest that it runs.")
    at: Timestamp = Field(description="When it was set aside.")


class AdaptationBudgetStatus(StatusModel):
    """The month's account. An attempt counts in the month in which it was reserved."""

    observed_generation: Count | None = Field(None, description="Generation of the spec that this status is about.")
    month: Month | None = Field(None, description="Month of the account, UTC.")
    renews_at: Timestamp | None = Field(None, description="When the next month begins.")
    spent: Money | None = Field(None, description="Paid for attempts that have ended.")
    reserved: Money | None = Field(None, description="Worst case of those in flight.")
    spent_accelerator_seconds: Number | None = Field(None, description="Accelerator time of attempts that have ended.")
    reserved_accelerator_seconds: Number | None = Field(None, description="Worst case of those in flight.")
    holds: Annotated[list[Hold], Field(max_length=MOST_HOLDS, json_schema_extra={"x-list-map-key": "job"})] = Field(
        default_factory=list, description="Reservations in flight."
    )
    conditions: Annotated[list[Condition], Field(max_length=16, json_schema_extra={"x-list-map-key": "type"})] = Field(
        default_factory=list, description="Ready: the account is kept. Available: something is left of every cap."
    )


class AdaptationBudget(ApiModel):
    """A monthly cap on probing over all plans of its namespace; where there are several, all of them hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_version: Literal["orrery.dev/v1alpha1"] = Field(API_VERSION, description="orrery.dev/v1alpha1.")
    kind: Literal["AdaptationBudget"] = Field("AdaptationBudget", description="AdaptationBudget.")
    metadata: ObjectMeta = Field(description="Kubernetes' metadata.")
    spec: AdaptationBudgetSpec = Field(description="The caps.")
    status: AdaptationBudgetStatus | None = Field(None, description="The account; written by Orrery alone.")
