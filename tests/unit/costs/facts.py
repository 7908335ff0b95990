"""Models whose runs were published, and prices made up for tests."""

from __future__ import annotations

from orrery.api.models import ModelFacts
from orrery.api.pricelist import PriceList

LLAMA_8B = ModelFacts(
    parameters=8_030_261_248,
    layers=32,
    hidden_size=4096,
    heads=32,
    kv_heads=8,
    intermediate_size=14336,
    vocabulary_size=128_256,
)
MIXTRAL = ModelFacts(
    parameters=46_702_792_704,
    active_parameters=12_748_070_912,
    experts=8,
    experts_per_token=2,
    layers=32,
    hidden_size=4096,
    heads=32,
    kv_heads=8,
    intermediate_size=14336,
    vocabulary_size=32_000,
)


def price_list(day: str = "2026-01-02", **per_hour: str) -> PriceList:
    return PriceList.model_validate(
        {
            "metadata": {"name": "list"},
            "spec": {
                "currency": "USD",
                "source": "test",
                "date": day,
                "accelerators": [{"name": n, "pricePerHour": p} for n, p in per_hour.items()],
            },
        }
    )
