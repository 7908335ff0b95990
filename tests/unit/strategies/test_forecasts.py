"""The four answers of every strategy: configurations, proposals, quality with its interval, and work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.probe import Fidelity, Method, Outcome, Parameter, Trial, TrialResult
from orrery.laws.posterior import Array, Posterior
from orrery.planning.candidates import expand
from orrery.planning.evidence import Known
from orrery.planning.forecasts import Groups
from orrery.strategies import registry
from orrery.strategies.base import Evidence, Group, QualityForecast
from orrery.strategies.trials import identity, observed
from tests.unit.planning.world import World, make_plan, model

pytestmark = pytest.mark.unit


def seen(strategy: str, score: float, examples: int = 0, items: int = 200, **parameters: str) -> Evidence:
    trial = Trial(
        name="t",
        strategy=strategy,
        parameters=[Parameter(name=k, value=v) for k, v in parameters.items()],
        fidelity=Fidelity(training_examples=examples, evaluation_items=items),
    )
    number = Decimal(repr(round(score, 6)))
    return Evidence(trial, TrialResult(name="t", outcome=Outcome.MEASURED, score=number, items=items), "cpu")


def zero(score: float) -> Evidence:
    return seen("ZeroShot", score, calibration="none")


def shots(k: int, score: float, retriever: str = "random") -> Evidence:
    return seen("InContext", score, shots=str(k), retriever=retriever, calibration="none")


def lora(n: int, score: float, rate: str = "0.001", epochs: str = "3", kind: str = "LoRA") -> Evidence:
    rank = {} if kind == "FullFineTuning" else {"rank": "8"}
    return seen(kind, score, n, learningRate=rate, epochs=epochs, **rank)


def proxy(n: int, score: float) -> Evidence:
    real = lora(n, score)
    fidelity = real.trial.fidelity.model_copy(update={"method": Method.PROXY})
    parameters = [p if p.name != "rank" else p.model_copy(update={"value": "16"}) for p in real.trial.parameters]
    return replace(real, trial=real.trial.model_copy(update={"fidelity": fidelity, "parameters": parameters}))


def group(
    kind: str,
    evidence: Sequence[Evidence] = (),
    architecture: str = "Causal",
    metric: str = "Accuracy",
    train: int = 400,
    **grid: list[Any],
) -> Group:
    plan = make_plan(
        models=[model("m", architecture)],
        strategies=[{"name": "s", "type": kind, "grid": [{"name": n, "values": v} for n, v in grid.items()]}],
        task={"dataset": {"source": {"builtin": {"name": "intents"}}}, "metric": {"name": metric}},
    )
    known = Known(task_facts=World(train=train).task_facts, evidence={"m": list(evidence)})
    known.model_facts["m"] = plan.spec.models[0].facts  # type: ignore[assignment]  # given above
    return Groups(plan.spec, expand(plan.spec), known).build(0)


def forecast(g: Group, kind: str) -> QualityForecast:
    return registry.get(kind).forecast(g)


def medians(kind: str, *evidence: Evidence, **options: Any) -> list[float]:
    g = group(kind, evidence, **options)
    return [round(float(v), 3) for v in forecast(g, kind).posterior.median()]


@pytest.mark.parametrize("kind", registry.installed())
@pytest.mark.parametrize("metric", ["Accuracy", "NegativeLogLikelihood"])
def test_every_strategy_answers_without_and_with_evidence(kind: str, metric: str) -> None:
    value = 0.4 if metric == "Accuracy" else 1.4
    for evidence in ([], [zero(value), shots(8, value), lora(64, value)]):
        g = group(kind, evidence, metric=metric)
        strategy = registry.get(kind)
        quality = strategy.forecast(g)
        assert len(quality.posterior.mean) == len(quality.measured) == g.size
        assert (quality.posterior.sd > 0).all()
        for p in strategy.proposals(g):
            assert p.shift.shape == (g.size,) and np.isfinite(p.shift).all()
            assert (np.abs(p.shift) <= quality.posterior.sd + 1e-3).all(), (
                "a measurement cannot tell more than is unknown"
            )
            assert p.inference_flops > 0 and p.expected_score is not None
        work = strategy.work(g, None, None)
        assert len(work) == g.size and (work.serving_memory > 0).all() and (work.request_flops > 0).all()


def test_zero_shot_is_what_was_measured() -> None:
    g = group("ZeroShot", [zero(0.36)])
    f = forecast(g, "ZeroShot")
    low, high = (float(v[0]) for v in f.posterior.interval(0.9))
    assert f.measured.all() and low < 0.36 < high and high - low < 0.13
    assert not registry.get("ZeroShot").proposals(g)


def test_zero_shot_of_an_encoder_and_of_generation() -> None:
    plan = make_plan(models=[model("e", "Encoder")])
    strategy = registry.get("ZeroShot")
    assert strategy.refusal(plan.spec.models[0], plan.spec.task) is None
    writes = make_plan(
        task={"type": "Generation", "dataset": {"source": {"builtin": {"name": "x"}}}, "metric": {"name": "ExactMatch"}}
    )
    assert "cannot write" in (strategy.refusal(plan.spec.models[0], writes.spec.task) or "")
    assert "does not learn from demonstrations" in (
        registry.get("InContext").refusal(plan.spec.models[0], plan.spec.task) or ""
    )


def test_one_shot_that_dips_is_said_and_does_not_condemn_eight() -> None:
    g = group("InContext", [zero(0.36), shots(1, 0.24)], shots=[1, 8], retriever=["random"])
    f = forecast(g, "InContext")
    assert f.posterior.median()[0] < 0.30
    assert float(f.posterior.interval(0.9)[1][1]) > 0.5
    assert f.hurts is not None and f.hurts[0] > 0.8 > f.hurts[1]


def test_retrieved_and_random_demonstrations_do_not_stand_for_each_other() -> None:
    """SmolLM2-135M on seven intents: .26 without, .14 with one at random, .89 with one by BM25; .91 and .92 with 2 and 4."""
    g = group(
        "InContext", [zero(0.26), shots(1, 0.89, "bm25"), shots(1, 0.14)], shots=[1, 2, 4], retriever=["random", "bm25"]
    )
    f = forecast(g, "InContext")
    by = dict(zip(zip(g.columns["shots"], g.columns["retriever"], strict=True), f.posterior.median(), strict=True))
    assert by["2", "bm25"] == pytest.approx(0.91, abs=0.03) and by["4", "bm25"] == pytest.approx(0.92, abs=0.03)
    assert by["4", "random"] < 0.5


def _with_vote(
    vote: float | None, *evidence: Evidence, retriever: str = "bm25", other: str = "random"
) -> tuple[Posterior, Array]:
    """Forecast with 1 and 8 demonstrations of a retriever, and the probability that they hurt."""
    g = group("InContext", evidence, shots=[1, 8], retriever=[retriever, other])
    assert g.task_facts is not None
    told = None if vote is None else Decimal(repr(vote))
    f = forecast(replace(g, task_facts=g.task_facts.model_copy(update={"neighbour_vote": told})), "InContext")
    rows = [i for i, r in enumerate(g.columns["retriever"]) if r == retriever]
    hurts = np.full(2, np.nan) if f.hurts is None else f.hurts[rows]
    return Posterior(f.posterior.mean[rows], f.posterior.sd[rows], f.posterior.link), hurts


def test_the_neighbours_vote_says_what_retrieval_brings_once_the_start_is_known() -> None:
    """SmolLM2-135M on seven intents: .33 without demonstrations, .89 and .90 with 1 and 8 by BM25; their vote is .94."""
    (before, _), (after, hurts) = _with_vote(None, zero(0.33)), _with_vote(0.936, zero(0.33))
    assert after.median() == pytest.approx([0.9, 0.9], abs=0.05) and (hurts < 0.05).all()
    assert (after.sd < 0.6 * before.sd).all() and (after.sd > 0.2).all()
    low, likelier = _with_vote(0.25, zero(0.33))
    assert (low.median() < 0.34).all() and (likelier > hurts).all() and (low.mean < before.mean).all()


def test_the_vote_says_nothing_of_random_demonstrations_and_nothing_before_the_start_is_measured() -> None:
    for options in ({"retriever": "random", "other": "bm25"}, {}):
        evidence = [zero(0.33)] if options else []
        before, after = (_with_vote(v, *evidence, **options)[0] for v in (None, 0.936))
        assert before.mean.tolist() == after.mean.tolist() and before.sd.tolist() == after.sd.tolist()


def test_a_model_that_is_better_than_its_neighbours_need_not_follow_them() -> None:
    told, silent = _with_vote(0.3, zero(0.9))[0], _with_vote(None, zero(0.9))[0]
    assert told.median() == pytest.approx(silent.median(), abs=0.06)


def test_measured_scores_outweigh_the_vote() -> None:
    f, _ = _with_vote(0.936, zero(0.33), shots(1, 0.35, "bm25"), shots(4, 0.34, "bm25"))
    assert f.median() == pytest.approx([0.34, 0.34], abs=0.05)


def test_dense_neighbours_hear_of_the_vote_through_those_of_bm25() -> None:
    dense = {"retriever": "dense", "other": "bm25"}
    before, after = _with_vote(None, zero(0.33), **dense)[0], _with_vote(0.936, zero(0.33), **dense)[0]
    bm25 = _with_vote(0.936, zero(0.33), other="dense")[0]
    assert (after.mean > before.mean).all() and (bm25.mean > after.mean).all() and (bm25.sd < after.sd).all()


def test_longer_prompts_cost_more_to_serve_and_nothing_to_adapt() -> None:
    g = group("InContext", shots=[1, 8, 32], retriever=["random"])
    work = registry.get("InContext").work(g, None, None)
    assert (np.diff(work.request_flops) > 0).all() and (np.diff(work.request_input_tokens) > 0).all()
    assert not work.adaptation_flops.any()
    assert registry.get("InContext").work(g, 1000.0, None).request_input_tokens[0] == 1026


def test_random_demonstrations_are_one_prefix_when_probed() -> None:
    g = group("InContext", shots=[16], retriever=["random", "bm25"])
    proposals = registry.get("InContext").proposals(g)
    flops = {p.value: q.inference_flops for q in proposals for p in q.trial.parameters if p.name == "retriever"}
    assert flops["bm25"] > 3 * flops["random"]


def test_more_training_data_is_better_and_what_is_measured_holds() -> None:
    low, high = medians(
        "LoRA", zero(0.35), lora(16, 0.5), lora(64, 0.62), dataPercent=[25, 100], epochs=[3], learningRate=["1e-3"]
    )
    assert 0.55 < low < high
    exact = medians("LoRA", zero(0.35), lora(400, 0.88), epochs=[3], learningRate=["1e-3"])
    assert exact[0] == pytest.approx(0.88, abs=0.02)


def test_a_rung_of_one_share_is_the_whole_of_another() -> None:
    """A quarter of 400 examples is the rung of 100 examples: one measurement, whoever asks."""
    g = group("LoRA", [lora(100, 0.7)], dataPercent=[25, 100], epochs=[3], learningRate=["1e-3"])
    assert forecast(g, "LoRA").measured.tolist() == [True, False]
    asked = [
        (p.trial.fidelity.method.value, p.trial.fidelity.training_examples) for p in registry.get("LoRA").proposals(g)
    ]
    assert asked == [("Proxy", 400), ("Direct", 16), ("Direct", 64), ("Direct", 400)]
    assert all(q.name != "dataPercent" for p in registry.get("LoRA").proposals(g) for q in p.trial.parameters)


def test_a_measured_configuration_informs_its_neighbours_most() -> None:
    evidence = [zero(0.3), lora(400, 0.93, rate="0.001")]
    g = group("LoRA", evidence, epochs=[3], learningRate=["1e-3", "7e-4", "1e-4"])
    sd = forecast(g, "LoRA").posterior.sd
    assert sd[0] < sd[1] < sd[2]


def test_kinds_of_training_inform_each_other() -> None:
    alone = group("FullFineTuning", [zero(0.3)], learningRate=["5e-5"], epochs=[3])
    told = group("FullFineTuning", [zero(0.3), lora(64, 0.85)], learningRate=["5e-5"], epochs=[3])
    before, after = forecast(alone, "FullFineTuning").posterior, forecast(told, "FullFineTuning").posterior
    assert after.sd[0] < 0.7 * before.sd[0] and after.mean[0] > before.mean[0]


def test_the_proxy_tells_what_long_training_reaches() -> None:
    """SmolLM2-135M on seven intents: .33 as it is, proxy on 485 examples .965; LoRA of rank 16 in three epochs gave .945."""
    grid: dict[str, Any] = {"train": 485, "epochs": [3], "learningRate": ["1e-3"], "rank": [16]}
    without, told = (group("LoRA", e, **grid) for e in ([zero(0.33)], [zero(0.33), proxy(485, 0.965)]))
    before, after = forecast(without, "LoRA").posterior, forecast(told, "LoRA").posterior
    assert after.sd[0] < 0.8 * before.sd[0]
    assert float(after.median()[0]) == pytest.approx(0.945, abs=0.03)
    assert not forecast(told, "LoRA").measured.any(), "a proxy is not the real thing"
    methods = [p.trial.fidelity.method.value for p in registry.get("LoRA").proposals(told)]
    assert methods == ["Direct"] * 3


def test_adaptation_that_hurts_is_said() -> None:
    g = group("LoRA", [zero(0.8), lora(16, 0.45), lora(64, 0.5), lora(400, 0.52)], epochs=[3], learningRate=["1e-3"])
    f = forecast(g, "LoRA")
    assert f.remarks and f.remarks[0].startswith("LoRA likely hurts: even its best configuration falls below")


def test_measured_minilm_curve() -> None:
    """MiniLM on seven intents, LoRA rate .001: .71 as it is, .805 from 16 examples, .85 from 64; .92 from 256."""
    evidence = [zero(0.71), lora(16, 0.805), lora(64, 0.85)]
    g = group("LoRA", evidence, architecture="Encoder", train=256, epochs=[1, 3], learningRate=["2e-4", "1e-3"])
    f = forecast(g, "LoRA")
    low, high = f.posterior.interval(0.9)
    assert (np.abs(f.posterior.median() - 0.92) < 0.06).all() and (low < 0.92).all() and (high > 0.92).all()


def test_training_work_follows_what_the_measures_do() -> None:
    """Few examples are gone through more often, so that there are 16 updates; memory grows with what is trained."""
    g = group("LoRA", train=400, epochs=[1, 3], learningRate=["1e-3"], dataPercent=[1, 100])
    tokens = registry.get("LoRA").work(g, None, None).adaptation_tokens
    assert tokens.reshape(2, 2).tolist() == [[16 * 23.0, 400 * 23.0], [16 * 23.0, 3 * 400 * 23.0]]
    full = registry.get("FullFineTuning").work(group("FullFineTuning"), None, None).adaptation_memory
    assert (full > registry.get("LoRA").work(g, None, None).adaptation_memory.max()).all()
    quantized = registry.get("QLoRA").work(group("QLoRA"), None, None).adaptation_memory
    assert (quantized < registry.get("LoRA").work(g, None, None).adaptation_memory.max()).all()


scores = st.floats(0.0, 1.0)


@settings(max_examples=25, deadline=None)
@given(zero_shot=scores, few=scores, more=scores, one=scores)
def test_no_measurement_makes_nonsense(zero_shot: float, few: float, more: float, one: float) -> None:
    """Rising, falling, 0, 1: forecasts stay shares, intervals hold their medians, and equal inputs give equal bytes."""
    evidence = [zero(zero_shot), lora(16, few), lora(64, more), shots(1, one, "bm25")]
    for kind, grid in (
        ("LoRA", {"epochs": [1], "learningRate": ["1e-3"]}),
        ("InContext", {"shots": [1, 8], "retriever": ["bm25"]}),
    ):
        f, again = (forecast(group(kind, evidence, **grid), kind) for _ in range(2))
        low, high = f.posterior.interval(0.9)
        middle = f.posterior.median()
        assert ((low >= 0) & (low <= middle) & (middle <= high) & (high <= 1)).all()
        assert f.posterior.mean.tobytes() == again.posterior.mean.tobytes()


def test_scores_at_the_ends_are_neither_infinite_nor_certain() -> None:
    from orrery.laws.posterior import Link

    for score in (0.0, 1.0):
        value = observed(zero(score).result, Link.LOGIT)
        assert value is not None and abs(value[0]) < 7 and value[1] > 1


def test_trials_have_one_spelling() -> None:
    first = registry.get("LoRA").proposals(group("LoRA", epochs=[1], learningRate=["2e-4"]))
    second = registry.get("LoRA").proposals(group("LoRA", epochs=["1"], learningRate=["0.00020"]))
    assert [identity(p.trial) for p in first] == [identity(p.trial) for p in second]
    assert [p.trial.name for p in first] == [p.trial.name for p in second]


def test_unknown_strategies_name_the_nearest() -> None:
    with pytest.raises(registry.UnknownStrategy, match=r"write one of .*, such as InContext"):
        registry.get("incontext")
