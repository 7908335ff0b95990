"""How far a forecast was off: only of the candidate that was recommended by it, and of the data that it was made for."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from orrery.api.status import CostForecast, Inputs, PlanStatus, QualityForecast, Recommendation
from orrery.controller.publishing import prediction_error

pytestmark = pytest.mark.unit


def status(quality: str, measured: bool, data: str | None = "a", **of: Any) -> PlanStatus:
    money = dict.fromkeys(("adaptation", "serving", "total", "lower", "upper"), Decimal(1))
    best = Recommendation(
        **{"model": "small", "strategy": "lora", "configuration": [], "accelerator": "l4", **of},
        quality=QualityForecast(predicted=Decimal(quality), lower=Decimal(0), upper=Decimal(1)),
        cost=CostForecast(**money),
        measured=measured,
        confidence=Decimal("0.9"),
        reason="Forecast",
        message="the best",
    )
    inputs = Inputs(
        plan_digest="p", price_digest="p", data_digest=data, price_date="2026-01-01", price_source="x", seed=0
    )
    return PlanStatus(recommendation=best, inputs=inputs)


FORECAST = status("0.8", measured=False)


@pytest.mark.parametrize(
    ("before", "now", "error"),
    [
        (FORECAST, status("0.85", measured=True), "0.05"),
        (FORECAST, status("0.75", measured=True), "-0.05"),
        (FORECAST, status("0.82", measured=False), None),  # still a forecast
        (PlanStatus(), status("0.85", measured=True), None),  # nobody forecast it
        (FORECAST, PlanStatus(), None),
        # another candidate is recommended now
        (FORECAST, status("0.85", measured=True, strategy="zero-shot"), None),
        (FORECAST, status("0.85", measured=True, accelerator="h100"), None),
        # the forecast was of other data, or made before anybody had read them
        (FORECAST, status("0.85", measured=True, data="b"), None),
        (status("0.8", measured=False, data=None), status("0.85", measured=True), "0.05"),
        # it was known before: it stays, whatever is measured besides, as long as that is recommended
        (FORECAST.model_copy(update={"prediction_error": Decimal("0.03")}), status("0.82", measured=False), None),
        (status("0.83", measured=True), status("0.84", measured=True), None),
        (
            status("0.83", measured=True).model_copy(update={"prediction_error": Decimal("0.03")}),
            status("0.84", measured=True),
            "0.03",
        ),
    ],
)
def test_the_error_of_a_forecast(before: PlanStatus, now: PlanStatus, error: str | None) -> None:
    found = prediction_error(before.to_wire(), now)
    assert found == (None if error is None else Decimal(error))
