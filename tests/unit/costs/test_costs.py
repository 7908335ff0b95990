"""Costs: what the papers state, and what must hold whatever the sizes."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.load import parse_model
from orrery.api.machines import Accelerator, CapacityType
from orrery.api.models import ModelFacts
from orrery.api.plan import Workload
from orrery.api.pricelist import PriceList
from orrery.costs.accelerators import describe
from orrery.costs.flops import Training, inference_flops, training_flops
from orrery.costs.forecast import forecast_costs
from orrery.costs.memory import kv_cache_bytes, serving_memory
from orrery.costs.prices import PriceMissing, Prices
from orrery.costs.serving import Served, serve
from orrery.costs.throughput import Observation, Throughput, WorkKind
from orrery.costs.work import Work
from orrery.laws.posterior import Link, Posterior
from tests.unit.api.manifests import PRICES
from tests.unit.costs.facts import LLAMA_8B, price_list

pytestmark = pytest.mark.unit

SMALL = ModelFacts(parameters=135_000_000, layers=30, hidden_size=576, heads=9, kv_heads=3, vocabulary_size=49_152)
GPU = describe(Accelerator(name="h100"))
CPU = describe(Accelerator(name="cpu"))


def test_adapters_skip_a_third_of_the_parameter_work_and_checkpointing_adds_a_forward_pass():
    flat = ModelFacts(parameters=10**9)
    full, adapter = (float(training_flops(flat, t, 100, 1)) for t in (Training.FULL, Training.ADAPTER))
    assert (full, adapter) == (6e11, 4e11)
    assert float(training_flops(flat, Training.ADAPTER, 100, 1, checkpointing=True)) == 6e11


def test_attention_makes_long_prompts_cost_more_than_their_tokens():
    one, eight = inference_flops(LLAMA_8B, [1000, 8000])
    assert eight > 8 * one


def test_grouped_query_attention_shrinks_the_cache():
    assert float(kv_cache_bytes(LLAMA_8B, 1)) == 2 * 32 * 1024 * 2


def test_memory_is_known_even_when_only_the_parameter_count_is():
    assert float(serving_memory(ModelFacts(parameters=10**9), 2048)) > 2.4e9


def test_a_measured_throughput_replaces_the_prior_and_narrows_it():
    prior = Throughput.fit([]).seconds("m", CPU, WorkKind.INFERENCE, [1e12])
    seen = Throughput.fit([Observation("m", CPU, WorkKind.INFERENCE, 1e12, 20.0)] * 2)
    after = seen.seconds("m", CPU, WorkKind.INFERENCE, [1e12])
    assert after.sd[0] < prior.sd[0] / 2
    assert after.median()[0] == pytest.approx(20, rel=0.15)


def test_what_was_measured_elsewhere_tells_less_the_farther_it_is():
    seen = Throughput.fit([Observation("m", CPU, WorkKind.INFERENCE, 1e12, 20.0)])

    def sd(model: str, where: object, kind: WorkKind) -> float:
        return float(seen.seconds(model, where, kind, [1e12]).sd[0])

    here = sd("m", CPU, WorkKind.INFERENCE)
    assert here < sd("other", CPU, WorkKind.INFERENCE) < sd("other", CPU, WorkKind.FULL_TRAINING)
    assert here < sd("m", GPU, WorkKind.INFERENCE) < sd("m", describe(Accelerator(name="x9")), WorkKind.INFERENCE)


def test_garbage_observations_say_nothing():
    bad = [
        Observation("m", CPU, WorkKind.INFERENCE, f, s)
        for f, s in [(0, 1), (1, 0), (float("nan"), 1), (1, float("inf"))]
    ]
    assert Throughput.fit(bad).keys == ()


def test_a_missing_price_is_a_sentence_and_never_zero():
    with pytest.raises(PriceMissing, match=r"spec.accelerators\[h100\] has no OnDemand price.*lists l4 \(OnDemand\)"):
        Prices(price_list(l4="0.70")).per_second(Accelerator(name="h100"))


def test_each_capacity_type_has_its_own_price() -> None:
    prices = Prices(parse_model(PriceList, PRICES))
    spot, plain = (Accelerator(name="h100", capacity_type=c) for c in (CapacityType.SPOT, CapacityType.ON_DEMAND))
    assert (prices.per_hour(spot), prices.per_hour(plain)) == (Decimal("1.95"), Decimal("3.90"))
    with pytest.raises(
        PriceMissing, match=r"spec.accelerators\[cpu\] has no Spot price.*lists cpu \(OnDemand\), h100 \("
    ):
        prices.per_hour(Accelerator(name="cpu", capacity_type=CapacityType.SPOT))


def test_the_price_of_a_probe_counts_all_its_accelerators():
    assert Prices(price_list(h100="2.50")).per_hour(Accelerator(name="h100", count=4)) == Decimal("10.00")


def _work(prompt: list[float], adaptation: list[float]) -> Work:
    n, zero = len(prompt), np.zeros(len(prompt))
    return Work(
        np.array(adaptation), zero, np.array(prompt), np.ones(n), inference_flops(SMALL, prompt, 1.0), zero, zero
    )


def _costs(work: Work, price: str = "3.6", requests: int = 1000):
    t = Throughput.fit([Observation("m", CPU, WorkKind.INFERENCE, 1e12, 20.0)])
    workload = Workload(requests_per_day=requests, horizon_days=30)
    served = serve(work, t.seconds("m", CPU, WorkKind.INFERENCE, work.request_flops), SMALL, CPU, workload)
    return forecast_costs(
        t.seconds("m", CPU, WorkKind.ADAPTER_TRAINING, work.adaptation_flops), served, Decimal(price) / 3600, workload
    )


def test_demonstrations_cost_at_every_request_and_training_once():
    prompts, training = [50.0, 450.0, 50.0], [0.0, 0.0, 1e13]
    few, many = (_costs(_work(prompts, training), requests=r).total.median() for r in (1, 100_000))
    assert few[1] < few[2]  # at little traffic demonstrations are cheaper than a training run
    assert many[1] > many[2]  # at much traffic they are dearer
    assert _costs(_work(prompts, training)).adaptation.median()[0] == pytest.approx(0, abs=1e-9)


@settings(max_examples=40)
@given(st.floats(1, 4000), st.floats(0, 1e15), st.integers(1, 10**6), st.integers(1, 10**4), st.integers(1, 10**4))
def test_a_higher_price_never_makes_anything_cheaper(prompt: float, training: float, requests: int, a: int, b: int):
    low, high = sorted((a, b))
    cheap, dear = (_costs(_work([prompt], [training]), price=str(p), requests=requests) for p in (low, high))
    for part in ("adaptation", "serving", "total"):
        assert getattr(cheap, part).median()[0] <= getattr(dear, part).median()[0] * (1 + 1e-12)
    lower, upper = dear.total.interval(0.9)
    assert lower[0] <= dear.total.median()[0] <= upper[0]


def test_money_is_the_price_of_the_seconds_of_adapting_once_and_of_every_request_of_the_horizon():
    def seconds(median: float, sd: float) -> Posterior:
        return Posterior(np.log(np.array([median])), np.array([sd]), Link.LOG)

    workload = Workload(requests_per_day=1000, horizon_days=30)
    served = Served(seconds(0.5, 0.3), seconds(0.5, 0.3), np.zeros(1), np.ones(1))
    c = forecast_costs(seconds(5000.0, 0.1), served, Decimal("3.6") / 3600, workload)
    assert c.adaptation.median()[0] == pytest.approx(5.0) and c.serving.median()[0] == pytest.approx(15.0)
    assert c.total.median()[0] == pytest.approx(20.0)
    # one speed is behind both, so their errors add as they are: a quarter of .1 and three quarters of .3
    assert c.total.sd[0] == pytest.approx(0.25)
    low, high = c.total.interval(0.9)
    assert (low[0], high[0]) == pytest.approx((20 * np.exp(-1.645 * 0.25), 20 * np.exp(1.645 * 0.25)), rel=1e-3)


def test_no_traffic_costs_only_the_adaptation():
    c = _costs(_work([50.0], [1e13]), requests=0)
    assert c.serving.median()[0] == pytest.approx(0, abs=1e-9)
    assert c.total.median()[0] == pytest.approx(c.adaptation.median()[0])


def test_posteriors_refuse_what_is_not_a_number():
    with pytest.raises(ValueError, match="finite"):
        Posterior(np.array([np.nan]), np.array([1.0]), Link.LOG)
