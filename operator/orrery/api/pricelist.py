"""PriceList: what accelerator-hours and tokens cost, where the numbers are from, and when."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from orrery.api.base import API_VERSION, ApiModel, Name, ObjectMeta
from orrery.api.plan import CapacityType
from orrery.api.quantities import Money


class AcceleratorPrice(ApiModel):
    """Price of one accelerator for one hour."""

    name: Name = Field(description="Accelerator's name, as plans use it.")
    capacity_type: CapacityType = Field(CapacityType.ON_DEMAND, description="OnDemand or Spot.")
    price_per_hour: Money = Field(description="For one accelerator with its share of the node.")


class TokenPrice(ApiModel):
    """Price of a hosted model's tokens."""

    name: Name = Field(description="Model's name, as plans use it.")
    input_per_million: Money = Field(description="For a million prompt tokens.")
    output_per_million: Money = Field(description="For a million generated tokens.")


class PriceListSpec(ApiModel):
    """Prices in one currency, from one source, of one day."""

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = Field(description="ISO 4217 code.")
    source: Annotated[str, StringConstraints(min_length=1, max_length=512)] = Field(description="Where they are from.")
    date: datetime.date = Field(description="Day the prices were read.")
    accelerators: Annotated[list[AcceleratorPrice], Field(max_length=256)] = Field(default_factory=list)
    hosted_models: Annotated[list[TokenPrice], Field(max_length=256, json_schema_extra={"x-list-map-key": "name"})] = (
        Field(default_factory=list)
    )

    @model_validator(mode="after")
    def _unique(self) -> Self:
        keys = [(a.name, a.capacity_type) for a in self.accelerators]
        for name, capacity in keys:
            if keys.count((name, capacity)) > 1:
                raise ValueError(f"accelerators names '{name}' with {capacity} twice: keep one price for the pair")
        return self


class PriceList(ApiModel):
    """Prices that plans refer to; cluster-scoped, owned by whoever owns the bill."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_version: Literal["orrery.dev/v1alpha1"] = API_VERSION
    kind: Literal["PriceList"] = "PriceList"
    metadata: ObjectMeta
    spec: PriceListSpec
