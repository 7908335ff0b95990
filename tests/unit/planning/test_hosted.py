"""Models that others host are paid for by the token, and what trains weights by the hour, in one plan."""

from __future__ import annotations

from typing import Any

import pytest

from orrery.api.pricelist import PriceList
from orrery.planning.advance import advance
from orrery.planning.repricing import NeedsAdvance, reprice
from orrery.planning.types import Facts, ResultRow
from tests.unit.planning.plans import tiny
from tests.unit.planning.world import World, make_prices, model

pytestmark = pytest.mark.unit

FACTS = Facts(task=World().task_facts)
WORKLOAD = {"requestsPerDay": 1000, "inputTokens": 100, "outputTokens": 10, "horizonDays": 10}
PLAN_MODELS = [model("small") | {"hostedAs": "large"}]
PLAN = tiny(models=PLAN_MODELS, workload=WORKLOAD)


def listed(cpu: str = "0.05", **tokens: str) -> PriceList:
    per_token = {"name": "large", "inputPerMillion": "0.50", "outputPerMillion": "1.50"} | tokens
    prices = make_prices(cpu=cpu).to_wire()
    return PriceList.model_validate(prices | {"spec": prices["spec"] | {"hostedModels": [per_token]}})


def rows(prices: PriceList, **changes: Any) -> dict[str, ResultRow]:
    plan = PLAN.model_copy(update={"spec": PLAN.spec.model_copy(update=changes)})
    return {row.type: row for row in advance(plan, [], prices, FACTS).rows}


def money(row: ResultRow) -> tuple[float, float]:
    assert row.adaptation_cost is not None and row.total_cost is not None
    return row.adaptation_cost.median, row.total_cost.median


def test_tokens_in_and_out_over_the_horizon_are_the_whole_cost() -> None:
    found = rows(listed())["ZeroShot"]
    assert money(found) == pytest.approx((0.0, 1000 * 10 * (100 * 0.50 + 10 * 1.50) / 1e6), rel=1e-6, abs=1e-9)
    assert found.accelerator_hours == 0


def test_each_price_moves_what_it_is_paid_for() -> None:
    before, dearer = rows(listed()), rows(listed(cpu="0.10"))
    assert money(dearer["ZeroShot"]) == money(before["ZeroShot"])
    assert money(dearer["LoRA"]) == pytest.approx([2 * part for part in money(before["LoRA"])], rel=1e-6)
    tokens = rows(listed(inputPerMillion="1.00", outputPerMillion="3.00"))
    assert money(tokens["ZeroShot"])[1] == pytest.approx(2 * money(before["ZeroShot"])[1])
    assert money(tokens["LoRA"]) == money(before["LoRA"])


def test_stored_answers_are_not_scaled_by_the_hour_where_tokens_are_paid() -> None:
    stored = list(rows(listed()).values())
    assert not reprice(PLAN, stored, listed(), listed()).changed
    with pytest.raises(ValueError, match="one currency, since nothing is converted"):
        reprice(PLAN, stored, listed(), make_prices("EUR"))
    with pytest.raises(NeedsAdvance, match="the old price of cpu is zero"):
        reprice(PLAN, stored, listed(cpu="0"), listed())
    few = {"inputPerMillion": "0.0001", "outputPerMillion": "0.0001"}
    cheap = tiny(
        models=PLAN_MODELS,
        workload=WORKLOAD,
        objective={"goal": "MinimizeCost", "minQuality": "0.01", "confidence": "0.5"},
    )
    step = advance(cheap, [], listed(**few), FACTS)
    assert step.status.recommendation is not None and step.status.recommendation.strategy == "zero-shot"
    dearer = reprice(cheap, step.rows, listed(**few), listed(cpu="0.50", **few))
    assert not dearer.changed and dearer.kept_cost == pytest.approx(dearer.cost_before)
    with pytest.raises(NeedsAdvance, match="by the token"):
        reprice(PLAN, stored, listed(), listed(outputPerMillion="9"))
