"""What a trial on one model is worth for the others: small siblings foretell large ones, and proxies go together."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from orrery.api.models import ModelFacts
from orrery.api.probe import Method, ProbeSpec, Trial, TrialResult
from orrery.planning.advance import _assess
from orrery.planning.designers.expected_value import Valued, _Search
from orrery.planning.designers.scene import Scene
from orrery.planning.reservation import Purse
from orrery.planning.types import Facts, ProbeRecord
from tests.unit.planning.world import World, drive, make_plan, make_prices, model

pytestmark = pytest.mark.unit

PRICES = make_prices()
FACTS = Facts(task=World().task_facts)
SIZES = {"small": 10**8, "middle": 3 * 10**8, "large": 24 * 10**8}


class Family(World):
    """Items have a difficulty of their own: who is larger solves what the others solve, and more."""

    def measure(self, spec: ProbeSpec, trial: Trial) -> TrialResult:
        result = super().measure(spec, trial)
        skill = 0.35 + 0.1 * np.log2((spec.model.facts or ModelFacts(parameters=1)).parameters / 1e8)
        right = np.linspace(0, 1, result.items) < skill
        bits = base64.b64encode(np.packbits(right)).decode()
        return result.model_copy(update={"bits": bits, "score": Decimal(int(right.sum())) / result.items})


def plan(names: Sequence[str], related: bool = True, **changes: Any) -> Any:
    models = [model(n, parameters=SIZES[n]) | {"family": "f" if related else n} for n in names]
    base = {"strategies": [{"name": "zero-shot", "type": "ZeroShot"}], "objective": {"goal": "MaximizeQuality"}}
    return make_plan(models=models, **(base | changes))


def options(of: Any, records: Sequence[ProbeRecord] = ()) -> list[Valued]:
    """Everything that could be asked, with its value."""
    situation, groups, clock, prices = _assess(of.spec, list(records), PRICES, FACTS)
    scene = Scene(
        of.spec,
        situation.space,
        situation.known,
        groups,
        clock,
        prices,
        situation.columns,
        situation.decision,
        situation.exhaustive.cost,
        0.0,
    )
    return _Search(scene, Purse.of(of.spec, []))._options(
        situation.columns, situation.decision, {m.name for m in of.spec.models}
    )


def points(of: Any, name: str, records: Sequence[ProbeRecord] = (), method: Method = Method.DIRECT) -> float:
    """Value of the best trial by a method on a model."""
    found = [
        o.worth.points for o in options(of, records) if o.model == name and o.option.trial.fidelity.method is method
    ]
    return max(found, default=0.0)


def test_a_small_siblings_probe_is_worth_what_it_tells_of_the_large_one() -> None:
    names = ["small", "middle", "large"]
    strangers, family = plan(names, related=False), plan(names)
    assert points(family, "small") > 1.03 * points(strangers, "small")
    assert points(family, "large") == pytest.approx(points(strangers, "large")), "nobody is larger"


def test_the_second_sibling_is_worth_more_than_the_first_and_without_a_second_there_is_nothing() -> None:
    names = ["small", "middle", "large"]
    first = drive(plan(["small"]), PRICES, Family(), facts=FACTS).records
    told = {related: points(plan(names, related), "middle", first) for related in (False, True)}
    before = {related: points(plan(names, related), "middle") for related in (False, True)}
    assert told[True] - told[False] > before[True] - before[False] > 0
    two = ["small", "large"]
    assert points(plan(two), "small") == pytest.approx(points(plan(two, related=False), "small"))


def test_siblings_are_measured_in_the_large_ones_stead() -> None:
    """Nobody measured anything: the plan asks the small ones, in parallel, and takes the large one as foretold."""
    done = drive(plan(list(SIZES), probing={"parallelism": 2}), PRICES, Family(), facts=FACTS)
    assert {r.spec.model.name for r in done.records} == {"small", "middle"}
    answer = done.last.status.recommendation
    assert answer is not None and answer.model == "large" and not answer.measured


def test_the_first_proxy_of_a_task_is_worth_something_for_the_other_models() -> None:
    strategies = {"strategies": [{"name": "zero-shot", "type": "ZeroShot"}, {"name": "lora", "type": "LoRA"}]}
    alone, both = plan(["small"], **strategies), plan(["small", "large"], related=False, **strategies)
    assert points(both, "small", method=Method.PROXY) > 0
    (lonely,) = [o for o in options(alone) if o.option.trial.fidelity.method is Method.PROXY]
    (helping,) = [o for o in options(both) if o.model == "small" and o.option.trial.fidelity.method is Method.PROXY]
    assert helping.worth.clarity > 0.75 * lonely.worth.clarity, (
        "half as much for each of twice as many, but for the rest"
    )


def test_a_proxy_is_asked_once_a_model_and_narrows_the_others() -> None:
    strategies = {
        "strategies": [
            {"name": "zero-shot", "type": "ZeroShot"},
            {"name": "lora", "type": "LoRA"},
            {"name": "full", "type": "FullFineTuning"},
        ]
    }
    one = drive(plan(["small"], **strategies), PRICES, World(seed=2), facts=FACTS).records
    proxies = [t for r in one for t in r.spec.trials if t.fidelity.method is Method.PROXY]
    assert len(proxies) == 1
    both = plan(["small", "large"], related=False, **strategies)
    told, blind = (_assess(both.spec, records, PRICES, FACTS)[0].columns.quality.sd for records in (list(one), []))
    large = [i for i, g in enumerate(_assess(both.spec, [], PRICES, FACTS)[0].space.group) if g >= 3]
    trained = large[1:]
    assert (told[trained] < 0.8 * blind[trained]).all(), "another model's proxy says what the task lets anyone learn"
