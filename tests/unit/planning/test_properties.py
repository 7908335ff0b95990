"""What may not change an answer: an accelerator that nobody would take, the order of a set, and a price of another thing."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.pricelist import PriceList
from orrery.planning.advance import advance
from orrery.planning.types import ProbeRecord
from tests.unit.planning.plans import tiny
from tests.unit.planning.world import World, drive, make_prices

pytestmark = pytest.mark.unit

GOALS: dict[str, dict[str, Any]] = {
    "quality": {"goal": "MaximizeQuality"},
    "cost": {"goal": "MinimizeCost", "minQuality": "0.3"},
    "weighted": {"goal": "Weighted", "pointValue": "0.5"},
}
GOAL = st.sampled_from(sorted(GOALS))
CENTS = st.integers(1, 100_000)


@cache
def measured() -> tuple[ProbeRecord, ...]:
    """What a plan has measured at its end, on a CPU."""
    return tuple(drive(tiny(objective=GOALS["quality"]), make_prices(), World(seed=1)).records)


def prices_of(**cents: int) -> PriceList:
    return make_prices(**{name: f"{c / 100:.2f}" for name, c in cents.items()})


@settings(max_examples=6, deadline=None)
@given(GOAL, CENTS, st.integers(1, 100))
def test_an_accelerator_that_nobody_would_take_changes_nothing(goal: str, dear: int, cpu: int) -> None:
    """An L4 is some hundred times as fast as a CPU: from 500 USD an hour on its every candidate costs more."""
    prices = prices_of(cpu=cpu, l4=50_000 + dear)
    alone, beside = (
        advance(tiny(objective=GOALS[goal], accelerators=[{"name": n} for n in names]), measured(), prices)
        for names in (["cpu"], ["cpu", "l4"])
    )
    dominated = [r for r in beside.rows if r.accelerator == "l4"]
    assert len(dominated) == len(alone.rows)
    for own, twin in zip(alone.rows, dominated, strict=True):
        assert own.total_cost is not None and twin.total_cost is not None
        assert own.total_cost.median < twin.total_cost.median and own.quality == twin.quality
    assert alone.status.recommendation is not None
    assert beside.status.recommendation == alone.status.recommendation
    assert beside.status.frontier == alone.status.frontier


@settings(max_examples=6, deadline=None)
@given(GOAL, CENTS, CENTS, st.integers(1, 10_000))
def test_a_higher_price_makes_nothing_more_attractive(goal: str, cpu: int, l4: int, more: int) -> None:
    plan = tiny(objective=GOALS[goal] | {"maxTotalCost": "20"}, accelerators=[{"name": "cpu"}, {"name": "l4"}])
    before = advance(plan, measured(), prices_of(cpu=cpu, l4=l4))
    after = advance(plan, measured(), prices_of(cpu=cpu, l4=l4 + more))
    for then, now in zip(before.rows, after.rows, strict=True):
        assert then.total_cost is not None and now.total_cost is not None and then.quality == now.quality
        if then.accelerator == "l4":
            assert now.total_cost.median >= then.total_cost.median
            assert now.feasible_probability <= then.feasible_probability
            assert now.status != "Recommended" or then.status == "Recommended"
        else:
            assert (now.total_cost, now.feasible_probability) == (then.total_cost, then.feasible_probability)
            assert now.status == "Recommended" or then.status != "Recommended"


TOLD = "import pickle, sys; from orrery.planning.advance import advance; print(advance(*pickle.load(sys.stdin.buffer)))"


@pytest.mark.process
def test_two_processes_write_the_same_bytes() -> None:
    """The order of sets of strings differs between processes, unless PYTHONHASHSEED fixes it."""
    plan = tiny(objective=GOALS["weighted"], accelerators=[{"name": "cpu"}, {"name": "l4"}])
    asked = plan, measured()[:1], prices_of(cpu=5, l4=80)
    step = advance(*asked)
    assert step.start and step.status.recommendation is not None, "a step in the middle, with evidence"
    told = subprocess.run(
        [sys.executable, "-c", TOLD],
        input=pickle.dumps(asked),
        env=os.environ | {"PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"},
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert told.stdout.decode().strip() == str(step)
