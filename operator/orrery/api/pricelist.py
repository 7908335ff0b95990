"""PriceList: what accelerator-hours and tokens cost, where the numbers are from, and when."""

from __future__ import annotations

import contextlib
import datetime
import difflib
import re
from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from orrery.api.base import API_VERSION, ApiModel, Name, ObjectMeta, refuse, repeated
from orrery.api.machines import CapacityType
from orrery.api.quantities import Money


def _day(value: object) -> object:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        with contextlib.suppress(ValueError):  # the 31st of February
            return datetime.date.fromisoformat(value)
    raise ValueError(f"is {value!r}: write a day as YEAR-MONTH-DAY, such as '2026-01-31'")


#: A calendar day. A bare number is refused: it would be read as seconds since 1970.
Day = Annotated[datetime.date, BeforeValidator(_day)]


#: ISO 4217: the codes of money that is in use.
CURRENCIES = frozenset(
    [
        "AED",
        "AFN",
        "ALL",
        "AMD",
        "ANG",
        "AOA",
        "ARS",
        "AUD",
        "AWG",
        "AZN",
        "BAM",
        "BBD",
        "BDT",
        "BGN",
        "BHD",
        "BIF",
        "BMD",
        "BND",
        "BOB",
        "BRL",
        "BSD",
        "BTN",
        "BWP",
        "BYN",
        "BZD",
        "CAD",
        "CDF",
        "CHF",
        "CLP",
        "CNY",
        "COP",
        "CRC",
        "CUP",
        "CVE",
        "CZK",
        "DJF",
        "DKK",
        "DOP",
        "DZD",
        "EGP",
        "ERN",
        "ETB",
        "EUR",
        "FJD",
        "FKP",
        "GBP",
        "GEL",
        "GHS",
        "GIP",
        "GMD",
        "GNF",
        "GTQ",
        "GYD",
        "HKD",
        "HNL",
        "HTG",
        "HUF",
        "IDR",
        "ILS",
        "INR",
        "IQD",
        "IRR",
        "ISK",
        "JMD",
        "JOD",
        "JPY",
        "KES",
        "KGS",
        "KHR",
        "KMF",
        "KPW",
        "KRW",
        "KWD",
        "KYD",
        "KZT",
        "LAK",
        "LBP",
        "LKR",
        "LRD",
        "LSL",
        "LYD",
        "MAD",
        "MDL",
        "MGA",
        "MKD",
        "MMK",
        "MNT",
        "MOP",
        "MRU",
        "MUR",
        "MVR",
        "MWK",
        "MXN",
        "MYR",
        "MZN",
        "NAD",
        "NGN",
        "NIO",
        "NOK",
        "NPR",
        "NZD",
        "OMR",
        "PAB",
        "PEN",
        "PGK",
        "PHP",
        "PKR",
        "PLN",
        "PYG",
        "QAR",
        "RON",
        "RSD",
        "RUB",
        "RWF",
        "SAR",
        "SBD",
        "SCR",
        "SDG",
        "SEK",
        "SGD",
        "SHP",
        "SLE",
        "SOS",
        "SRD",
        "SSP",
        "STN",
        "SVC",
        "SYP",
        "SZL",
        "THB",
        "TJS",
        "TMT",
        "TND",
        "TOP",
        "TRY",
        "TTD",
        "TWD",
        "TZS",
        "UAH",
        "UGX",
        "USD",
        "UYU",
        "UZS",
        "VED",
        "VES",
        "VND",
        "VUV",
        "WST",
        "XAF",
        "XCD",
        "XOF",
        "XPF",
        "YER",
        "ZAR",
        "ZMW",
        "ZWG",
    ]
)


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
    cached_input_per_million: Money | None = Field(
        None, description="For a million prompt tokens read from the host's cache; the full price by default."
    )


class PriceListSpec(ApiModel):
    """Prices in one currency, from one source, of one day."""

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$", max_length=3)] = Field(
        description="ISO 4217 code."
    )
    source: Annotated[str, StringConstraints(min_length=1, max_length=512)] = Field(description="Where they are from.")
    date: Day = Field(description="Day the prices were read, such as '2026-01-31'.")
    accelerators: Annotated[
        list[AcceleratorPrice], Field(max_length=256, json_schema_extra={"x-list-map-key": ["name", "capacityType"]})
    ] = Field(default_factory=list, description="Prices of accelerators, one a name and capacity type.")
    hosted_models: Annotated[list[TokenPrice], Field(max_length=256, json_schema_extra={"x-list-map-key": "name"})] = (
        Field(default_factory=list, description="Prices of models that others host, by the token.")
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = []
        if self.currency not in CURRENCIES:
            near = difflib.get_close_matches(self.currency, sorted(CURRENCIES), n=3, cutoff=0.6)
            hint = f", such as {', '.join(near)}" if near else ", such as USD or EUR"
            said = f"is '{self.currency}', which is no currency: write an ISO 4217 code{hint}"
            faults.append(("currency", said))
        for (name, capacity), times in Counter((a.name, a.capacity_type) for a in self.accelerators).items():
            if times > 1:
                faults.append(("accelerators", f"names '{name}' with {capacity} twice: keep one price for the pair"))
        faults += repeated("hostedModels", [m.name for m in self.hosted_models])
        refuse(faults)
        return self


class PriceList(ApiModel):
    """Prices that plans refer to; cluster-scoped, owned by whoever owns the bill."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_version: Literal["orrery.dev/v1alpha1"] = Field(API_VERSION, description="orrery.dev/v1alpha1.")
    kind: Literal["PriceList"] = Field("PriceList", description="PriceList.")
    metadata: ObjectMeta = Field(description="Kubernetes' metadata.")
    spec: PriceListSpec = Field(description="The prices.")
