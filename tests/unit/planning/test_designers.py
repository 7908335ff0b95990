"""Every designer keeps the rules of the house; each does what its paper says."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.models import ModelFacts
from orrery.api.probe import ProbeSpec, Trial, TrialResult
from orrery.planning import designer_names
from orrery.planning.advance import _assess, advance
from orrery.planning.designers import expected_value, repeats
from orrery.planning.designers.expected_value import _Search
from orrery.planning.designers.scene import Scene
from orrery.planning.reservation import Purse
from orrery.planning.types import Facts, ProbeRecord, ProbeState
from tests.unit.planning.world import Run, World, drive, make_plan, make_prices, model

pytestmark = pytest.mark.unit

PRICES = make_prices()
NAMED = ["ASHA", "AcceptThenStop", "EarlyLoss", "ExpectedValue", "Random", "SuccessiveHalving", "Uniform"]


def lora(**axes: Sequence[object]) -> dict[str, Any]:
    return {"name": "lora", "type": "LoRA", "grid": [{"name": k, "values": list(v)} for k, v in axes.items()]}


#: Nine ways to train and one without, on one model.
LADDER: dict[str, Any] = {
    "models": [model("small")],
    "strategies": [
        {"name": "zero-shot", "type": "ZeroShot"},
        lora(learningRate=["1e-5", "1e-4", "1e-3"], epochs=[1, 2, 3], rank=[8]),
    ],
    "objective": {"goal": "MaximizeQuality"},
    "budget": {"maxProbeCost": "10"},
}
#: In-context learning beside one training.
SMALL: dict[str, Any] = LADDER | {
    "strategies": [
        {"name": "zero-shot", "type": "ZeroShot"},
        {"name": "in-context", "type": "InContext", "grid": [{"name": "shots", "values": [1, 8]}]},
        lora(epochs=[1]),
    ]
}
FACTS = Facts(task=World().task_facts)
GOAL = {"goal": "MinimizeCost"}


def run(designer: str, seed: int = 3, **changes: Any) -> Run:
    probing = {"designer": designer} | changes.pop("probing", {})
    return drive(make_plan(**(LADDER | changes | {"probing": probing})), PRICES, World(seed=seed), facts=FACTS)


def asked(records: Sequence[ProbeRecord]) -> list[tuple[str, str, int]]:
    """Model, parameters and training size of every trial that was answered, in no order that matters."""
    return sorted(
        (r.spec.model.name, " ".join(p.value for p in t.parameters), t.fidelity.training_examples)
        for r in records
        if r.report is not None  # a probe that met its deadline is asked again
        for t in r.spec.trials
    )


def sizes(records: Sequence[ProbeRecord]) -> dict[int, int]:
    """How many trials were run at each training size."""
    out: dict[int, int] = {}
    for _, _, n in asked(records):
        out[n] = out.get(n, 0) + 1
    return out


def test_the_designers_are_found() -> None:
    assert set(NAMED) <= set(designer_names.installed())


@pytest.mark.parametrize("name", NAMED)
def test_every_designer_ends_with_an_answer_and_never_asks_twice(name: str) -> None:
    done = run(name, budget={"maxProbeCost": "10"})
    assert done.last.finished and done.last.reason == "AnswerSettled" and done.last.message
    assert done.last.status.recommendation is not None
    trials = [(r.spec.model.name, t.name) for r in done.records if r.report is not None for t in r.spec.trials]
    assert len(trials) == len(set(trials))


@pytest.mark.parametrize("name", NAMED)
def test_the_same_seed_gives_the_same_probes(name: str) -> None:
    plan = make_plan(**LADDER, probing={"designer": name})
    first, again = (advance(plan, [], PRICES, FACTS) for _ in range(2))
    assert [r.spec.to_wire() for r in first.start] == [r.spec.to_wire() for r in again.start]


def test_another_seed_gives_random_another_order() -> None:
    starts = {
        str([t.to_wire()["parameters"] for r in step.start for t in r.spec.trials])
        for seed in range(4)
        for step in [advance(make_plan(**LADDER, probing={"designer": "Random", "seed": seed}), [], PRICES, FACTS)]
    }
    assert len(starts) > 1


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(NAMED), st.integers(0, 20), st.decimals("0.001", "0.02", places=4), st.integers(1, 3))
def test_every_designer_stays_within_budget_probes_and_parallelism(
    name: str, seed: int, budget: Decimal, parallelism: int
) -> None:
    both = {"models": [model("small"), model("encoder", "Encoder")], "budget": {"maxProbeCost": str(budget)}}
    done = run(name, seed, **both, probing={"parallelism": parallelism, "maxProbes": 5})
    assert done.highest <= budget and len(done.records) <= 5  # drive() itself holds parallelism
    for step in done.steps:
        models = [r.spec.model.name for r in step.start]
        assert len(models) == len(set(models)), "two loads of one model at a time"


def everything(records: Sequence[ProbeRecord]) -> dict[int, int]:
    """How many distinct trials were asked at each training size, whether they met their deadline or not."""
    distinct = {
        (" ".join(p.value for p in t.parameters), t.fidelity.training_examples) for r in records for t in r.spec.trials
    }
    return {n: sum(size == n for _, size in distinct) for n in sorted({size for _, size in distinct})}


def test_uniform_asks_everyone_at_every_size() -> None:
    assert everything(run("Uniform").records) == {0: 1, 16: 9, 64: 9, 400: 9}


def test_random_asks_everything_in_the_end() -> None:
    assert everything(run("Random").records) == {0: 1, 16: 9, 64: 9, 400: 9}


def test_successive_halving_promotes_the_best_third() -> None:
    done = run("SuccessiveHalving")
    counts = sizes(done.records)
    # ten arms with zero-shot, which has no rung of its own to be promoted to
    assert counts[16] == 9 and 3 <= counts[64] <= 4 and 1 <= counts[400] <= 2
    scores = {
        t.name: (t.fidelity.training_examples, " ".join(p.value for p in t.parameters), result.score)
        for r in done.records
        if r.report is not None
        for t, result in zip(r.spec.trials, r.report.trials, strict=True)
    }
    cheap = {p: s for n, p, s in scores.values() if n == 16}
    promoted = {p for n, p, _ in scores.values() if n == 64}
    worst_promoted = min(cheap[p] or 0 for p in promoted)
    assert all((s or 0) <= worst_promoted for p, s in cheap.items() if p not in promoted)


def test_asha_begins_new_candidates_while_others_run_and_promotes_a_third() -> None:
    done = run("ASHA", models=[model("small"), model("other")], probing={"parallelism": 2})
    assert max(len(s.start) for s in done.steps) == 2
    counts = sizes(done.records)
    assert counts[16] == 18 and 18 // 3 <= counts[64] <= 18 // 2 and 1 <= counts[400] < counts[64]


def test_accept_then_stop_stops_where_the_curve_is_a_line() -> None:
    done = run("AcceptThenStop", strategies=[lora(learningRate=["1e-3"], epochs=[1], rank=[8])])
    grown = [n for _, _, n in asked(done.records)]
    assert grown[:4] == [16, 32, 64, 128] and 400 not in grown
    assert "every curve is a line" in done.last.message


def test_a_baseline_begins_without_the_data_s_size_and_learns_it() -> None:
    plan = make_plan(**LADDER, probing={"designer": "Uniform"})
    first = advance(plan, [], PRICES)
    assert {t.fidelity.training_examples for r in first.start for t in r.spec.trials} == {0}
    trains = make_plan(**(LADDER | {"strategies": LADDER["strategies"][1:]}), probing={"designer": "Uniform"})
    assert {t.fidelity.training_examples for r in advance(trains, [], PRICES).start for t in r.spec.trials} == {16}


def test_lost_trials_do_not_hold_up_halving() -> None:
    world = World(seed=3, behaviour=lambda r: "crash" if len(r.spec.trials) < 8 else "partial")
    plan = make_plan(**LADDER, probing={"designer": "SuccessiveHalving", "retries": 0})
    done = drive(plan, PRICES, world, facts=FACTS)
    assert done.last.finished


def test_a_probe_that_changes_no_choice_says_what_it_is_for() -> None:
    models = [model("small"), model("encoder", "Encoder")]

    def reasons(quality: str, facts: Facts | None, **changes: Any) -> str:
        plan = make_plan(**(SMALL | {"models": models, "objective": GOAL | {"minQuality": quality}} | changes))
        start = advance(plan, [], PRICES, facts).start
        assert all("with 0%" not in r.reason and "worth 0 points" not in r.reason for r in start)
        return " | ".join(r.reason for r in start)

    sure = reasons("0.05", None)
    assert "ZeroShot on small for 0.000933 USD: the choice stays and its forecasts get surer, which is worth 6" in sure
    assert sure.count("; brings the task's facts") == 2
    plain = reasons("0.9", FACTS)
    assert "ZeroShot on small for 0.000502 USD: the model as it is comes first, since everything else is" in plain
    assert "brings the task's facts" not in plain
    assert "improves the choice with" in plain
    alone = reasons("0.9", None, strategies=[{"name": "zero-shot", "type": "ZeroShot"}])
    assert "the choice would rest on no measurement of small; brings the task's facts" in alone


def test_what_runs_is_taken_as_seen_when_the_next_probe_is_chosen() -> None:
    """The believer: running probes narrow the forecasts of their model and leave the others', so values are of what is left."""
    plan = make_plan(**(LADDER | {"models": [model("small"), model("other")]}), probing={"parallelism": 2})
    first = advance(plan, [], PRICES, FACTS).start[0]
    flying = ProbeRecord(first.name, first.spec, ProbeState.RUNNING, 1, Decimal(0), first.reservation, 0.0, None)
    situation, groups, clock, table = _assess(plan.spec, [flying], PRICES, FACTS)
    scene = Scene(
        plan.spec,
        situation.space,
        situation.known,
        groups,
        clock,
        table,
        situation.columns,
        situation.decision,
        1.0,
        0.0,
    )
    search = _Search(scene, Purse.of(plan.spec, [flying]))
    for name, accelerator, trial in situation.known.in_flight:
        search._believed.imagine(name, accelerator, trial, None)
    believed, _ = search._believed.situation()
    runs = [situation.space.groups[g].model.name == first.spec.model.name for g in situation.space.group]
    narrower = believed.quality.sd < situation.columns.quality.sd - 1e-6
    assert narrower[np.array(runs)].all() and not narrower[~np.array(runs)].any()
    second = advance(plan, [flying], PRICES, FACTS).start
    assert [r.spec.model.name for r in second] == [m for m in ("small", "other") if m != first.spec.model.name]


CONTESTED = LADDER | {
    "strategies": [lora(learningRate=["1e-3"], epochs=[2, 3], rank=[8])],
    "objective": {"goal": "MaximizeQuality"},
}


def seeds_of(done: Run, size: int) -> list[int]:
    return sorted(t.seed for r in done.records for t in r.spec.trials if t.fidelity.training_examples == size)


def test_contested_candidates_are_measured_under_other_seeds_where_the_plan_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two candidates as good as each other, and a lottery that is larger than their difference."""
    monkeypatch.setattr(repeats, "TRAINING_SD", 0.5)
    monkeypatch.setattr(expected_value, "POINTS_FOR_EXHAUSTIVE", 0.1)
    one, three = (
        drive(
            make_plan(**CONTESTED, probing={"seeds": seeds, "seed": 5}), PRICES, World(seed=3, lottery=0.5), facts=FACTS
        )
        for seeds in (1, 3)
    )
    assert set(seeds_of(one, 400)) == {5}
    assert set(seeds_of(three, 400)) > {5} and max(seeds_of(three, 400)) <= 7
    trials = [(t.name, t.seed) for r in three.records for t in r.spec.trials]
    assert len(trials) == len(set(trials)), "the same seed twice"


def test_repeats_are_worth_nothing_where_seeds_hardly_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "TRAINING_SD", 0.0)
    monkeypatch.setattr(expected_value, "POINTS_FOR_EXHAUSTIVE", 0.1)
    done = drive(make_plan(**CONTESTED, probing={"seeds": 8}), PRICES, World(seed=3), facts=FACTS)
    assert set(seeds_of(done, 400)) == {0}


@pytest.mark.parametrize("seed", range(4))
def test_one_bad_seed_closes_no_candidate(seed: int) -> None:
    """The only training failed outright; its kind is the best by far, and is looked at once more and found."""
    world = World(seed, overrides={("small", "LoRA"): 0.95, ("small", "InContext"): 0.6}, unlucky={(64, 0): -4.0})
    done = drive(make_plan(**SMALL), PRICES, world, facts=FACTS)
    trained = [(t.fidelity.training_examples, r) for r in done.records for t in r.spec.trials if t.strategy == "LoRA"]
    assert trained[0][0] == 64, "the failed one was measured"
    assert len(trained) > 1 and done.last.status.recommendation is not None
    assert done.last.status.recommendation.strategy == "lora"
    halving = drive(make_plan(**SMALL, probing={"designer": "SuccessiveHalving"}), PRICES, world, facts=FACTS)
    assert max(sizes(halving.records)) == 64, "which a rule without forecasts gives up"


def test_a_second_look_says_why_and_is_the_last() -> None:
    """Training is worthless here and looks it, twice: there is no third."""
    world = World(3, overrides={("small", "LoRA"): 0.02, ("small", "InContext"): 0.6})
    done = drive(make_plan(**SMALL), PRICES, world, facts=FACTS)
    trained = [t for r in done.records for t in r.spec.trials if t.strategy == "LoRA"]
    assert len(trained) == 2
    why = [request.reason for step in done.steps for request in step.start]
    assert any("the only training of small may have failed, whatever its configuration is worth" in w for w in why)


def test_probes_that_run_change_what_is_asked_next_as_if_they_had_been_asked_now() -> None:
    """Whether two probes start in one step or, the first already running, in two: the second is the same."""
    plan = make_plan(**(LADDER | {"models": [model("small"), model("encoder", "Encoder")]}), probing={"parallelism": 2})
    both = advance(plan, [], PRICES, FACTS).start
    assert len(both) == 2
    first = both[0]
    flying = ProbeRecord(first.name, first.spec, ProbeState.RUNNING, 1, Decimal(0), first.reservation, 0.0, None)
    (second,) = advance(plan, [flying], PRICES, FACTS).start
    assert second.spec.to_wire() == both[1].spec.to_wire() and second.reason == both[1].reason


def test_the_price_of_a_probe_counts() -> None:
    """Of two models alike the one that costs a sixtieth is asked first, and a tenth of the data before all of it."""
    models = [model("a-dear", parameters=60 * 134_515_008), model("b-cheap")]
    start = advance(make_plan(**(LADDER | {"models": models})), [], PRICES, FACTS).start
    assert start[0].spec.model.name == "b-cheap"
    assert all(t.fidelity.training_examples < 400 for t in start[0].spec.trials)


@pytest.mark.parametrize("parallelism", [1, 2, 3])
def test_as_many_probes_start_as_may_run_each_on_a_model_of_its_own(parallelism: int) -> None:
    models = [model(name) for name in ("one", "two", "three")]
    start = advance(
        make_plan(**(LADDER | {"models": models}), probing={"parallelism": parallelism}), [], PRICES, FACTS
    ).start
    assert len({r.spec.model.name for r in start}) == len(start) == parallelism


def test_a_model_that_the_budget_does_not_reserve_for_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dear model would be asked first if price were nothing; its worst case does not fit, so another is asked."""
    monkeypatch.setattr(_Search, "_rate", lambda self, o, load: o.worth.points * (1e3 if o.model == "dear" else 1.0))
    models = [model("dear", parameters=20 * 134_515_008), model("cheap")]
    poor = LADDER | {"models": models, "budget": {"maxProbeCost": "0.01"}}
    assert [r.spec.model.name for r in advance(make_plan(**poor), [], PRICES, FACTS).start] == ["cheap"]
    rich = LADDER | {"models": models}
    assert next(r.spec.model.name for r in advance(make_plan(**rich), [], PRICES, FACTS).start) == "dear"


class Family(World):
    """Items have a difficulty of their own: who is better solves what the others solve, and more."""

    def measure(self, spec: ProbeSpec, trial: Trial) -> TrialResult:
        result = super().measure(spec, trial)
        skill = 0.35 + 0.12 * np.log2((spec.model.facts or ModelFacts(parameters=1)).parameters / 1e8)
        right = np.linspace(0, 1, result.items) < skill
        bits = base64.b64encode(np.packbits(right)).decode()
        return result.model_copy(update={"bits": bits, "score": Decimal(int(right.sum())) / result.items})


def test_a_large_model_is_answered_from_its_siblings_without_being_loaded() -> None:
    """Two small siblings were measured by an earlier plan; the large one is dear to load, and its forecast is good enough."""
    sizes = {"small": 10**8, "middle": 4 * 10**8, "large": 16 * 10**8}
    members = [model(name, parameters=size) | {"family": "f"} for name, size in sizes.items()]
    changes = LADDER | {"strategies": [{"name": "zero-shot", "type": "ZeroShot"}]}
    before = drive(make_plan(**(changes | {"models": members[:2]})), PRICES, Family(), facts=FACTS).records
    assert {r.spec.model.name for r in before} == {"small", "middle"}
    step = advance(make_plan(**(changes | {"models": members})), before, PRICES, FACTS)
    answer = step.status.recommendation
    assert not step.start and step.finished and answer is not None and answer.model == "large"
    assert answer.message is not None and "forecast from its smaller siblings small and middle" in answer.message
    alone = [m | {"family": m["name"]} for m in members]
    unknown = advance(make_plan(**(changes | {"models": alone})), before, PRICES, FACTS)
    other = unknown.status.recommendation
    assert other is not None and other.model == "middle", "a stranger is not answered for by others"
