"""Expansion counts before it builds, and every refusal says where, what was found and what to write."""

from __future__ import annotations

import time

import pytest

from orrery.planning.candidates import InvalidPlan, expand
from tests.unit.planning.world import make_plan, model

pytestmark = pytest.mark.unit


def lora(*axes: tuple[str, list[str | int]]) -> list[dict[str, object]]:
    return [{"name": "lora", "type": "LoRA", "grid": [{"name": n, "values": v} for n, v in axes]}]


def test_product_of_models_strategies_grids_and_accelerators() -> None:
    plan = make_plan(
        strategies=lora(("learningRate", ["1e-4", "1e-3"]), ("rank", [4, 8, 16]), ("epochs", [1])),
        accelerators=[{"name": "cpu"}, {"name": "l4"}],
    )
    space = expand(plan.spec)
    assert len(space) == 2 * 2 * 3 * 2
    assert len({space.label(i) for i in range(len(space))}) == len(space)
    assert space.label(0) == "small/lora(learningRate=0.0001,epochs=1,rank=4,dataPercent=100)@cpu"
    for g in range(len(space.groups)):
        for a in range(2):
            rows = range(len(space))[space.rows(g, a)]
            assert {(int(space.group[i]), int(space.accelerator[i])) for i in rows} == {(g, a)}
            assert [int(space.configuration[i]) for i in rows] == list(range(space.groups[g].size))


def test_exclusions_are_left_out() -> None:
    plan = make_plan(exclude=[{"model": "small", "strategy": "lora"}])
    assert {(g.model.name, g.strategy.name) for g in expand(plan.spec).groups}.isdisjoint({("small", "lora")})


@pytest.mark.parametrize(
    ("strategies", "sentence"),
    [
        (
            [{"name": "l", "type": "Lora"}],
            "spec.strategies[l].type: 'Lora' is no installed strategy: write one of "
            "FineTuneThenInContext, FullFineTuning, InContext, LoRA, QLoRA, ZeroShot",
        ),
        (lora(("rnk", [8])), "did you mean 'rank'?"),
        (lora(("rank", [0])), "spec.strategies[lora].grid[rank].values is '0': write a number of at least 1"),
        (lora(("epochs", ["1.5"])), "spec.strategies[lora].grid[epochs].values is '1.5': write a whole number"),
        (lora(("learningRate", ["nan"])), "is 'nan': write a finite number"),
        (lora(("learningRate", ["fast"])), "is 'fast': write a number"),
        (
            lora(("learningRate", ["2e-4", "0.0002"])),
            "spec.strategies[lora].grid[learningRate].values holds 0.0002 twice: write every value once",
        ),
        (
            [{"name": "i", "type": "InContext", "grid": [{"name": "retriever", "values": ["bm26"]}]}],
            "is 'bm26': write one of random, bm25, dense",
        ),
    ],
)
def test_refusals_say_what_to_write(strategies: list[dict[str, object]], sentence: str) -> None:
    with pytest.raises(InvalidPlan) as refused:
        expand(make_plan(strategies=strategies).spec)
    assert sentence in str(refused.value)


def test_every_fault_of_the_methods_is_told_at_once() -> None:
    strategies = [
        {"name": "a", "type": "Lora"},
        {
            "name": "b",
            "type": "LoRA",
            "grid": [{"name": "rnk", "values": [8]}, {"name": "rank", "values": [0, 4, "x"]}],
        },
        {"name": "c", "type": "Prayer"},
    ]
    plan = make_plan(strategies=strategies, probing={"designer": "Dice", "predictor": "Linear"})
    with pytest.raises(InvalidPlan) as refused:
        expand(plan.spec)
    places = [sentence.split(" is ")[0].split(":")[0] for sentence in refused.value.sentences]
    assert places == [
        "spec.probing.designer",
        "spec.probing.predictor",
        "spec.strategies[a].type",
        "spec.strategies[b].grid names the parameter 'rnk', which LoRA does not have",
        "spec.strategies[b].grid[rank].values",
        "spec.strategies[b].grid[rank].values",
        "spec.strategies[c].type",
    ]
    assert str(refused.value) == "; ".join(refused.value.sentences)


def test_ten_million_candidates_are_counted_not_built() -> None:
    axes = [
        ("learningRate", [f"{i}e-6" for i in range(1, 65)]),
        ("epochs", list(range(1, 65))),
        ("rank", list(range(1, 65))),
        ("dataPercent", list(range(1, 41))),
    ]
    started = time.process_time()
    with pytest.raises(InvalidPlan, match="expands to 10,485,760 candidates") as refused:
        expand(make_plan(strategies=lora(*axes), models=[model("small")]).spec)
    assert time.process_time() - started < 1.0
    assert "'lora' (64 learningRate x 64 epochs x 64 rank x 40 dataPercent)" in str(refused.value)
    assert "write fewer values" in str(refused.value)


def test_excluding_everything_is_refused() -> None:
    plan = make_plan(models=[model("small")], strategies=lora(), exclude=[{"model": "small", "strategy": "lora"}])
    with pytest.raises(InvalidPlan, match="leaves no pair"):
        expand(plan.spec)


def test_unknown_designers_are_refused() -> None:
    with pytest.raises(InvalidPlan, match=r"spec\.probing\.designer is 'Dice': write ASHA or .* or Uniform, or leave"):
        expand(make_plan(probing={"designer": "Dice"}).spec)
