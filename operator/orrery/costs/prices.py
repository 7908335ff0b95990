"""Prices as a plan needs them: exact decimals by the second, and a sentence where one is missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from orrery.api.machines import Accelerator
from orrery.api.plan import PlanSpec
from orrery.api.pricelist import PriceList, TokenPrice


class PriceMissing(ValueError):  # noqa: N818  # reads as what happened
    """The price list lacks what the plan uses. A missing price is never zero."""


#: Days after which a price is said to be old: providers change theirs a few times a year.
OLD_AFTER_DAYS = 90


def age_note(price_list: PriceList, today: date) -> str | None:
    """A sentence when the list was read long ago (or is dated ahead), as of ``today``; None when it is recent.

    It says the same every day, since it stands in statuses that are only written when they say something new.
    """
    days = (today - price_list.spec.date).days
    name, day = price_list.metadata.name, price_list.spec.date.isoformat()
    if days < 0:
        return f"the PriceList '{name}' is dated {day}, after today: correct spec.date"
    if days > OLD_AFTER_DAYS:
        return f"the prices of '{name}' are more than {OLD_AFTER_DAYS} days old ({day}): read them again"
    return None


def days_until_old(price_list: PriceList, today: date) -> int | None:
    """Days after which ``age_note`` has something else to say than ``today``; None when it says its last word."""
    days = (today - price_list.spec.date).days
    return -days if days < 0 else OLD_AFTER_DAYS + 1 - days if days <= OLD_AFTER_DAYS else None


@dataclass(frozen=True)
class PriceChange:
    """One price in two lists; None where a list lacks it."""

    name: str  #: accelerator with its capacity type, or hosted model with the kind of token
    unit: str
    old: Decimal | None
    new: Decimal | None

    @property
    def percent(self) -> float | None:
        """Change in percent; None where there is nothing to compare with."""
        if self.old is None or self.new is None or not self.old:
            return None
        return float((self.new / self.old - 1) * 100)


def price_changes(old: PriceList, new: PriceList) -> list[PriceChange]:
    """Every price that differs between two lists, by name."""
    before, after = _flat(old), _flat(new)
    return [
        PriceChange(name, unit, before.get((name, unit)), after.get((name, unit)))
        for name, unit in sorted({*before, *after})
        if before.get((name, unit)) != after.get((name, unit))
    ]


def _flat(price_list: PriceList) -> dict[tuple[str, str], Decimal]:
    spec = price_list.spec
    prices = {(f"{a.name} {a.capacity_type}", "hour"): a.price_per_hour for a in spec.accelerators}
    for m in spec.hosted_models:
        prices[f"{m.name} input", "1M tokens"] = m.input_per_million
        prices[f"{m.name} output", "1M tokens"] = m.output_per_million
        if m.cached_input_per_million is not None:
            prices[f"{m.name} cached input", "1M tokens"] = m.cached_input_per_million
    return prices


@dataclass(frozen=True)
class Prices:
    """One price list, by accelerator and capacity type."""

    price_list: PriceList

    @property
    def currency(self) -> str:
        """ISO 4217 code; the only currency of the plan."""
        return self.price_list.spec.currency

    def per_hour(self, accelerator: Accelerator) -> Decimal:
        """Price of all the accelerators of a probe for an hour; raises PriceMissing."""
        for price in self.price_list.spec.accelerators:
            if (price.name, price.capacity_type) == (accelerator.name, accelerator.capacity_type):
                return price.price_per_hour * accelerator.count
        listed = ", ".join(sorted(f"{p.name} ({p.capacity_type})" for p in self.price_list.spec.accelerators)) or "none"
        raise PriceMissing(
            f"spec.accelerators[{accelerator.name}] has no {accelerator.capacity_type} price in the PriceList "
            f"'{self.price_list.metadata.name}' (it lists {listed}): add its price there, or use one that is listed"
        )

    def hosted(self, model: str, name: str) -> TokenPrice:
        """Token prices of a hosted model; raises PriceMissing."""
        for price in self.price_list.spec.hosted_models:
            if price.name == name:
                return price
        listed = ", ".join(sorted(p.name for p in self.price_list.spec.hosted_models)) or "none"
        raise PriceMissing(
            f"spec.models[{model}].hostedAs is '{name}', which the PriceList '{self.price_list.metadata.name}' has no token "
            f"prices of (it lists {listed}): add it to hostedModels there, or leave hostedAs out"
        )

    def missing(self, spec: PlanSpec) -> list[str]:
        """A sentence for every price the plan needs and the list lacks."""
        sentences = []
        for accelerator in spec.accelerators:
            try:
                self.per_hour(accelerator)
            except PriceMissing as problem:
                sentences.append(str(problem))
        for model in spec.models:
            try:
                if model.hosted_as is not None:
                    self.hosted(model.name, model.hosted_as)
            except PriceMissing as problem:
                sentences.append(str(problem))
        return sentences

    def per_second(self, accelerator: Accelerator) -> Decimal:
        """Price of a probe's second, exact to 28 digits."""
        return self.per_hour(accelerator) / 3600
