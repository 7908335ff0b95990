"""Serving, prices and throughput: what the papers state, what must hold, and the anchors of published runs."""

from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pytest

from orrery.api.machines import Accelerator
from orrery.api.models import ModelFacts, Precision
from orrery.api.plan import Capacity, Workload
from orrery.api.pricelist import TokenPrice
from orrery.costs.accelerators import describe
from orrery.costs.flops import Training, training_flops
from orrery.costs.lengths import AnswerLengths, pool
from orrery.costs.prices import PriceMissing, Prices, age_note, days_until_old, price_changes
from orrery.costs.serving import cost_of_pass, hosted_cost, peak_ratio, serve, serving_seconds
from orrery.costs.throughput import (
    Observation,
    Throughput,
    WorkKind,
    distance,
    effort,
)
from orrery.costs.work import Work
from orrery.laws.posterior import Link, Posterior
from tests.unit.costs.facts import LLAMA_8B, MIXTRAL, price_list

pytestmark = pytest.mark.unit

H100 = describe(Accelerator(name="h100"))
RTX4090 = describe(Accelerator(name="rtx4090"))


def _work(tokens: float = 1000.0, output: float = 100.0, shared: float | None = None) -> Work:
    one = np.ones(1)
    kept = None if shared is None else np.array([shared])
    return Work(0 * one, 0 * one, tokens * one, output * one, one, 0 * one, one, request_shared_tokens=kept)


def _seconds(value: float = 0.05) -> Posterior:
    return Posterior(np.log(np.array([value])), np.array([0.2]), Link.LOG)


def _served(workload: Workload, work: Work | None = None, precision: Precision | None = None):
    return serve(work or _work(), _seconds(), LLAMA_8B, H100, workload, precision, generated=True)


def test_a_batch_of_a_sparse_model_reads_more_experts():
    dense = MIXTRAL.model_copy(update={"experts": None, "experts_per_token": None})
    whole = dense.model_copy(update={"active_parameters": None})
    assert _decode(MIXTRAL, 1) == pytest.approx(_decode(dense, 1), rel=1e-6)  # a single token reads what it is sent to
    assert _decode(MIXTRAL, 8) > 3 * _decode(dense, 8)
    assert _decode(MIXTRAL, 256) == pytest.approx(_decode(whole, 256), rel=0.02), (
        "all experts are read, as of a dense model"
    )
    gains = [b / _decode(MIXTRAL, b) for b in (1, 2, 4, 8, 16, 64)]
    assert gains == sorted(gains) and gains[3] / gains[0] < 3, "eight requests together are not three times as fast"


def _decode(facts: ModelFacts, batch: int) -> float:
    """Seconds of a step in which every request of the batch writes a token."""
    served = serve(
        _work(tokens=0.0, output=1.0),
        _seconds(1e-9),
        facts,
        H100,
        Workload(requests_per_day=1, batch_size=batch),
        generated=True,
    )
    return float(served.latency.median()[0])


def test_lengths_that_were_measured_widen_the_money_and_lengthen_the_latency():
    lengths = AnswerLengths(100.0, 20.0, (10, 50, 90, 140, 250))
    workload = Workload(requests_per_day=1000)
    plain = serve(_work(), _seconds(), LLAMA_8B, H100, workload, generated=True)
    seen = serve(_work(), _seconds(), LLAMA_8B, H100, workload, generated=True, lengths=lengths)
    assert seen.busy_seconds.median() == pytest.approx(plain.busy_seconds.median())  # the mean is the work's own
    assert seen.busy_seconds.sd[0] > plain.busy_seconds.sd[0]
    decode = plain.latency.median()[0] - 0.05
    assert seen.latency.median()[0] - 0.05 == pytest.approx(2.5 * decode)
    price = TokenPrice(name="m", input_per_million=Decimal("1"), output_per_million=Decimal("2"))
    assert hosted_cost(_work(), price, workload, lengths).sd[0] > hosted_cost(_work(), price, workload).sd[0]


def test_samples_of_lengths_are_pooled_by_their_answers():
    short, long = AnswerLengths(10, 1, (5, 8, 10, 12, 15)), AnswerLengths(40, 1, (20, 30, 40, 50, 60))
    both = pool([(short, 30), (long, 10)])
    assert both is not None and both.mean == 17.5 and both.quantiles[-1] == pytest.approx(26.25)
    assert both.error > 10  # they disagree, and that is told
    assert pool([]) is None and AnswerLengths(0, 0, (0, 0, 0, 0, 0)).tail_ratio == 1
    assert AnswerLengths(10, 1, (1, 2, 3, 4, 5)).tail_ratio == 1, "the longest are not shorter than the mean"


def test_a_batch_shares_the_reading_of_the_weights_and_nobody_answers_sooner():
    alone = _served(Workload(requests_per_day=1))
    together = _served(Workload(requests_per_day=1, batch_size=16))
    assert together.busy_seconds.median()[0] < alone.busy_seconds.median()[0]
    assert together.latency.median()[0] > alone.latency.median()[0]


def test_decoding_reads_all_weights_for_each_token():
    # 100 tokens x 16.06 GB / 3.35 TB/s = 0.48 s, beside 0.05 s of prefill
    assert _served(Workload(requests_per_day=1)).latency.median()[0] == pytest.approx(0.05 + 0.48, rel=0.02)


def test_four_bits_decode_three_times_as_fast():
    plain, four = (_served(Workload(requests_per_day=1), precision=p) for p in (None, Precision.INT4))
    gain = (plain.busy_seconds.median()[0] - 0.05) / (four.busy_seconds.median()[0] - 0.05)
    assert 2.9 < gain < 3.4


def test_what_is_kept_is_not_read_again():
    cached = Workload(requests_per_day=1, prompt_caching=True)
    work = _work(shared=900.0)
    assert (
        _served(cached, work).busy_seconds.median()[0]
        < _served(Workload(requests_per_day=1), work).busy_seconds.median()[0]
    )


def test_provisioned_capacity_carries_the_peak_and_is_paid_for_at_night():
    workload = Workload(
        requests_per_day=86_400,
        hourly_profile=[1] * 12 + [3] * 12,
        burst_factor=2,
        capacity=Capacity.PROVISIONED,
        horizon_days=1,
    )
    assert peak_ratio(workload) == 3.0
    served = _served(workload)
    busy = served.busy_seconds.median()[0]
    assert served.replicas[0] == np.ceil(busy * 3.0 / 0.7)
    assert float(serving_seconds(served, workload).median()[0]) == pytest.approx(served.replicas[0] * 86_400)
    assert served.utilisation[0] == pytest.approx(busy / served.replicas[0])


def test_no_traffic_costs_nothing_however_it_is_paid():
    for capacity in Capacity:
        workload = Workload(requests_per_day=0, capacity=capacity)
        assert float(serving_seconds(_served(workload), workload).median()[0]) < 1e-9


def test_a_profile_of_another_length_is_refused_with_what_to_write():
    with pytest.raises(ValueError, match="has 3 hours that sum to 6: write 24 weights"):
        Workload(requests_per_day=1, hourly_profile=[1, 2, 3])


def test_hosted_tokens_cost_their_price_and_kept_ones_less():
    price = TokenPrice.model_validate(
        {"name": "m", "inputPerMillion": "2", "outputPerMillion": "8", "cachedInputPerMillion": "0.5"}
    )
    workload = Workload(requests_per_day=1000, horizon_days=1000)
    full = hosted_cost(_work(shared=900.0), price, workload)
    kept = hosted_cost(_work(shared=900.0), price, workload.model_copy(update={"prompt_caching": True}))
    assert float(full.median()[0]) == pytest.approx(1000 * 2 + 100 * 8)
    assert float(kept.median()[0]) == pytest.approx(100 * 2 + 900 * 0.5 + 100 * 8)


def test_a_right_answer_costs_more_than_an_answer():
    assert cost_of_pass(1.0, 0.25) == 4.0
    assert cost_of_pass(1.0, 0.0) == float("inf")


# --- speed


def test_torchtune_speeds_are_met_in_ratio_within_twenty_percent():
    # Llama-3.1-8B on a 4090, batch 2 x 2,048 tokens: full 1,650 tokens/s, LoRA 3,083, QLoRA 2,413 (README of torchtune 0.4.0)
    seconds = {}
    for training, checkpointing in (
        (Training.FULL, True),
        (Training.ADAPTER, True),
        (Training.QUANTIZED_ADAPTER, True),
    ):
        flops = training_flops(
            LLAMA_8B, training, 2048, 2000, checkpointing=checkpointing
        )  # set-up is nothing beside it
        prior = Throughput.fit([]).seconds("m", RTX4090, WorkKind.of(training), flops)
        seconds[training] = float(np.exp(prior.mean))
    assert seconds[Training.FULL] / seconds[Training.ADAPTER] == pytest.approx(3083 / 1650, rel=0.20)
    assert seconds[Training.ADAPTER] / seconds[Training.QUANTIZED_ADAPTER] == pytest.approx(2413 / 3083, rel=0.05)


def test_published_speeds_lie_in_the_interval_before_anything_is_measured():
    for training, speed in ((Training.FULL, 1650), (Training.ADAPTER, 3083), (Training.QUANTIZED_ADAPTER, 2413)):
        flops = training_flops(LLAMA_8B, training, 2048, 2000, checkpointing=True)
        lower, upper = (
            Throughput.fit([]).seconds("m", RTX4090, WorkKind.of(training), np.atleast_1d(flops)).interval(0.9)
        )
        assert lower[0] < 2048 * 2000 / speed < upper[0]


def test_short_passes_take_as_long_as_the_ridge_says():
    assert float(effort(H100, 100.0, 0.0)) == 100.0
    assert float(effort(H100, 0.0, 1.0)) == pytest.approx(989e12 / 3.35e12)


def test_the_interval_widens_with_the_distance_between_accelerators():
    seen = Throughput.fit([Observation("m", H100, WorkKind.INFERENCE, 1e15, 3.0)] * 3)
    names = ("h100", "h200", "a100-80gb", "l4", "cpu")
    others = [describe(Accelerator(name=n)) for n in names]
    sds = [float(seen.seconds("m", a, WorkKind.INFERENCE, np.array([1e15])).sd[0]) for a in others]
    assert sds == sorted(sds)
    assert [distance(H100, a) for a in others] == sorted(distance(H100, a) for a in others)


# --- prices


def test_old_prices_are_said_to_be_old_and_those_of_tomorrow_wrong():
    prices = price_list(l4="0.7")
    assert age_note(prices, date(2026, 3, 1)) is None
    old = age_note(prices, date(2026, 4, 12)) or ""
    assert "more than 90 days old (2026-01-02)" in old and old == age_note(prices, date(2026, 4, 13))
    assert "after today" in (age_note(prices, date(2026, 1, 1)) or "")
    for day in (date(2025, 12, 30), date(2026, 1, 2), date(2026, 3, 1)):
        left = days_until_old(prices, day)
        assert left is not None and age_note(prices, day + timedelta(left)) != age_note(prices, day)
        assert age_note(prices, day + timedelta(left - 1)) == age_note(prices, day)
    assert days_until_old(prices, date(2026, 4, 12)) is None


def test_lists_are_compared_price_by_price():
    changes = price_changes(price_list(l4="0.70", t4="0.5"), price_list(l4="0.77", h100="3"))
    assert [(c.name, c.percent) for c in changes] == [
        ("h100 OnDemand", None),
        ("l4 OnDemand", pytest.approx(10.0)),
        ("t4 OnDemand", None),
    ]


def test_a_hosted_model_without_a_price_is_a_sentence():
    with pytest.raises(
        PriceMissing, match=r"spec.models\[m\].hostedAs is 'x', which the PriceList 'list' has no token prices"
    ):
        Prices(price_list(l4="0.7")).hosted("m", "x")
