"""Prices as a plan needs them: exact decimals by the second, and a sentence where one is missing."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from orrery.api.plan import Accelerator
from orrery.api.pricelist import PriceList, TokenPrice


class PriceMissing(ValueError):  # noqa: N818  # reads as what happened
    """The price list lacks what the plan uses. A missing price is never zero."""


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

    def per_second(self, accelerator: Accelerator) -> Decimal:
        """Price of a probe's second, exact to 28 digits."""
        return self.per_hour(accelerator) / 3600
